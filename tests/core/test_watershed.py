"""The watershed by shape, in bands and groups: nothing depends on either."""

import numpy as np
import pytest
from drawing import discs
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from deepsplit_core import bands, watershed
from deepsplit_core.config import SplittingConfig
from deepsplit_core.outlines import borders
from deepsplit_core.splitting import label_segments
from deepsplit_core.watershed import cut_short_borders, distance_inside

masks = arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def noise(seed, shape=(96, 96), period=3):
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), period)


@given(masks)
def test_distance_inside_is_that_of_the_whole_image(mask):
    segments = label_segments(np.kron(mask, np.ones((7, 9))) > 0)
    if not segments.all():
        expected = ndimage.distance_transform_edt(segments > 0).astype(np.float32)
        assert np.array_equal(distance_inside(segments), expected)


@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (300, 200)])
def test_without_background_all_distances_are_the_same_and_there_is_one_cell(shape):
    segments = np.ones(shape, np.int32)
    distance = distance_inside(segments)
    assert distance.min() == distance.max() > 0
    assert cut_short_borders(segments, SplittingConfig(longest_cut=50, neck=0.9)) == 0
    assert np.unique(segments).size == 1


def test_every_cut_is_between_two_cells_that_were_one_segment():
    """Also where a third region joins the two sides of a short border again: then it is no cut."""
    n_cuts = 0
    for seed in range(40):
        segments = label_segments(noise(seed) > 0.02)
        config = SplittingConfig(longest_cut=7, neck=0.9, seed_distance=4, smallest_cell=1)
        labels = segments.copy()
        n_cuts_here = cut_short_borders(labels, config)
        assert n_cuts_here == len(borders(labels).pairs)
        assert np.array_equal(labels > 0, segments > 0)
        for number in np.unique(labels[labels > 0]):
            assert np.unique(segments[labels == number]).size == 1
        n_cuts += n_cuts_here
    assert n_cuts > 40


@pytest.mark.parametrize("threshold", [0.02, -0.03, -1.0])  # clumps, a network of them, one segment without a gap
@pytest.mark.parametrize(("n_rows", "share"), [(1, 0.5), (7, 0.9), (40, 0.5)])
@pytest.mark.parametrize("scale", [1, 3])  # of three times as large ones, blocks of two pixels are looked at
def test_bands_change_nothing(monkeypatch, threshold, n_rows, share, scale):
    config = SplittingConfig(longest_cut=9 * scale, neck=0.9, seed_distance=4 * scale, smallest_cell=4)
    segments = label_segments(noise(1, (150 * scale, 90 * scale), 3 * scale) > threshold / scale)
    whole, banded = segments.copy(), segments.copy()
    n_cuts = cut_short_borders(whole, config)
    monkeypatch.setattr(bands, "BAND_PIXELS", n_rows * 90)
    monkeypatch.setattr(watershed, "BAND_ROWS", 1)
    monkeypatch.setattr(watershed, "DEPTH", 0)  # deep segments need more, and get it
    monkeypatch.setattr(watershed, "SHARE", share)
    assert cut_short_borders(banded, config) == n_cuts
    assert np.array_equal(whole, banded)
    assert n_cuts > 10 or threshold < -0.5


@given(masks, st.integers(1, 4), st.floats(1, 60))
def test_seeds_lie_in_their_segments(mask, n, seed_distance):
    segments = label_segments(np.kron(mask, np.ones((n, n))) > 0)
    seeds = watershed._find_seeds(segments, seed_distance)
    assert np.array_equal(segments.ravel()[seeds.pixels], seeds.segments)
    assert seeds.segments.all()


