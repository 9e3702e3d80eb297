"""Where cells meet each other, and where they meet the border of the image or of its mask: pixel sides, counted.

Every function works on all cells at once, so that the time grows with the pixels and not with cells x pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Borders(NamedTuple):
    """Where labels share pixel sides.

    Attributes
    ----------
    pairs : (n, 2) int array
        Two labels each, the smaller number first.
    lengths : (n,) float array
        In pixels, exact for a straight border at any angle. One that bends is at most a tenth too short, as a whole
        circle is.
    spans : (n,) float array
        The diagonal of how far it runs in y and in x, in pixels. Where it does not turn back this is the distance of
        its ends, which is the width of the neck that a cut runs through, however the cut winds.
    n_sides : (n,) int array
        Those pixel sides, counted.
    """

    pairs: np.ndarray
    lengths: np.ndarray
    spans: np.ndarray
    n_sides: np.ndarray


def borders(labels: np.ndarray) -> Borders:
    """Find the borders between the labels of a (Y, X) int array; 0 is background and has none.

    Neighbours with different labels, counted along rows and columns, say how far a border runs in y and in x; counted
    along the two diagonals, how far it runs in directions turned by 45 degrees. The diagonal of each two is the length
    of a straight border. One that bends is longer than both; around a corner, one tells what the other misses.
    """
    n_labels, width = int(labels.max(initial=0)) + 1, labels.shape[1]
    flat = labels.ravel()
    is_cell = flat > 0
    found = []
    # Right, below, lower right, lower left: in the flat array so many pixels on, but for those in the column named.
    for step, last in ((1, width - 1), (width, width), (width + 1, width - 1), (width - 1, 0)):
        end = max(0, flat.size - step)
        pixels = np.flatnonzero(is_cell[:end] & is_cell[step:] & (flat[:end] != flat[step:]))
        pixels = pixels[pixels % width != last]
        a, b = flat[pixels], flat[pixels + step]
        found.append(np.minimum(a, b).astype(np.int64) * n_labels + np.maximum(a, b))  # a number for each pair
    numbers, index = np.unique(np.concatenate(found), return_inverse=True)
    ends = np.cumsum([part.size for part in found])[:-1]
    y, x, *turned = (np.bincount(part, minlength=numbers.size) for part in np.split(index, ends))
    pairs, n_sides, spans = np.stack(np.divmod(numbers, n_labels), axis=1), y + x, np.hypot(y, x)
    lengths = np.minimum(np.maximum(spans, np.hypot(*turned) / np.sqrt(2)), n_sides)
    return Borders(*(part[n_sides > 0] for part in (pairs, lengths, spans, n_sides)))  # others meet at a corner alone


def border_pixels(labels: np.ndarray) -> np.ndarray:
    """Return the pixels on either side of the borders between labels: (Y, X) bool."""
    pixels = np.zeros(labels.shape, bool)
    for (one, other), (pixel, other_pixel) in zip(adjacent(labels), adjacent(pixels)):
        differ = (one != other) & (one > 0) & (other > 0)
        pixel |= differ
        other_pixel |= differ
    return pixels


def count_sides(labels: np.ndarray) -> np.ndarray:
    """Count the pixel sides of each label's outline: (n + 1,) int, 0 for the background.

    The border of the image is an outline too.
    """
    n_sides = np.zeros(int(labels.max(initial=0)) + 1, np.intp)
    # Pixels of one label that follow each other in a row or a column have a side at either end.
    for first, (one, other) in zip((labels[:, 0], labels[0]), adjacent(labels)):
        for begins in (first, other[one != other]):
            n_sides += 2 * np.bincount(begins, minlength=n_sides.size)
    n_sides[0] = 0
    return n_sides


def touches_image_border(labels: np.ndarray) -> np.ndarray:
    """Return for each label whether a pixel of it lies at the border of the image: (n + 1,) bool."""
    touches = np.zeros(int(labels.max(initial=0)) + 1, bool)
    for border in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        touches[border] = True
    return touches


def touches_mask_border(labels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return for each label whether a pixel of it shares a side with one outside the (Y, X) bool mask: (n + 1,) bool.

    The border of the image is none of the mask's.
    """
    touches = np.zeros(int(labels.max(initial=0)) + 1, bool)
    for (one, other), (label, other_label) in zip(adjacent(mask), adjacent(labels)):
        touches[label[one & ~other]] = True
        touches[other_label[other & ~one]] = True
    return touches


def adjacent(array: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return views of all pixels and their right-hand, then their lower neighbours."""
    return (array[:, :-1], array[:, 1:]), (array[:-1], array[1:])
