"""Borders, outlines and what touches the border of an image or a mask: counted by hand on drawn labels."""

import numpy as np
import pytest
from drawing import contact, picture
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deepsplit_core.outlines import (
    border_pixels,
    borders,
    count_sides,
    touches_image_border,
    touches_mask_border,
)

any_labels = arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 4))


def test_slanted_border_has_its_true_length():
    # A staircase of 3 pixel sides down and 4 across: the line that it stands for is 5 long.
    pairs, lengths, spans, n_sides = borders(picture("1111112 1111222 1122222"))
    assert pairs.tolist() == [[1, 2]]
    assert lengths == spans == pytest.approx([5])
    assert n_sides.tolist() == [7]


@pytest.mark.parametrize("turn", range(0, 90, 9))
@pytest.mark.parametrize("angle", [30, 60, 90, 120, 150, 180])
def test_a_border_that_bends_is_at_most_a_tenth_too_short(turn, angle):
    y, x = np.mgrid[-100:100, -100:100] + 0.5
    # Two legs of 90 pixels, with an angle between them.
    direction = np.degrees(np.arctan2(y, x)) - turn
    labels = np.where(np.hypot(y, x) < 90, np.where(direction % 360 < angle, 1, 2), 0)
    (length,) = borders(labels).lengths
    assert 0.9 * 180 < length < 1.01 * 180
    if angle == 180:
        assert length == pytest.approx(180, rel=0.01)


@pytest.mark.parametrize("radius", [5, 20, 80])
def test_a_border_around_a_cell(radius):
    y, x = np.mgrid[-100:100, -100:100] + 0.5
    _, (length,), (span,), (n_sides,) = borders(np.where(np.hypot(y, x) < radius, 1, 2))
    assert 0.9 < length / (2 * np.pi * radius) < 1
    assert span == pytest.approx(np.hypot(n_sides / 2, n_sides / 2))  # it turns back


def test_pairs_of_many_labels_are_told_apart():
    labels = np.arange(1, 90_001, dtype=np.int32).reshape(300, 300)  # the square of their number has 33 bits
    pairs, _, _, n_sides = borders(labels)
    assert len(pairs) == 2 * 300 * 299 and (n_sides == 1).all()
    assert np.isin(pairs[:, 1] - pairs[:, 0], (1, 300)).all()


def test_each_pair_of_labels_has_one_border():
    pairs, lengths, spans, n_sides = borders(picture("1122 1122 33.. 33.."))
    assert pairs.tolist() == [[1, 2], [1, 3]]
    assert lengths.tolist() == spans.tolist() == n_sides.tolist() == [2, 2]


@pytest.mark.parametrize("text", ["....", "11..22", "1. .2", "1"])
def test_labels_that_share_no_side_have_no_border(text):
    assert len(borders(picture(text)).pairs) == 0


def test_outlines_are_counted_in_pixel_sides():
    # A bar of three, an L of three pixels, and a ring with a hole: the hole's sides count.
    labels = picture("111.2. ....22 333... 3.3... 333...")
    assert count_sides(labels).tolist() == [0, 8, 8, 16]


def test_the_border_of_the_image_is_an_outline():
    assert count_sides(np.ones((3, 5), np.int32)).tolist() == [0, 16]


@pytest.mark.parametrize("edge", [np.s_[0, 2], np.s_[-1, 2], np.s_[2, 0], np.s_[2, -1]])
def test_each_edge_is_a_border_of_the_image(edge):
    labels = np.zeros((5, 5), np.int32)
    labels[edge], labels[2, 2] = 1, 2
    assert touches_image_border(labels)[1:].tolist() == [True, False]


def test_the_border_of_the_mask_is_where_it_has_a_side_in_common():
    labels = picture("11..22.3 11..22.3 ........ 44..6.5.")
    mask = np.ones(labels.shape, bool)
    mask[2, :2] = False  # below cell 1, above cell 4
    mask[1, 6] = False  # beside cells 2 and 3
    mask[2, 7] = False  # below cell 3, at a corner of cell 5
    mask[3, 4] = False  # all of cell 6
    assert touches_mask_border(labels, mask)[1:].tolist() == [True, True, True, True, False, False]
    assert not touches_mask_border(labels, np.ones_like(mask)).any()  # the image's border is none of the mask's


def test_border_pixels_are_those_on_either_side():
    labels = picture("11122. 11122. ....33")
    assert border_pixels(labels).astype(int).tolist() == picture("..11.. ..111. ....1.").tolist()


@given(any_labels)
def test_properties_of_any_labels(labels):
    pairs, lengths, spans, n_sides = borders(labels)
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert (n_sides / np.sqrt(2) - 1e-9 <= spans).all() and (spans <= lengths).all() and (lengths <= n_sides).all()
    assert np.array_equal(border_pixels(labels), contact(labels))
    shared = np.bincount(pairs.ravel(), np.repeat(n_sides, 2), minlength=labels.max() + 1)
    assert (shared[1:] <= count_sides(labels)[1:]).all()
