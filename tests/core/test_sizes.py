"""How large cells are, and what scale follows from it."""

import numpy as np
import pytest
from drawing import discs, perfect_probabilities

from deepsplit_core.config import SplittingConfig
from deepsplit_core.sizes import brightest_window, estimated_scale, typical_diameter
from deepsplit_core.splitting import label_segments

SPLITTING = SplittingConfig(smallest_cell=5, largest_hole=10, longest_cut=4, seed_distance=3)
DISCS = discs((80, 80), [(20, 20, 16), (60, 58, 16)])


def test_equal_discs_have_their_own_diameter():
    assert typical_diameter(DISCS) == pytest.approx(32, rel=0.03)


def test_small_pieces_hardly_count():
    """A hundred pieces of four pixels beside two discs: most labels are pieces, most pixels are not."""
    labels = DISCS.copy()
    for number in range(100):
        y, x = 36 + 3 * (number // 25), 3 * (number % 25)
        labels[y : y + 2, x : x + 2] = 10 + number
    assert np.median(np.unique(labels[labels > 0], return_counts=True)[1]) == 4
    assert typical_diameter(labels) == pytest.approx(32, rel=0.03)


def test_no_cell_has_no_diameter():
    assert typical_diameter(np.zeros((5, 5), np.int32)) == 0


@pytest.mark.parametrize(("diameter", "scale"), [(8, 4), (16, 2), (24, 4 / 3), (30, 1), (36, 1), (42, 0.76), (64, 0.5)])
def test_scale_brings_cells_to_the_models_diameter_unless_they_are_near_it(diameter, scale):
    found = estimated_scale(perfect_probabilities(DISCS), SPLITTING, 1.0, diameter, is_one_size=True)
    assert found == pytest.approx(scale, rel=0.03)


@pytest.mark.parametrize(("diameter", "scale"), [(8, 4.0), (15, 32 / 15), (17, 1.0), (36, 1.0), (64, 1.0)])
def test_a_model_of_many_sizes_looks_again_at_what_is_more_than_twice_as_large(diameter, scale):
    found = estimated_scale(perfect_probabilities(DISCS), SPLITTING, 1.0, diameter, is_one_size=False)
    assert found == pytest.approx(scale, rel=0.03)


def test_clumps_that_the_watershed_cuts_are_not_taken_for_large_cells():
    mask = (discs((40, 100), [(20, 15 + 11 * k, 6) for k in range(7)]) > 0).astype(float)
    config = SplittingConfig(smallest_cell=5, longest_cut=8, seed_distance=4, neck=0.9)
    probabilities = np.stack([mask, np.zeros_like(mask)])
    assert typical_diameter(label_segments(mask > 0)) > 2 * 12
    assert estimated_scale(probabilities, config, 1.0, 12, is_one_size=False) == 1.0


@pytest.mark.parametrize(
    ("diameter", "is_one_size", "scale", "expected"),
    [(8, True, 3.5, 3.5), (8, False, 3.5, 3.5), (8, False, 1.8, 4), (64, False, 0.24, 0.5)],
)
def test_scale_stays_where_it_was_right_and_nowhere_else(diameter, is_one_size, scale, expected):
    """Cells of 32 pixels, of which a model of many sizes sees well those of less than twice its own diameter."""
    found = estimated_scale(perfect_probabilities(DISCS), SPLITTING, scale, diameter, is_one_size)
    assert found == pytest.approx(expected, rel=0.03)


def test_the_smallest_cell_follows_the_scale():
    """A cell of 29 pixels, of which 45 would be the least at three times the scale."""
    probabilities = perfect_probabilities(discs((40, 40), [(20, 20, 3)]))
    assert estimated_scale(probabilities, SPLITTING, 1.0, 60, is_one_size=True) == pytest.approx(0.1, rel=0.03)
    assert estimated_scale(probabilities, SPLITTING, 3.0, 60, is_one_size=True) == 3


@pytest.mark.parametrize("is_one_size", [True, False])
def test_no_cell_leaves_the_scale(is_one_size):
    assert estimated_scale(np.zeros((2, 30, 30)), SPLITTING, 1.7, 30, is_one_size) == 1.7


@pytest.mark.parametrize(("at", "rows", "columns"), [((5, 5), (0, 16), (0, 16)), ((39, 20), (24, 40), (8, 24))])
def test_a_large_image_is_judged_where_it_is_brightest(at, rows, columns):
    image = np.full((40, 50), 0.1)
    image[at] = 100
    window = brightest_window(image, side=16)
    assert window == (slice(*rows), slice(*columns)) and image[window].max() == 100


def test_a_small_image_is_judged_as_a_whole():
    assert brightest_window(np.eye(31), side=16) == (slice(0, 31), slice(0, 31))
