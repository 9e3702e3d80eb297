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
        In pixels: the diagonal of the pixel sides that a border runs along in y and in x, which is exact for a
        straight border at any angle.
    n_sides : (n,) int array
        Those pixel sides, counted.
    """

    pairs: np.ndarray
    lengths: np.ndarray
    n_sides: np.ndarray


def borders(labels: np.ndarray) -> Borders:
    """Find the borders between the labels of a (Y, X) int array; 0 is background and has none."""
    sides, along = [], []
    for axis, (one, other) in enumerate(adjacent(labels)):
        differ = (one != other) & (one > 0) & (other > 0)
        sides.append(np.sort(np.stack([one[differ], other[differ]], axis=1), axis=1))
        along.append(np.full(len(sides[-1]), axis))
    pairs, index = np.unique(np.concatenate(sides), axis=0, return_inverse=True)
    n_along = [np.bincount(index[np.concatenate(along) == axis], minlength=len(pairs)) for axis in (0, 1)]
    return Borders(pairs, np.hypot(n_along[0], n_along[1]), n_along[0] + n_along[1])


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
    n_bins = int(labels.max(initial=0)) + 1
    # Each pixel has four sides; two of them are inside where it lies beside a pixel of the same label.
    n_sides = 4 * np.bincount(labels[labels > 0], minlength=n_bins)
    for one, other in adjacent(labels):
        n_sides -= 2 * np.bincount(one[(one == other) & (one > 0)], minlength=n_bins)
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
