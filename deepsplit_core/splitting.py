"""Probabilities become cells: intersect, fill, filter, cut along short borders (paper, 3.2 "Post-processing" and 4.1).

Every step works on all cells at once, so that the time grows with the pixels and not with cells x pixels, and takes
little memory beside its input and output.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from .bands import areas_of, bands, is_at_least, renumber, typical_area
from .config import SplittingConfig
from .holes import fill_holes
from .outlines import borders
from .seeding import grow_seeds
from .watershed import cut_short_borders


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
        Segments that were dropped for their size, with numbers of their own, less those that would be holes in a cell
        or, where contact pixels are given back, between cells.
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
    segments, contact = find_segments(probabilities, config, seeds)
    fill_holes(segments, config.largest_hole)
    areas = areas_of(segments)
    typical = typical_area(areas)
    if typical >= config.smallest_cell:  # no dust alone
        smallest = min(config.smallest_cell, config.smallest_share * typical)
        config = dataclasses.replace(config, smallest_cell=smallest)
    labels = drop_small(segments, areas, config.smallest_cell)
    small = np.subtract(segments, labels, out=segments)
    if seeds is not None:
        return Split(labels, len(borders(labels).pairs), labels, small)
    n_cuts = cut_short_borders(labels, config) if config.watershed else 0
    contact &= labels == 0  # what was filled as a hole is no contact
    touching = labels if config.contact_to_cells else labels.copy()
    _spread(touching, contact)
    contact[:] = False  # it serves again, for small segments between cells
    contact.ravel()[_between_cells(touching, small)] = True
    _spread(touching, contact)
    # Contact pixels and small segments have kept other holes open: they are filled once those are gone.
    fill_holes(touching, config.largest_hole)
    if touching is not labels:
        fill_holes(labels, config.largest_hole)
    small[labels > 0] = 0
    numbers = _numbers(labels)
    renumber(labels, numbers)
    if touching is not labels:
        renumber(touching, numbers)
    return Split(labels, n_cuts, touching, small)


def find_segments(
    probabilities: np.ndarray, config: SplittingConfig, seeds: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Intersect segmentation and separation (paper, 4.1): (Y, X) int32 segments, and the (Y, X) bool contact pixels.

    Arguments as in `split`.
    """
    segmentation, separation = map(np.ascontiguousarray, probabilities)  # what follows changes flat views
    foreground = is_at_least(segmentation, config.segmentation_threshold)
    contact = foreground & is_at_least(separation, config.separation_threshold)
    if seeds is None:
        return label_segments(foreground ^ contact), contact
    return grow_seeds(seeds, foreground, probabilities[1]), contact


def label_segments(mask: np.ndarray) -> np.ndarray:
    """Give each 4-connected piece of a (Y, X) bool mask a number: (Y, X) int32."""
    labels = np.empty(mask.shape, np.int32)
    ndimage.label(mask, output=labels)
    return labels


def drop_small(labels: np.ndarray, areas: np.ndarray, smallest: float) -> np.ndarray:
    """Set segments with areas (n + 1,) of less than `smallest` pixels to background; the numbers of the others stay."""
    return np.where(areas >= smallest, np.arange(areas.size), 0).astype(np.int32)[labels]


def give_back(labels: np.ndarray, contact: np.ndarray) -> np.ndarray:
    """Spread the cells over the contact pixels that they reach.

    Each pixel goes to the cell that reaches it in the fewest steps along contact pixels, of several to the one with
    the smallest number.

    Parameters
    ----------
    labels : (Y, X) int32 array
    contact : (Y, X) bool array
    """
    grown = labels.copy()
    _spread(grown, contact & (labels == 0))
    return grown


def _spread(labels: np.ndarray, is_open: np.ndarray) -> None:
    """Spread the labels over the pixels that are open, as `give_back` does; both arrays are changed in place."""
    flat, open_ = labels.reshape(-1), is_open.reshape(-1)
    largest = np.iinfo(labels.dtype).max
    front = np.flatnonzero(open_)
    while front.size:
        beside = flat[_neighbours(front, labels.shape)]
        reached_by = np.where(beside > 0, beside, largest).min(axis=0)
        is_reached = reached_by < largest
        front = front[is_reached]
        flat[front], open_[front] = reached_by[is_reached], False
        neighbours = _neighbours(front, labels.shape).ravel()
        front = np.unique(neighbours[open_[neighbours]])


def _between_cells(labels: np.ndarray, small: np.ndarray) -> np.ndarray:
    """Return the pixels of small segments that no background touches, as flat indices."""
    pixels = np.flatnonzero(small)
    of_pixel, beside = small.ravel()[pixels], _neighbours(pixels, small.shape)
    is_open = ((labels.ravel()[beside] == 0) & (small.ravel()[beside] == 0)).any(axis=0)
    is_outside = np.zeros(int(small.max(initial=0)) + 1, bool)
    is_outside[of_pixel[is_open]] = True
    return pixels[~is_outside[of_pixel]]


def _neighbours(pixels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the four neighbours (4, n) of pixels (n,) as flat indices; beyond the image a pixel is its own."""
    n_rows, n_columns = shape
    y, x = np.divmod(pixels, n_columns)
    steps = ((y > 0, -n_columns), (x > 0, -1), (x < n_columns - 1, 1), (y < n_rows - 1, n_columns))
    return np.stack([np.where(is_inside, pixels + step, pixels) for is_inside, step in steps])


def consecutive(labels: np.ndarray) -> np.ndarray:
    """Renumber cells 1..n in the order of their first pixels: (Y, X) int32."""
    return _numbers(labels)[labels]


def _numbers(labels: np.ndarray) -> np.ndarray:
    """Return the new number of each label, by its first pixel: (n + 1,) int32, 0 where there is no such label."""
    first = np.full(int(labels.max(initial=0)) + 1, labels.size)
    for rows in reversed(list(bands(labels.shape))):
        pixels = np.flatnonzero(labels[rows] > 0)[::-1]
        # Of several values for one label, the last stays.
        first[labels[rows].ravel()[pixels]] = pixels + rows.start * labels.shape[1]
    order = np.argsort(first, kind="stable")[: np.count_nonzero(first < labels.size)]
    number = np.zeros(first.size, np.int32)
    number[order] = np.arange(1, order.size + 1)
    return number