@given(masks, st.integers(2, 5))
def test_a_block_is_of_the_segment_that_fills_it(mask, side):
    segments = label_segments(mask)
    blocks = watershed._blocks(segments, side)
    assert blocks.shape == (segments.shape[0] // side, segments.shape[1] // side)
    for (y, x), block in np.ndenumerate(blocks):
        numbers = np.unique(segments[y * side : (y + 1) * side, x * side : (x + 1) * side])
        assert block == (numbers[0] if numbers.size == 1 else 0)


@pytest.mark.parametrize("radius", [12, 24, 72])
@pytest.mark.parametrize("degrees", [0, 30, 45])
def test_pairs_of_any_size_are_cut_alike(radius, degrees):
    """However many pixels are one block for it."""
    dy, dx = (0.8 * radius * part for part in (np.sin(np.radians(degrees)), np.cos(np.radians(degrees))))
    middle = 2.2 * radius
    segments = label_segments(
        discs((round(2 * middle),) * 2, [(middle + s * dy, middle + s * dx, radius) for s in (-1, 1)]) > 0
    )
    config = SplittingConfig(longest_cut=1.4 * radius, neck=0.9, seed_distance=0.6 * radius, smallest_cell=radius)
    assert cut_short_borders(segments, config) == 1
    areas = np.bincount(segments.ravel())[1:]
    assert np.ptp(areas[areas > 0]) < 0.1 * areas.max()


def test_the_distance_of_a_deep_segment_is_found_once(monkeypatch):
    """Not once more for every band."""
    seen = []
    monkeypatch.setattr(watershed, "BAND_ROWS", 1)
    monkeypatch.setattr(bands, "BAND_PIXELS", 10 * 200)
    monkeypatch.setattr(
        watershed, "distance_inside", lambda labels: seen.append(labels.shape[0]) or distance_inside(labels)
    )
    deep = np.zeros((200, 200), np.int32)
    deep[1:-1, 1:-1] = 1
    cut_short_borders(deep, SplittingConfig(seed_distance=4))
    assert seen.count(200) <= 2  # the other one is that of the flood, if there is one
    assert sum(seen) < 20 * 200


@pytest.mark.parametrize("shape", [(40, 1), (3, 400)])
def test_an_image_narrower_than_a_block(shape):
    labels = np.ones(shape, np.int32)
    labels[0, 0] = 0
    assert cut_short_borders(labels, SplittingConfig(seed_distance=30)) == 0


def test_the_distance_around_a_band_is_that_of_the_whole_image():
    labels = np.zeros((120, 40), np.int32)
    labels[:, 5:35] = 1
    labels[30:100:20, 20] = 0  # a hole in every twentieth row
    whole = distance_inside(labels)
    for start in range(0, 118, 2):
        for reach in (4, 9):
            rows, first = slice(start, start + 2), max(0, start - reach)
            distance, core = watershed._distance_around(labels, rows, reach, 0, lambda: whole)
            around = slice(core.start - (start - first), core.stop + reach)
            assert np.array_equal(distance[around], whole[first : start + 2 + reach])


@pytest.mark.parametrize("block", [8, 50])
def test_groups_change_no_cell(monkeypatch, block):
    pairs = [(24 + 60 * i, 24 + 70 * j + d, 11) for i in range(4) for j in range(3) for d in (0, 19)]
    segments = label_segments(discs((280, 240), pairs) > 0)
    whole, grouped = segments.copy(), segments.copy()
    config = SplittingConfig(longest_cut=14, seed_distance=6)
    assert cut_short_borders(whole, config) == 12
    monkeypatch.setattr(watershed, "BLOCK", block)
    assert cut_short_borders(grouped, config) == 12
    assert np.unique(grouped).size == np.unique(whole).size == 25
    assert np.unique(np.stack([whole.ravel(), grouped.ravel()]), axis=1).shape[1] == 25  # the same cells


def test_groups_whose_boxes_overlap(monkeypatch):
    """Pairs on a slant beside each other: the box of each group holds pieces of the one before."""
    monkeypatch.setattr(watershed, "BLOCK", 8)
    pairs = [(y + d, x + d, 11) for y, x in ((14, 14), (48, 14), (14, 48)) for d in (0, 14)]
    labels = label_segments(discs((94, 94), pairs) > 0)
    assert cut_short_borders(labels, SplittingConfig(longest_cut=16, seed_distance=6)) == 3
    assert np.unique(labels).size == 7


def test_a_seed_of_several_pixels_across_two_bands_is_one(monkeypatch):
    """A square of an even side has four pixels of the greatest depth."""
    square = np.zeros((30, 30), np.int32)
    square[5:25, 5:25] = 1
    monkeypatch.setattr(watershed, "BAND_ROWS", 1)
    for pixels in (4_000_000, 15 * 30, 30):
        monkeypatch.setattr(bands, "BAND_PIXELS", pixels)
        seeds = watershed._find_seeds(square, 6)
        assert seeds.pixels.size == 4
        assert np.unique(seeds.numbers).tolist() == [1]


def test_seeds_at_both_ends_of_a_row_are_two():
    """Flat indices of the last pixel of a row and the first of the next are neighbours, the pixels are not."""
    assert watershed._connected(np.array([4, 5]), np.array([1, 1]), 5).tolist() == [1, 2]
    assert watershed._connected(np.array([3, 4, 9, 12]), np.ones(4), 5).tolist() == [1, 1, 1, 2]


def test_seeds_that_meet_at_a_corner_are_one_unless_their_segments_are_two():
    corners, two = np.array([2, 6, 12, 18]), np.array([1, 1, 1, 2])  # one to the left, two to the right, of 5 columns
    assert watershed._connected(corners, np.ones(4), 5).tolist() == [1, 1, 1, 1]
    assert watershed._connected(corners, two, 5).tolist() == [1, 1, 1, 2]


@pytest.mark.parametrize("degrees", [0, 30, 44.5, 45, 135])
@pytest.mark.parametrize(("width", "length"), [(16, 128), (28, 112), (30, 120)])
def test_a_long_cell_stays_whole_at_any_angle(degrees, width, length):
    """At 45 degrees its ridge is a diagonal line of pixels, which are one seed."""
    y, x = np.mgrid[:201, :201] - 100
    angle = np.deg2rad(degrees)
    along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    beyond = np.maximum(np.abs(along) - (length - width) / 2, 0)  # its ends are round
    labels = (np.hypot(beyond, across) < width / 2).astype(np.int32)
    assert cut_short_borders(labels, SplittingConfig(longest_cut=28.8, neck=0.6, seed_distance=10.8)) == 0
    assert np.unique(labels).size == 2


def test_no_segments_no_cuts():
    labels = np.zeros((20, 20), np.int32)
    assert cut_short_borders(labels, SplittingConfig()) == 0
    assert not labels.any()


def test_deep_segment_above_a_band(monkeypatch):
    """A band at the foot of a large disc needs its middle, far outside of the band, to know its own seeds."""
    monkeypatch.setattr(bands, "BAND_PIXELS", 10 * 300)
    monkeypatch.setattr(watershed, "BAND_ROWS", 1)
    labels = discs((300, 300), [(150, 150, 140)])
    assert cut_short_borders(labels, SplittingConfig(seed_distance=6, longest_cut=100)) == 0
