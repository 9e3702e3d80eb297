"""Holes in cells are filled.

Background is looked at in runs, which are pixels that lie side by side in a row. An image has far fewer of them than
pixels, and no second image of numbers is needed.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from .bands import runs


def fill_holes(labels: np.ndarray, largest_hole: float) -> None:
    """Fill the holes inside single cells, in place.

    A hole is a piece of background (8-connected) of at most `largest_hole` pixels that touches one cell alone and
    not the image's border. Contact lines around an enclosed cell touch two cells, so they stay open.

    Parameters
    ----------
    labels : (Y, X) int32 array
        0 = background, every other value one cell.
    largest_hole : float
    """
    n_rows, n_columns = labels.shape
    numbers, starts, lengths = runs(labels)
    starts, lengths = starts[numbers == 0], lengths[numbers == 0]
    # Runs at the right border count as touching those at the left one a row below: neither is in a hole.
    pieces = _connected(starts, starts + lengths, n_columns)
    is_hole = np.bincount(pieces, lengths) <= largest_hole
    rows, columns = np.divmod(starts, n_columns)
    is_hole[pieces[(rows == 0) | (rows == n_rows - 1) | (columns == 0) | (columns + lengths == n_columns)]] = False
    chosen = is_hole[pieces]
    if not chosen.any():
        return
    # Every hole beside every cell that it touches, once: one that occurs once lies in that cell alone.
    pixels = _ranges(starts[chosen], lengths[chosen])  # none at the border: each has four neighbours
    flat, pieces = labels.reshape(-1), np.repeat(pieces[chosen], lengths[chosen])
    beside = np.concatenate([flat[pixels + step] for step in (-1, 1, -n_columns, n_columns)])
    pairs = np.stack([np.tile(pieces, 4), beside], axis=1)
    pairs = np.unique(pairs[beside > 0], axis=0)
    filling = np.zeros(is_hole.size, np.int32)
    filling[pairs[:, 0]] = pairs[:, 1]
    filling[np.bincount(pairs[:, 0], minlength=is_hole.size) > 1] = 0
    flat[pixels] = filling[pieces]


def _connected(starts: np.ndarray, stops: np.ndarray, width: int) -> np.ndarray:
    """Return the number of the 8-connected piece of each run, of an image of `width` columns."""
    # The runs of the next row that it touches follow each other.
    first, last = np.searchsorted(stops, starts + width), np.searchsorted(starts, stops + width, side="right")
    n_edges = last - first
    edges = _ranges(first, n_edges)
    ends = np.concatenate([[0], np.cumsum(n_edges)])
    graph = sparse.csr_matrix((np.ones(edges.size, bool), edges, ends), shape=(starts.size, starts.size))
    numbers: np.ndarray = csgraph.connected_components(graph, directed=False)[1]
    return numbers


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the integers of all ranges, one after the other."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if ends.size else 0) + np.repeat(starts - ends + lengths, lengths)
