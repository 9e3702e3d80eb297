"""Clumps are the foreground before it was split, and know which cells they became."""

import numpy as np
from drawing import as_sets, contact, discs

from deepsplit_core import SegmentConfig, combine_seeds, find_clumps, predict, split_prediction

SHAPE = (60, 90)
CELLS = discs(SHAPE, [(20, 18, 10), (20, 36, 10), (45, 60, 9), (4, 80, 8)])  # a pair, one alone, one at the border


def clumps_of(weights, **settings):
    image = np.where(contact(CELLS), 0.6, CELLS > 0).astype(np.float32)
    image[50, 5:7] = 1  # too small for a cell
    config = SegmentConfig(model=str(weights), device="cpu", **settings)
    found = split_prediction(predict(image, config), config)
    return found, find_clumps(found)


def test_a_clump_is_the_foreground_of_its_cells(wired_weights):
    found, clumps = clumps_of(wired_weights)
    pair = np.where(CELLS == 2, 1, CELLS)
    assert as_sets(clumps.labels) == as_sets(pair)
    assert clumps.labels.dtype == clumps.all_labels.dtype == np.int32
    assert sorted(np.bincount(clumps.clump_of_cell)[1:].tolist()) == [1, 1, 2]
    for cell, clump in enumerate(clumps.clump_of_cell, start=1):
        assert (clumps.labels[found.labels == cell] == clump).all()


def test_contact_that_belongs_to_no_cell_is_part_of_the_clump(wired_weights):
    found, clumps = clumps_of(wired_weights, contact_to_cells=False)
    assert as_sets(clumps.labels) == as_sets(np.where(CELLS == 2, 1, CELLS))
    assert not found.labels[contact(CELLS)].any()


def test_foreground_that_is_no_cell_is_part_of_the_clump_that_it_touches(wired_weights):
    """A piece too small for a cell, beyond contact; below it, where the grey is 0.32, the network is 0.69 sure."""
    image = np.zeros((20, 30), np.float32)
    image[5:15, 5:15], image[8, 15], image[8, 16:18], image[9, 16:18] = 1, 0.6, 1, 0.32
    config = SegmentConfig(model=str(wired_weights), device="cpu", segmentation_threshold=0.9)
    clumps = find_clumps(split_prediction(predict(image, config), config))
    assert clumps.labels[8, 14:19].tolist() == [1, 1, 1, 1, 0]
    assert not clumps.labels[9, 16:18].any()


def test_a_clump_without_a_kept_cell_is_discarded_but_not_forgotten(wired_weights):
    _, clumps = clumps_of(wired_weights, discard_border=True)
    assert as_sets(clumps.labels) == as_sets(np.where(CELLS == 2, 1, np.where(CELLS == 4, 0, CELLS)))
    assert as_sets(clumps.all_labels) == as_sets(np.where(CELLS == 2, 1, CELLS))
    assert np.array_equal(np.unique(clumps.clump_of_cell), [1, 2])


def test_a_cell_in_several_pieces_belongs_to_the_one_with_most_pixels(wired_weights):
    """A seed need not be in one piece: here a row of ten pixels, and three rows of one."""
    seeds = np.zeros(SHAPE, np.int32)
    seeds[10, 10:20] = seeds[40:43, 40] = 1
    config = SegmentConfig(model=str(wired_weights), device="cpu")
    image = np.zeros(SHAPE, np.float32)
    image[0, 0] = 1
    clumps = find_clumps(split_prediction(predict(image, config), config, combine_seeds(seeds, seeds)))
    assert (clumps.labels[10, 15], clumps.labels[41, 40]) == (clumps.clump_of_cell[0], 0)


def test_no_cells_no_clumps(wired_weights):
    _, clumps = clumps_of(wired_weights, smallest_cell=1000)
    assert not clumps.labels.any()
    assert clumps.clump_of_cell.size == 0
