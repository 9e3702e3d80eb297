"""Probabilities become cells: intersect, fill, filter, cut along short borders (paper, 3.2 "Post-processing" and 4.1).

Every step works on all cells at once, so that the time grows with the pixels and not with cells x pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse import csgraph

from .config import SplittingConfig


class Split(NamedTuple):
    """The cells of one image.

    Attributes
    ----------
    labels : (Y, X) int32 array
        0 = background, 1..n = one cell each, numbered by the first pixel in reading order.
    n_cuts : int
        Borders along which the watershed cut a merged segment.
    """

    labels: np.ndarray
    n_cuts: int


def split(probabilities: np.ndarray, config: SplittingConfig) -> Split:
    """Turn the network's two probability maps into labelled cells.

    Parameters
    ----------
    probabilities : (2, Y, X) float array, 0 to 1
        Segmentation and separation.
    config : SplittingConfig
        Thresholds, and lengths in pixels of this image.
    """
    foreground = probabilities[0] >= config.segmentation_threshold
    cells = foreground & (probabilities[1] < config.separation_threshold)
    labels = label_segments(cells)
    labels = fill_holes(labels, config.largest_hole)
    labels = drop_small(labels, config.smallest_cell)
    n_cuts = 0
    if config.watershed:
        labels, n_cuts = cut_short_borders(labels, config)
    if config.contact_to_cells:
        labels = give_back(labels, foreground & ~cells)
    return Split(consecutive(labels), n_cuts)


def label_segments(mask: np.ndarray) -> np.ndarray:
    """Give each 4-connected piece of a (Y, X) bool mask a number: (Y, X) int32."""
    labels = np.empty(mask.shape, np.int32)
    ndimage.label(mask, output=labels)
    return labels


def fill_holes(labels: np.ndarray, largest_hole: float) -> np.ndarray:
    """Fill the holes inside single cells.

    A hole is a piece of background (8-connected) of at most `largest_hole` pixels that touches one cell alone and
    not the image's border. Contact lines around an enclosed cell touch two cells, so they stay open.
    """
    background = np.empty(labels.shape, np.int32)
    n_pieces = ndimage.label(labels == 0, structure=np.ones((3, 3)), output=background)
    areas = np.bincount(background.ravel(), minlength=n_pieces + 1)
    is_hole = areas <= largest_hole
    is_hole[0] = False
    for border in (background[0], background[-1], background[:, 0], background[:, -1]):
        is_hole[border] = False
    # Every piece beside every cell that it touches, once: a hole occurs once.
    beside = []
    for (piece, other_piece), (cell, other_cell) in zip(_adjacent(background), _adjacent(labels)):
        for pieces, cells in ((piece, other_cell), (other_piece, cell)):
            touch = is_hole[pieces] & (cells > 0)
            beside.append(np.stack([pieces[touch], cells[touch]], axis=1))
    pairs = np.unique(np.concatenate(beside), axis=0)
    is_hole &= np.bincount(pairs[:, 0], minlength=n_pieces + 1) == 1
    filling = np.zeros(n_pieces + 1, np.int32)
    filling[pairs[:, 0]] = pairs[:, 1]
    filling[~is_hole] = 0
    return np.where(labels == 0, filling[background], labels)


def drop_small(labels: np.ndarray, smallest: float) -> np.ndarray:
    """Set segments with fewer than `smallest` pixels to background; the numbers of the others stay."""
    areas = np.bincount(labels.ravel())
    return np.where(areas >= smallest, np.arange(areas.size), 0).astype(np.int32)[labels]


def cut_short_borders(labels: np.ndarray, config: SplittingConfig) -> tuple[np.ndarray, int]:
    """Cut segments where watershed regions meet along a short border (paper, 3.2).

    Labels spread from seeds at the cells' centres, the maxima of the distance to the segment's outline. Two regions
    that meet along a border of more than `longest_cut` pixels are one cell with an inner edge: they are joined again.
    So are, beyond the paper, regions whose border is no neck (the paper's thin protrusions are cut wrongly, section 5)
    and regions of which one is smaller than the smallest cell.

    Returns
    -------
    labels : (Y, X) int32 array
    n_cuts : int
    """
    # Imported here: scikit-image takes a second to load.
    from skimage.segmentation import watershed

    distance = ndimage.distance_transform_edt(labels > 0).astype(np.float32)
    seeds, segment_of_seed = _seeds(distance, labels, config.seed_distance)
    # Segments with one seed are one cell already: only the others are flooded.
    is_merged = np.bincount(segment_of_seed, minlength=labels.max(initial=0) + 1) > 1
    merged = is_merged[labels]
    if not merged.any():
        return labels, 0
    regions = watershed(-distance, np.where(merged, seeds, 0), mask=merged)
    pairs, lengths = _borders(regions)
    areas = np.bincount(regions.ravel())
    # A region is as wide as the greatest circle in it; distances are counted to the first pixel outside.
    widths = 2 * ndimage.maximum(distance, regions, np.arange(areas.size)) - 1
    is_cut = lengths <= np.minimum(config.longest_cut, config.neck * widths[pairs].min(axis=1))
    is_cut &= (areas[pairs] >= config.smallest_cell).all(axis=1)
    joined = pairs[~is_cut]
    graph = sparse.coo_matrix((np.ones(len(joined)), (joined[:, 0], joined[:, 1])), shape=(areas.size, areas.size))
    _, cell_of_region = csgraph.connected_components(graph, directed=False)
    # Regions that a third one joins are one cell: a border between them is no cut.
    n_cuts = int(np.count_nonzero(cell_of_region[pairs[:, 0]] != cell_of_region[pairs[:, 1]]))
    return np.where(merged, cell_of_region[regions] + len(is_merged), labels).astype(np.int32), n_cuts


def _seeds(distance: np.ndarray, labels: np.ndarray, seed_distance: float) -> tuple[np.ndarray, np.ndarray]:
    """Find the maxima of the smoothed distance that are greatest within `seed_distance`.

    Returns
    -------
    seeds : (Y, X) int32 array
        Numbered from 1. A small segment beside a large one may hold none: it needs none, as it is not cut.
    segment_of_seed : (n,) int32 array
    """
    # The ridge of an outline with steps of one pixel has many small maxima; smoothing leaves those of its lobes.
    smooth = ndimage.gaussian_filter(distance, seed_distance / 4)
    radius = int(np.ceil(seed_distance))
    is_seed = (smooth == ndimage.maximum_filter(smooth, size=2 * radius + 1)) & (labels > 0)
    seeds = np.empty(labels.shape, np.int32)
    n_seeds = ndimage.label(is_seed, output=seeds)  # 4-connected as the segments: none lies in two of them
    segment_of_seed = np.zeros(n_seeds + 1, np.int32)
    segment_of_seed[seeds[is_seed]] = labels[is_seed]
    return seeds, segment_of_seed[1:]


def _borders(regions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the borders between regions that share pixel sides.

    Returns
    -------
    pairs : (n, 2) int array
        Two regions each, the smaller number first.
    lengths : (n,) float array
        In pixels: the diagonal of the pixel sides that a border runs along in y and in x, which is exact for a
        straight border at any angle.
    """
    sides, along = [], []
    for axis, (one, other) in enumerate(_adjacent(regions)):
        differ = (one != other) & (one > 0) & (other > 0)
        sides.append(np.sort(np.stack([one[differ], other[differ]], axis=1), axis=1))
        along.append(np.full(len(sides[-1]), axis))
    pairs, index = np.unique(np.concatenate(sides), axis=0, return_inverse=True)
    n_along = [np.bincount(index[np.concatenate(along) == axis], minlength=len(pairs)) for axis in (0, 1)]
    return pairs, np.hypot(n_along[0], n_along[1])


def _adjacent(array: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return views of all pixels and their right-hand, then their lower neighbours."""
    return (array[:, :-1], array[:, 1:]), (array[:-1], array[1:])


def give_back(labels: np.ndarray, contact: np.ndarray) -> np.ndarray:
    """Spread the cells over the contact pixels that they reach; each pixel goes to the cell with the fewest steps."""
    from skimage.segmentation import watershed

    if not labels.any():
        return labels
    flat = np.zeros(labels.shape, np.uint8)
    return watershed(flat, labels, mask=contact | (labels > 0)).astype(np.int32)


def drop_at_border(labels: np.ndarray) -> np.ndarray:
    """Drop the cells that touch the image's border, and renumber the others."""
    keep = np.arange(int(labels.max(initial=0)) + 1, dtype=np.int32)
    for border in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        keep[border] = 0
    return consecutive(keep[labels])


def consecutive(labels: np.ndarray) -> np.ndarray:
    """Renumber cells 1..n in the order of their first pixels: (Y, X) int32."""
    values, first = np.unique(labels, return_index=True)
    values, first = values[values > 0], first[values > 0]
    number = np.zeros(int(labels.max(initial=0)) + 1, np.int32)
    number[values[np.argsort(first)]] = np.arange(1, values.size + 1)
    return number[labels]
