"""Probabilities become cells: every truth is drawn."""

import dataclasses

import numpy as np
import pytest
from drawing import as_sets, contact, disc, discs, grid_of_pairs, perfect_probabilities, picture
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deepsplit_core import bands
from deepsplit_core.config import SplittingConfig
from deepsplit_core.outlines import borders
from deepsplit_core.splitting import (
    consecutive,
    drop_small,
    give_back,
    label_segments,
    split,
)

BARE = SplittingConfig(smallest_cell=0, largest_hole=0, watershed=False, contact_to_cells=False)


def probabilities_of(mask, contact_mask=None):
    contact_mask = np.zeros_like(mask) if contact_mask is None else contact_mask
    return np.stack([mask, contact_mask]).astype(np.float32)


def test_the_order_of_the_pixels_in_memory_does_not_matter():
    """A small piece between two cells is given to them with the contact on both of its sides."""
    probabilities = np.ones((2, 5, 9), np.float16)
    probabilities[1] = np.isin(np.arange(9), (3, 5))
    config = SplittingConfig(smallest_cell=8, smallest_share=1, watershed=False)
    turned = probabilities.transpose(0, 2, 1).copy().transpose(0, 2, 1)
    labels = split(turned, config).labels
    assert np.array_equal(labels, split(probabilities, config).labels)
    assert (labels > 0).all()


# Intersection and numbering


def test_cells_are_segmentation_and_not_separation():
    seg = np.array([[0.5, 0.49, 0.9, 0.9, 0.9]], np.float32)
    sep = np.array([[0.0, 0.00, 0.4, 0.5, 0.2]], np.float32)
    # 0.5 is foreground, 0.49 is not; a separation of 0.5 is contact, 0.4 is not.
    assert split(np.stack([seg, sep]), BARE).labels.tolist() == [[1, 0, 2, 0, 3]]


def test_thresholds_are_the_configs():
    seg = np.array([[0.3, 0.7]], np.float32)
    config = SplittingConfig(segmentation_threshold=0.7, smallest_cell=0)
    assert split(np.stack([seg, 0 * seg]), config).labels.tolist() == [[0, 1]]


def test_pixels_that_touch_at_a_corner_are_apart():
    assert label_segments(picture("1. .1") > 0).tolist() == [[1, 0], [0, 2]]


@pytest.mark.parametrize("band_pixels", [1, 100])
def test_cells_are_numbered_by_their_first_pixel_in_reading_order(monkeypatch, band_pixels):
    monkeypatch.setattr(bands, "BAND_PIXELS", band_pixels)
    labels = picture(
        """
        ..7..
        4.7.2
        4.7.2
        ..7..
        """
    )
    assert consecutive(labels).tolist() == picture("..1.. 2.1.3 2.1.3 ..1..").tolist()


def test_labels_are_int32():
    assert split(probabilities_of(np.eye(3)), BARE).labels.dtype == np.int32


# Holes


@pytest.mark.parametrize("contact_to_cells", [True, False])
def test_holes_that_contact_or_specks_kept_open_are_filled(contact_to_cells):
    truth = np.zeros((20, 41), np.int32)
    truth[2:18, 2:21], truth[2:18, 21:39] = 1, 2
    line = np.zeros(truth.shape, bool)
    line[2:18, 20] = line[9, 13:20] = True  # with a branch into the first cell
    truth[9, 20] = 2  # where it begins, only the second cell is a step away
    mask = truth > 0
    mask[8:11, 10:13] = False  # at its end: one piece of background with the whole line
    mask[8:11, 28:31] = False
    mask[9, 29] = True  # a second segment in a hole
    config = SplittingConfig(smallest_cell=5, largest_hole=12, watershed=False, contact_to_cells=contact_to_cells)
    found = split(probabilities_of(mask, line), config)
    assert np.array_equal(found.touching, truth)
    line[8:11, 10:13] = True
    assert np.array_equal(found.labels, truth if contact_to_cells else np.where(line, 0, truth))
    assert not found.small.any()


