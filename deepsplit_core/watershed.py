"""The watershed by shape: what is still merged is cut where two regions meet along a short border (paper, 3.2).

Seeds are found in bands of rows, and segments flooded in groups, so that the memory which this takes does not grow with
the image, unless a segment is as deep as a good part of it. Bands overlap as far as a result reaches, and segments do
not touch: nothing depends on either. They are looked at one after the other, as most of the time goes into a distance
transform that lets no other thread run.
"""

from __future__ import annotations

import functools
from typing import Callable, Iterator, List, NamedTuple, Tuple, cast

import mahotas
import numpy as np
from scipy import ndimage, sparse
from scipy.sparse import csgraph

from .bands import areas_of, bands, new_image
from .config import SplittingConfig
from .outlines import borders

BLOCK = 512  # pixels: segments that begin in the same block of the image are flooded together
BAND_ROWS = 256  # a band has at least, as its halo is looked at twice
DEPTH = 2  # seed distances: most segments are no deeper; a band is looked at again with twice as many, where one is
SEED_PIXELS = 6  # of the seed distance at least: an image that has twice as many is looked at in blocks of two
SHARE = 0.5  # of an image: rather than more than that for one band, all of it is looked at once for all bands

_Group = Tuple[Tuple[slice, slice], List[int]]  # a box around some segments, and their numbers


class _Seeds(NamedTuple):
    """Pixels of seeds, as indices into the flat image, the number of each one's seed, from 1, and its segment."""

    pixels: np.ndarray
    numbers: np.ndarray
    segments: np.ndarray


def cut_short_borders(labels: np.ndarray, config: SplittingConfig) -> int:
    """Cut segments where watershed regions meet along a short border.

    Labels spread from seeds at the cells' centres, the maxima of the distance to the segment's outline. Two regions
    that meet along a border of more than `longest_cut` pixels are one cell with an inner edge: they are joined again.
    So are, beyond the paper, regions whose border is no neck (the paper's thin protrusions are cut wrongly, section 5)
    and regions of which one is smaller than the smallest cell.

    Parameters
    ----------
    labels : (Y, X) int32 array
        4-connected segments. It is changed: the pieces of what is cut have new numbers.
    config : SplittingConfig

    Returns
    -------
    int
        Pairs of cells that were one segment and share a border now.
    """
    if labels.all():  # segments do not touch, so that this is one, without an outline that could have a neck
        return 0
    seeds = _find_seeds(labels, config.seed_distance)
    n_labels = int(labels.max(initial=0)) + 1
    first_pixels = np.unique(seeds.numbers, return_index=True)[1]
    # Segments with one seed are one cell already: only the others are flooded.
    is_merged = np.bincount(seeds.segments[first_pixels], minlength=n_labels) > 1
    next_number, n_cuts = n_labels, 0
    for box, members in _groups(labels, is_merged):
        is_member = np.zeros(n_labels + 1, bool)
        is_member[members] = True
        part = labels[box]
        own = is_member[np.minimum(part, n_labels)]  # the pieces of groups before have numbers beyond
        chosen = is_member[seeds.segments]
        y, x = np.divmod(seeds.pixels[chosen], labels.shape[1])
        markers = np.zeros(part.shape, np.int32)
        numbers = np.unique(seeds.numbers[chosen], return_inverse=True)[1]  # few numbers for few regions
        markers[y - box[0].start, x - box[1].start] = numbers + 1
        cells, n_cuts_here = _flood(np.where(own, part, 0), markers, config)
        part[own] = cells[own] + next_number
        next_number += int(cells.max()) + 1
        n_cuts += n_cuts_here
    return n_cuts


def distance_inside(labels: np.ndarray) -> np.ndarray:
    """Return the distance of each pixel of a segment to the nearest background pixel: (Y, X) float32, 0 outside.

    It is that of the whole image, as 4-connected segments never share a side: the nearest pixel that is not a
    segment's own is background. Where there is no background at all, all distances are the same.
    """
    inside = new_image(labels.shape, bool)
    in_memory = cast(np.ndarray, inside.base)
    in_memory[:] = True  # beyond the image's columns there is no background
    np.greater(labels, 0, out=inside)
    squares = mahotas.distance(in_memory)[:, : labels.shape[1]]  # float32 holds them
    return np.sqrt(squares, dtype=np.float32, out=new_image(labels.shape, np.float32))


