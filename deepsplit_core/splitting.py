"""Probabilities become cells: intersect, fill, filter, cut along short borders (paper, 3.2 "Post-processing" and 4.1).

Every step works on all cells at once, so that the time grows with the pixels and not with cells x pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse import csgraph

from .config import SplittingConfig
from .outlines import adjacent, borders
from .seeding import grow_seeds


class Split(NamedTuple):
    """The cells of one image.

    Attributes
    ----------
    labels : (Y, X) int32 array
        0 = background, 1..n = one cell each, numbered by the first pixel in reading order, or as its seed.
    n_cuts : int
        Pairs of cells between which the watershed cut.
    touching : (Y, X) int32 array
        The same cells with the contact pixels given back, also where `labels` leaves gaps.
    small : (Y, X) int32 array
        Segments that were dropped for their size, with numbers of their own.
    """

    labels: np.ndarray
    n_cuts: int
    touching: np.ndarray
    small: np.ndarray


def split(probabilities: np.ndarray, config: SplittingConfig, seeds: np.ndarray | None = None) -> Split:
    """Turn the network's two probability maps into labelled cells.

    Parameters
    ----------
    probabilities : (2, Y, X) float array, 0 to 1
        Segmentation and separation.
    config : SplittingConfig
        Thresholds, and lengths in pixels of this image.
    seeds : (Y, X) int32 array, optional
        One cell for each, of the same number, and no other. They decide alone what is a cell: the watershed by shape
        is not used, and contact pixels belong to the cells.
    """
    foreground = probabilities[0] >= config.segmentation_threshold
    cells = foreground & (probabilities[1] < config.separation_threshold)
    segments = label_segments(cells) if seeds is None else grow_seeds(seeds, foreground, probabilities[1])
    segments = fill_holes(segments, config.largest_hole)
    labels = drop_small(segments, config.smallest_cell)
    small = segments - labels
    if seeds is not None:
        return Split(labels, len(borders(labels).pairs), labels, small)
    n_cuts = 0
    if config.watershed:
        labels, n_cuts = cut_short_borders(labels, config)
    touching = give_back(labels, foreground & ~cells)
    number = _numbers(touching if config.contact_to_cells else labels)
    touching = number[touching]
    return Split(touching if config.contact_to_cells else number[labels], n_cuts, touching, small)


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
    # Every hole beside every cell that it touches, once: one that occurs once lies in that cell alone.
    beside = []
    views = zip(adjacent(is_hole[background]), adjacent(background), adjacent(labels))
    for (hole, other_hole), (piece, other_piece), (cell, other_cell) in views:
        for holes, pieces, cells in ((hole, piece, other_cell), (other_hole, other_piece, cell)):
            touch = holes & (cells > 0)
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
        Pairs of cells that were one segment and share a border now.
    """
    # Imported here: scikit-image takes a second to load.
    from skimage.segmentation import watershed

    distance = distance_inside(labels)
    seeds, segment_of_seed = _seeds(distance, labels, config.seed_distance)
    # Segments with one seed are one cell already: only the others are flooded.
    is_merged = np.bincount(segment_of_seed, minlength=labels.max(initial=0) + 1) > 1
    merged = is_merged[labels]
    if not merged.any():
        return labels, 0
    regions = watershed(-distance, np.where(merged, seeds, 0), mask=merged)
    pairs, lengths, _ = borders(regions)
    areas = np.bincount(regions.ravel())
    # A region is as wide as the greatest circle in it; distances are counted to the first pixel outside.
    widths = np.zeros(areas.size, np.float32)
    np.maximum.at(widths, regions[merged], 2 * distance[merged] - 1)
    is_cut = lengths <= np.minimum(config.longest_cut, config.neck * widths[pairs].min(axis=1))
    is_cut &= (areas[pairs] >= config.smallest_cell).all(axis=1)
    joined = pairs[~is_cut]
    graph = sparse.coo_matrix((np.ones(len(joined)), (joined[:, 0], joined[:, 1])), shape=(areas.size, areas.size))
    _, cell_of_region = csgraph.connected_components(graph, directed=False)
    # Regions that a third one joins are one cell: a border between them is no cut.
    cells = np.sort(cell_of_region[pairs], axis=1)
    n_cuts = len(np.unique(cells[cells[:, 0] != cells[:, 1]], axis=0))
    return np.where(merged, cell_of_region[regions] + len(is_merged), labels).astype(np.int32), n_cuts


def distance_inside(labels: np.ndarray) -> np.ndarray:
    """Return the distance of each pixel of a segment to the nearest background pixel: (Y, X) float32, 0 outside.

    It is that of the whole image, as 4-connected segments never share a side: the nearest pixel that is not a
    segment's own is background. Segment by segment, the empty part of the image costs no time.
    """
    if labels.max(initial=0) > labels.size / 1000:  # so many that starting on each would take longer
        return ndimage.distance_transform_edt(labels > 0).astype(np.float32)
    distance = np.zeros(labels.shape, np.float32)
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None:
            # One pixel more on each side, as far as there is one: the border of the image is no background.
            box = tuple(slice(max(0, span.start - 1), span.stop + 1) for span in box)
            own = labels[box] == label
            distance[box][own] = ndimage.distance_transform_edt(own)[own]
    return distance


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


def give_back(labels: np.ndarray, contact: np.ndarray) -> np.ndarray:
    """Spread the cells over the contact pixels that they reach; each pixel goes to the cell with the fewest steps."""
    from skimage.segmentation import watershed

    if not labels.any():
        return labels
    flat = np.zeros(labels.shape, np.uint8)
    return watershed(flat, labels, mask=contact | (labels > 0)).astype(np.int32)


def consecutive(labels: np.ndarray) -> np.ndarray:
    """Renumber cells 1..n in the order of their first pixels: (Y, X) int32."""
    return _numbers(labels)[labels]


def _numbers(labels: np.ndarray) -> np.ndarray:
    """Return the new number of each label, by its first pixel: (n + 1,) int32, 0 where there is no such label."""
    pixels = np.flatnonzero(labels)[::-1]
    first = np.full(int(labels.max(initial=0)) + 1, labels.size)
    first[labels.ravel()[pixels]] = pixels  # of several values for one label, the last stays
    order = np.argsort(first, kind="stable")[: np.count_nonzero(first < labels.size)]
    number = np.zeros(first.size, np.int32)
    number[order] = np.arange(1, order.size + 1)
    return number