@pytest.mark.parametrize("x", range(27, 32))
def test_contact_that_was_filled_as_a_hole_moves_no_cut(x):
    mask, config = discs((40, 60), [(20, 18, 12), (20, 40, 12)]) > 0, SplittingConfig(longest_cut=14)
    dot = np.zeros(mask.shape, bool)
    dot[20, x] = True
    expected, found = split(probabilities_of(mask), config), split(probabilities_of(mask, dot), config)
    assert expected.n_cuts == found.n_cuts == 1
    assert np.array_equal(found.labels, expected.labels)


# Small segments


def test_segments_below_the_limit_are_dropped_and_those_at_it_stay():
    labels = picture("11.222.3 ...22..3 .......3")
    areas = np.bincount(labels.ravel())
    assert set(np.unique(drop_small(labels, areas, 3)).tolist()) == {0, 2, 3}
    assert set(np.unique(drop_small(labels, areas, 3.5)).tolist()) == {0, 2}
    assert not drop_small(labels, areas, 6).any()


SIZES = discs((60, 90), [(12, 12, 4), (12, 32, 4), (12, 52, 4), (12, 72, 2.3), (40, 12, 1.5), (40, 40, 4)])


@pytest.mark.parametrize(
    ("smallest_cell", "share", "n"),
    [
        (30, 0.25, 5),  # cells of 49 pixels: one of 21 is kept, one of 9 is not
        (30, 1, 4),  # the smallest cell alone counts
        (30, 0.1, 6),
        (10, 0.9, 5),  # it is no other limit
        (49, 0.25, 5),  # as large as the typical cell, which is no dust
        (60, 0.25, 0),  # nothing but dust
    ],
)
def test_of_small_cells_smaller_ones_are_kept(smallest_cell, share, n):
    config = SplittingConfig(smallest_cell=smallest_cell, smallest_share=share, watershed=False)
    assert split(probabilities_of(SIZES > 0), config).labels.max() == n


def test_cells_are_small_beside_the_one_in_which_most_pixels_lie():
    """A hundred specks beside a cell do not make it usual to be a speck."""
    mask = disc((60, 60), (30, 30), 12)
    mask[1::6, 1::6] = True
    config = SplittingConfig(smallest_cell=100, smallest_share=0.25, watershed=False)
    assert split(probabilities_of(mask), config).labels.max() == 1


# The watershed


def test_touching_discs_are_cut_along_their_short_border():
    truth = discs((40, 60), [(20, 18, 12), (20, 40, 12)])
    labels, n_cuts, *_ = split(probabilities_of(truth > 0), SplittingConfig(longest_cut=14))
    assert n_cuts == 1
    assert labels.max() == 2
    # The cut is where the drawing's border is, to a pixel on each side.
    assert np.count_nonzero(labels != truth) <= np.count_nonzero(contact(truth))


def test_long_inner_edge_is_no_cut():
    # Two discs that overlap by half: the waist is as wide as a cell.
    merged = disc((40, 60), (20, 22), 12) | disc((40, 60), (20, 36), 12)
    assert split(probabilities_of(merged), SplittingConfig(longest_cut=14)).labels.max() == 1


def test_border_at_the_limit_is_cut_and_above_it_is_not():
    # Two squares joined by a bridge of 5 x 1 pixels: the border between them is 5 pixels long.
    mask = np.zeros((21, 41), bool)
    mask[:, :19], mask[:, 20:], mask[8:13, 19] = True, True, True
    for longest_cut, n_cells in ((5, 2), (4.9, 1)):
        config = SplittingConfig(longest_cut=longest_cut, seed_distance=6)
        labels, n_cuts, *_ = split(probabilities_of(mask), config)
        assert (labels.max(), n_cuts) == (n_cells, n_cells - 1)


@pytest.mark.parametrize("degrees", [0, 10, 33, 45, 70, 90])
def test_long_cell_wider_than_the_longest_cut_is_not_cut(degrees):
    y, x = np.indices((200, 200)) - 100
    angle = np.deg2rad(degrees)
    along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    bar = (abs(along) <= 90) & (abs(across) <= 6)
    labels, n_cuts, *_ = split(probabilities_of(bar), SplittingConfig(longest_cut=8, seed_distance=6))
    assert (labels.max(), n_cuts) == (1, 0)