def _find_seeds(labels: np.ndarray, seed_distance: float) -> _Seeds:
    """Find the maxima of the smoothed distance that are greatest within `seed_distance`.

    They are smooth hills, which are found as well in an image of fewer pixels, in a fraction of the time. A small
    segment beside a large one may hold none: it needs none, as it is not cut.
    """
    side = int(max(1, min(seed_distance // SEED_PIXELS, *labels.shape)))
    blocks = _blocks(labels, side) if side > 1 else labels
    pixels = _find_maxima(blocks, seed_distance / side)
    y, x = np.divmod(pixels, blocks.shape[1])
    middles = (y * side + side // 2) * labels.shape[1] + x * side + side // 2
    segments = blocks.ravel()[pixels]
    return _Seeds(middles, _connected(pixels, segments, blocks.shape[1]), segments)


def _blocks(labels: np.ndarray, side: int) -> np.ndarray:
    """Return the segment that fills a block of `side` x `side` pixels, 0 where none does: (Y // side, X // side) int32.

    So two segments have background between them there too.
    """
    y, x = (n // side * side for n in labels.shape)
    blocks: np.ndarray = labels[:y:side, :x:side].copy()
    for row in range(side):
        for column in range(side):
            blocks *= labels[row:y:side, column:x:side] == blocks
    return blocks


def _find_maxima(labels: np.ndarray, seed_distance: float) -> np.ndarray:
    """Return the pixels of the maxima that `_find_seeds` looks for: (n,) ascending flat indices."""
    # The ridge of an outline with steps of one pixel has many small maxima; smoothing leaves those of its lobes.
    smoothing, radius = seed_distance / 4, int(np.ceil(seed_distance))
    reach = radius + int(np.ceil(4 * smoothing))  # scipy's Gaussian ends at four standard deviations

    @functools.lru_cache(maxsize=1)
    def of_all() -> np.ndarray:
        return distance_inside(labels)

    found = [np.zeros(0, np.intp)]
    for rows in bands(labels.shape, BAND_ROWS):
        distance, core = _distance_around(labels, rows, reach, DEPTH * radius, of_all)
        smooth, greatest = (new_image(distance.shape, np.float32) for _ in range(2))
        ndimage.gaussian_filter(distance, smoothing, output=smooth)
        ndimage.maximum_filter(smooth, 2 * radius + 1, output=greatest)
        is_greatest = smooth[core] == greatest[core]
        found.append(np.flatnonzero(is_greatest & (labels[rows] > 0)) + rows.start * labels.shape[1])
    return np.concatenate(found)


def _distance_around(
    labels: np.ndarray, rows: slice, reach: int, depth: int, of_all: Callable[[], np.ndarray]
) -> tuple[np.ndarray, slice]:
    """Return `distance_inside` of a band and `reach` rows around it at least, and where the band lies in it.

    `depth` rows beyond are looked at first, and twice as many each time that a segment is deeper. `of_all` gives the
    distance of the whole image.
    """
    n_rows, halo = len(labels), reach + depth
    while rows.stop - rows.start + 2 * halo <= SHARE * n_rows:
        start, stop = max(0, rows.start - halo), min(n_rows, rows.stop + halo)
        distance = distance_inside(labels[start:stop])
        core = slice(rows.start - start, rows.stop - start)
        # No pixel outside is nearer than this, so smaller distances are those of the whole image.
        used = distance[max(0, core.start - reach) : core.stop + reach]
        if used.max() <= halo - reach and distance.min() == 0:
            return distance, core
        halo *= 2
    start, stop = max(0, rows.start - reach), min(n_rows, rows.stop + reach)
    return of_all()[start:stop], slice(rows.start - start, rows.stop - start)


def _connected(pixels: np.ndarray, segments: np.ndarray, n_columns: int) -> np.ndarray:
    """Return the number, from 1, of the piece of each pixel: ascending indices into a flat image, and their segments.

    Pixels of one segment that meet at a corner are connected: the ridge of a cell may be a diagonal line.
    """
    column = pixels % n_columns
    edges = []
    for right, down in ((1, 0), (-1, 1), (0, 1), (1, 1)):
        neighbours = pixels + down * n_columns + right
        place = np.searchsorted(pixels, neighbours)
        is_there = (column + right >= 0) & (column + right < n_columns)
        is_there &= (np.append(pixels, -1)[place] == neighbours) & (np.append(segments, -1)[place] == segments)
        edges.append(np.stack([np.flatnonzero(is_there), place[is_there]]))
    one, other = np.concatenate(edges, axis=1)
    graph = sparse.coo_matrix((np.ones(one.size), (one, other)), shape=(pixels.size, pixels.size))
    return (csgraph.connected_components(graph, directed=False)[1] + 1).astype(np.int32)


def _groups(labels: np.ndarray, is_chosen: np.ndarray) -> Iterator[_Group]:
    """Group the chosen segments by the block in which they begin: a box around each group, and its segments."""
    groups: dict[tuple[int, int], list[int]] = {}
    boxes = ndimage.find_objects(labels) if is_chosen.any() else []
    for label in np.flatnonzero(is_chosen).tolist():
        y, x = boxes[label - 1]
        groups.setdefault((y.start // BLOCK, x.start // BLOCK), []).append(label)
    for members in groups.values():
        spans = zip(*(boxes[label - 1] for label in members))
        y, x = (slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in map(tuple, spans))
        # One pixel of background around, as far as there is one: the distances need it.
        yield (slice(max(0, y.start - 1), y.stop + 1), slice(max(0, x.start - 1), x.stop + 1)), members


def _flood(labels: np.ndarray, markers: np.ndarray, config: SplittingConfig) -> tuple[np.ndarray, int]:
    """Spread the markers over their segments and join what no short border parts: (Y, X) int array, and the cuts."""
    # Imported here: scikit-image takes a second to load.
    from skimage.segmentation import watershed

    inside = labels > 0
    distance = distance_inside(labels)
    regions = watershed(-distance, markers, mask=inside)
    pairs, _, spans, _ = borders(regions)
    areas = areas_of(regions)
    # A region is as wide as the greatest circle in it; distances are counted to the first pixel outside.
    widths = np.zeros(areas.size, np.float32)
    np.maximum.at(widths, regions[inside], 2 * distance[inside] - 1)
    is_cut = spans <= np.minimum(config.longest_cut, config.neck * widths[pairs].min(axis=1))
    is_cut &= (areas[pairs] >= config.smallest_cell).all(axis=1)
    joined = pairs[~is_cut]
    graph = sparse.coo_matrix((np.ones(len(joined)), (joined[:, 0], joined[:, 1])), shape=(areas.size, areas.size))
    _, cell_of_region = csgraph.connected_components(graph, directed=False)
    # Regions that a third one joins are one cell: a border between them is no cut.
    cells = np.sort(cell_of_region[pairs], axis=1)
    n_cuts = len(np.unique(cells[cells[:, 0] != cells[:, 1]], axis=0))
    return cell_of_region[regions], n_cuts
