"""The pieces of foreground as they were before they were split, and which cells each became."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from .bands import is_at_least, runs
from .segmentation import Segmentation
from .splitting import label_segments


class Clumps(NamedTuple):
    """The unsplit pieces of one image.

    Attributes
    ----------
    labels : (Y, X) int32 array
        0 = background, 1..n = one piece each that holds a cell which was kept.
    all_labels : (Y, X) int32 array
        The same and, with the numbers after theirs, the pieces all of whose cells were discarded.
    clump_of_cell : (n_cells,) int array
        The number in `labels` of the piece that each cell lies in.
    """

    labels: np.ndarray
    all_labels: np.ndarray
    clump_of_cell: np.ndarray


def find_clumps(found: Segmentation) -> Clumps:
    """Join the cells again with all the foreground between them, in 4-connected pieces.

    Foreground without a cell that was large enough is no clump.
    """
    foreground = is_at_least(found.prediction.probabilities[0], found.splitting.segmentation_threshold)
    pieces = label_segments(foreground | (found.touching > 0))
    n_pieces = int(pieces.max(initial=0))

    # A seed may lie in several pieces, and its cell then belongs to the one that has most of it. Each run of a cell's
    # pixels is in one.
    numbers, starts, lengths = runs(found.labels)
    shape = found.numbers.size + 1, n_pieces + 1
    shared = sparse.coo_matrix((lengths, (numbers, pieces.ravel()[starts])), shape=shape).tocsr()
    piece_of_cell = np.asarray(shared.argmax(axis=1)).ravel()
    holds_cell, holds_kept = np.zeros((2, n_pieces + 1), bool)
    holds_cell[pieces[found.touching > 0]] = True
    holds_kept[piece_of_cell[1:]] = True
    is_discarded = holds_cell & ~holds_kept
    of_kept = np.where(holds_kept, np.cumsum(holds_kept), 0).astype(np.int32)
    of_all = np.where(is_discarded, np.cumsum(is_discarded) + of_kept.max(), of_kept).astype(np.int32)
    return Clumps(of_kept[pieces], of_all[pieces], of_kept[piece_of_cell[1:]])