@pytest.mark.parametrize("degrees", range(0, 90, 5))
@pytest.mark.parametrize("width", [5, 7, 9])
def test_thin_cell_is_not_cut_although_its_borders_are_short(degrees, width):
    y, x = np.indices((100, 100)) - 49.6
    angle = np.deg2rad(degrees)
    along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    bar = (abs(along) <= 40) & (abs(across) <= width / 2)
    labels, n_cuts, *_ = split(probabilities_of(bar), SplittingConfig(longest_cut=20, seed_distance=5))
    assert (labels.max(), n_cuts) == (1, 0)


@pytest.mark.parametrize(("width", "neck", "n_cells"), [(19, 0.45, 1), (19, 0.55, 2), (13, 0.65, 1), (13, 0.75, 2)])
def test_a_cut_is_a_neck_of_the_narrower_piece(width, neck, n_cells):
    # A square of 19 pixels and one of 19 or 13, joined by a waist of 9: 0.47 or 0.69 of the narrower one.
    mask = np.zeros((21, 43), bool)
    mask[1:20, 1:20], mask[6:15, 20:23] = True, True
    mask[10 - width // 2 : 11 + width // 2, 23 : 23 + width] = True
    config = SplittingConfig(longest_cut=100, neck=neck, seed_distance=5)
    assert split(probabilities_of(mask), config).labels.max() == n_cells


@pytest.mark.parametrize("axes", [(30, 12), (25, 15), (30, 20)])
@pytest.mark.parametrize("degrees", [0, 10, 20, 30, 45, 60])
def test_ellipse_has_one_centre(axes, degrees):
    """The steps of its outline make many maxima of the distance: none of them is a cell of its own."""
    y, x = np.indices((80, 80)) - 39.7
    angle = np.deg2rad(degrees)
    along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    ellipse = (along / axes[0]) ** 2 + (across / axes[1]) ** 2 <= 1
    assert split(probabilities_of(ellipse), SplittingConfig(longest_cut=100)).n_cuts == 0


def test_watershed_can_be_switched_off():
    truth = discs((40, 60), [(20, 18, 12), (20, 40, 12)])
    labels, n_cuts, *_ = split(probabilities_of(truth > 0), SplittingConfig(longest_cut=14, watershed=False))
    assert (labels.max(), n_cuts) == (1, 0)


def test_no_piece_below_the_smallest_cell_is_cut_off():
    # A bump on a large disc, joined by a narrow neck.
    mask = disc((60, 70), (30, 24), 20) | disc((60, 70), (30, 51), 9)
    areas = np.bincount(split(probabilities_of(mask), SplittingConfig(longest_cut=12)).labels.ravel())[1:]
    assert areas.size == 2
    kept = split(probabilities_of(mask), SplittingConfig(longest_cut=12, smallest_cell=areas.min() + 1))
    assert (kept.labels.max(), kept.n_cuts) == (1, 0)


def test_chain_of_three_discs_has_two_cuts():
    truth = discs((40, 90), [(20, 18, 12), (20, 40, 12), (20, 62, 12)])
    labels, n_cuts, *_ = split(probabilities_of(truth > 0), SplittingConfig(longest_cut=14))
    assert (labels.max(), n_cuts) == (3, 2)


def test_watershed_leaves_single_cells_as_they_are():
    truth = discs((60, 90), [(15, 15, 10), (40, 60, 16), (12, 70, 4)])
    assert as_sets(split(probabilities_of(truth > 0), SplittingConfig()).labels) == as_sets(truth)


@pytest.mark.parametrize("n_quarters", [0, 1, 2, 3])
@pytest.mark.parametrize("flip", [False, True])
def test_count_does_not_depend_on_the_orientation(n_quarters, flip):
    circles, shape = grid_of_pairs(2, 3)
    mask = discs(shape, circles) > 0
    turned = np.rot90(mask[:, ::-1] if flip else mask, n_quarters)
    labels, n_cuts, *_ = split(probabilities_of(turned), SplittingConfig(longest_cut=12))
    assert (labels.max(), n_cuts) == (12, 6)


def test_lengths_follow_the_scale():
    """An image enlarged three times with settings scaled by three gives the same cells."""
    circles, shape = grid_of_pairs(2, 2)
    config = SplittingConfig(longest_cut=12, smallest_cell=40)
    small = split(probabilities_of(discs(shape, circles) > 0), config)
    larger = discs(tuple(3 * n for n in shape), [tuple(3 * v for v in circle) for circle in circles])
    large = split(probabilities_of(larger > 0), config.scaled(3))
    assert (small.labels.max(), small.n_cuts) == (large.labels.max(), large.n_cuts) == (8, 4)


# Contact pixels


def test_contact_pixels_go_back_so_that_cells_share_a_border():
    truth = discs((40, 60), [(20, 18, 12), (20, 40, 12)])
    labels = split(perfect_probabilities(truth), SplittingConfig()).labels
    assert as_sets(labels) == as_sets(truth)


def test_contact_pixels_stay_out_if_so_asked():
    truth = discs((40, 60), [(20, 18, 12), (20, 40, 12)])
    labels = split(perfect_probabilities(truth), SplittingConfig(contact_to_cells=False)).labels
    assert labels.max() == 2
    assert not labels[contact(truth)].any()


def test_wide_contact_is_divided_in_the_middle():
    row = picture("11.....22")
    assert give_back(row, row == 0).tolist()[0][:4] == [1, 1, 1, 1]
    assert give_back(row, row == 0).tolist()[0][5:] == [2, 2, 2, 2]


def test_contact_that_reaches_no_cell_stays_background():
    labels = picture("11...... 11...... ........ ......22")
    free = np.zeros(labels.shape, bool)
    free[0, 4:6] = True
    assert give_back(labels, free).tolist() == labels.tolist()


def test_giving_back_takes_no_pixel_from_a_cell():
    everywhere = np.ones((1, 5), bool)
    assert give_back(picture("221.1"), everywhere).tolist() == picture("22111").tolist()
    assert everywhere.all()  # the caller's array is not modified


def test_contact_without_cells_gives_none():
    everywhere = np.ones((9, 9), np.float32)
    assert not split(np.stack([everywhere, everywhere]), SplittingConfig()).labels.any()


masks = arrays(
    np.float32, st.tuples(st.just(2), st.integers(1, 12), st.integers(1, 12)), elements=st.sampled_from([0, 1])
)


@given(masks)
def test_properties_of_any_probabilities(probabilities):
    config = SplittingConfig(smallest_cell=3, largest_hole=0, longest_cut=3, seed_distance=2)
    before = probabilities.copy()
    labels, n_cuts, *_ = split(probabilities, config)
    assert np.array_equal(probabilities, before)  # the caller's array is not modified
    assert labels.shape == probabilities.shape[1:]
    assert not labels[probabilities[0] < 0.5].any()  # no pixel outside the foreground is invented
    values, areas = np.unique(labels[labels > 0], return_counts=True)
    assert values.tolist() == list(range(1, values.size + 1))
    assert (areas >= 3).all()
    for value in values:  # every cell is one piece
        assert label_segments(labels == value).max() == 1
    again = split(probabilities, config)
    assert np.array_equal(labels, again.labels) and n_cuts == again.n_cuts


@given(masks)
def test_contact_pixels_only_add_to_cells(probabilities):
    config = SplittingConfig(smallest_cell=2, largest_hole=0, watershed=False, contact_to_cells=False)
    without = split(probabilities, config).labels
    given_back = split(probabilities, SplittingConfig(**{**config.to_dict(), "contact_to_cells": True})).labels
    assert without.max() == given_back.max()
    kept = without > 0
    pairs = np.unique(np.stack([without[kept], given_back[kept]]), axis=1)
    assert pairs.shape[1] == without.max()  # each cell lies in one, and no two in the same
    # No contact pixel beside a cell is left over.
    left = (probabilities[0] >= 0.5) & (probabilities[1] >= 0.5) & (given_back == 0)
    for one, other in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        assert not (left[one] & (given_back[other] > 0)).any()
        assert not (left[other] & (given_back[one] > 0)).any()


# Sizes


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2)])
def test_tiny_images(shape):
    assert not split(np.zeros((2, *shape), np.float32), SplittingConfig()).labels.any()
    full = probabilities_of(np.ones(shape))
    assert split(full, SplittingConfig(smallest_cell=0)).labels.tolist() == np.ones(shape).tolist()


