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
    assert sorted(np.bincount(clumps.clump_of_cell)[1:].tolist()) == [1, 1, 2]
    for cell, clump in enumerate(clumps.clump_of_cell, start=1):
        assert (clumps.labels[found.labels == cell] == clump).all()


def test_contact_that_belongs_to_no_cell_is_part_of_the_clump(wired_weights):
    found, clumps = clumps_of(wired_weights, contact_to_cells=False)
    assert as_sets(clumps.labels) == as_sets(np.where(CELLS == 2, 1, CELLS))
    assert not found.labels[contact(CELLS)].any()


def test_a_clump_without_a_kept_cell_is_discarded_but_not_forgotten(wired_weights):
    _, clumps = clumps_of(wired_weights, discard_border=True)
    assert as_sets(clumps.labels) == as_sets(np.where(CELLS == 2, 1, np.where(CELLS == 4, 0, CELLS)))
    assert as_sets(clumps.all_labels) == as_sets(np.where(CELLS == 2, 1, CELLS))
    assert np.array_equal(np.unique(clumps.clump_of_cell), [1, 2])


def test_a_cell_in_several_pieces_belongs_to_the_largest(wired_weights):
    """A seed need not be in one piece: here the last one in reading order has four pixels."""
    seeds = np.zeros(SHAPE, np.int32)
    seeds[10:20, 10:20] = seeds[40:42, 40:42] = 1
    config = SegmentConfig(model=str(wired_weights), device="cpu")
    found = split_prediction(predict(np.eye(*SHAPE, dtype=np.float32), config), config, combine_seeds(seeds, seeds))
    clumps = find_clumps(found)
    assert (clumps.labels[15, 15], clumps.labels[41, 41]) == (clumps.clump_of_cell[0], 0)


def test_no_cells_no_clumps(wired_weights):
    _, clumps = clumps_of(wired_weights, smallest_cell=1000)
    assert not clumps.labels.any()
    assert clumps.clump_of_cell.size == 0