def test_more_than_65535_cells_keep_their_labels():
    mask = np.zeros((2, 800, 800), np.float32)
    mask[0, ::3, ::3] = 1  # one-pixel cells: 267 x 267 = 71,289
    labels = split(mask, SplittingConfig(smallest_cell=1)).labels
    assert labels.max() == 267**2 == np.unique(labels[labels > 0]).size
    assert labels[-2, -2] == 267**2


# What is kept beside the cells


def test_touching_has_the_contact_and_the_numbers_of_the_cells():
    truth = discs((40, 60), [(20, 18, 12), (20, 40, 12)])
    with_gap = split(perfect_probabilities(truth), SplittingConfig(contact_to_cells=False))
    inside = with_gap.labels > 0
    assert as_sets(with_gap.touching) == as_sets(truth)
    assert np.array_equal(with_gap.touching[inside], with_gap.labels[inside])
    without_gap = split(perfect_probabilities(truth), SplittingConfig())
    assert np.array_equal(without_gap.touching, without_gap.labels)


@given(arrays(np.uint8, (6, 7), elements=st.sampled_from([0, 1, 1, 2, 2, 2])), st.booleans())
def test_touching_does_not_depend_on_whether_contact_is_given_back(blocks, watershed):
    """Of background, cell and contact: small pieces of cell between others are given back as well."""
    blocks = np.kron(blocks, np.ones((3, 3), np.uint8))
    probabilities = probabilities_of(blocks > 0, blocks == 2)
    config = SplittingConfig(smallest_cell=12, smallest_share=1, watershed=watershed)
    with_gap = split(probabilities, dataclasses.replace(config, contact_to_cells=False)).touching
    assert as_sets(with_gap) == as_sets(split(probabilities, config).touching)


def test_small_segments_are_told_apart_from_cells():
    mask = picture("1111.2. 1111... .....33 .....33") > 0
    labels, _, _, small = split(probabilities_of(mask), SplittingConfig(smallest_cell=3, watershed=False))
    assert labels.tolist() == picture("1111... 1111... .....22 .....22").tolist()
    assert (small > 0).tolist() == (picture(".....1. ....... ....... .......") > 0).tolist()


def test_cuts_are_counted_as_pairs_of_cells():
    truth = discs((90, 90), [(20, 20, 12), (20, 42, 12), (42, 20, 12), (42, 42, 12)])
    labels, n_cuts, *_ = split(probabilities_of(truth > 0), SplittingConfig(longest_cut=14, largest_hole=0))
    assert labels.max() == 4
    assert n_cuts == len(borders(labels).pairs) == 4


def test_a_small_piece_between_cells_goes_back_with_the_contact_and_others_do_not():
    """Contact lines that part in two leave an island; without it, there would be a hole between touching cells."""
    segmentation, separation = np.zeros((30, 60)), np.zeros((30, 60))
    segmentation[5:25, 5:55] = 1
    separation[5:25, 28:32] = 1
    separation[13:16, 29:31] = 0  # the island
    separation[5:7, 29:31] = 0  # another, at the edge of the cells
    segmentation[1:3, 1:3] = 1  # debris
    config = SplittingConfig(smallest_cell=20, largest_hole=0, watershed=False)
    found = split(np.stack([segmentation, separation]), config)
    is_small = np.zeros((30, 60), bool)
    is_small[5:7, 29:31] = is_small[1:3, 1:3] = True
    assert np.array_equal(found.labels > 0, segmentation.astype(bool) & ~is_small)
    assert np.array_equal(found.small > 0, is_small)
    assert np.unique(found.labels).tolist() == [0, 1, 2]
    gaps = split(np.stack([segmentation, separation]), dataclasses.replace(config, contact_to_cells=False))
    assert not gaps.labels[13:16, 29:31].any()
    assert gaps.small[13:16, 29:31].all()
