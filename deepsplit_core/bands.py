"""Large images, a band of rows at a time: what a step takes beside its input and output stays small."""

from __future__ import annotations

from typing import Any, Iterator

import numpy as np

BAND_PIXELS = 2**19  # 724 x 724: smaller images are one band


def bands(shape: tuple[int, ...], at_least: int = 1) -> Iterator[slice]:
    """Cover the rows of an image of shape (Y, X) with bands of about `BAND_PIXELS` pixels, `at_least` rows each."""
    n_rows = max(at_least, BAND_PIXELS // max(1, shape[1]))
    for start in range(0, shape[0], n_rows):
        yield slice(start, min(start + n_rows, shape[0]))


def new_image(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return a (Y, X) array, not yet filled, whose columns are fast to go along.

    The pixels of a column share few places in the processor's cache where rows are a power of two of bytes apart, as in
    images of 1024 or 4096 pixels: a filter along columns then takes twice the time. So each row has a few pixels more
    in memory, an odd multiple of 16 in all.
    """
    return np.empty((shape[0], shape[1] // 32 * 32 + 48), dtype)[:, : shape[1]]


def areas_of(labels: np.ndarray) -> np.ndarray:
    """Count the pixels of each label of a (Y, X) int array: (n + 1,) int, the background's first."""
    areas = np.zeros(int(labels.max(initial=0)) + 1, np.intp)
    for rows in bands(labels.shape):
        numbers, _, lengths = runs(labels[rows])
        areas += np.bincount(numbers, lengths, areas.size).astype(np.intp)
    return areas


def runs(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the runs of equal pixels in the rows of a (Y, X) int array, of which there are far fewer than pixels.

    Returns
    -------
    numbers, starts, lengths : (n,) int arrays
        The label of each, its first pixel as an index into the flat array, and its pixels, counted.
    """
    is_first = np.ones(labels.shape, bool)
    np.not_equal(labels[:, 1:], labels[:, :-1], out=is_first[:, 1:])
    starts = np.flatnonzero(is_first)
    return labels.ravel()[starts].astype(np.intp), starts, np.diff(starts, append=labels.size)


def centres(labels: np.ndarray) -> np.ndarray:
    """Return the mean y and x of the pixels of each label 1..n of a (Y, X) int array: (n, 2) float.

    In a tenth of the time that scipy's `center_of_mass` takes, as pixels that follow each other in a row are counted at
    once.
    """
    numbers, starts, lengths = runs(labels)
    y, x = np.divmod(starts, labels.shape[1])
    sums = [np.bincount(numbers, lengths * places)[1:] for places in (y, x + (lengths - 1) / 2)]
    return np.stack(sums, axis=1) / np.bincount(numbers, lengths)[1:, None]


def typical_area(areas: np.ndarray) -> float:
    """Return the area of the cell in which a typical pixel of a cell lies, from those of `areas_of`; 0 without cells.

    The median over pixels, not over cells: pieces of cells and dust, of which there may be many, have few of them.
    """
    ascending = np.sort(areas[1:])
    half = np.searchsorted(np.cumsum(ascending), ascending.sum() / 2)
    return float(ascending[half]) if ascending.any() else 0.0


def renumber(labels: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Replace each label of a (Y, X) int32 array by ``numbers[label]`` in place, and return the array."""
    for rows in bands(labels.shape):  # numpy makes a second image otherwise
        labels[rows] = numbers[labels[rows]]
    return labels


def is_at_least(values: np.ndarray, threshold: float) -> np.ndarray:
    """Compare a (Y, X) array of any float type, 0 and more, with a threshold in float32: (Y, X) bool."""
    if values.dtype == np.float16:
        # Floats that are not negative have the order of their bits, of which numpy compares many at once.
        least = np.float16(threshold)
        if float(least) < np.float32(threshold):
            least = np.nextafter(least, np.float16(np.inf))
        return values.view(np.int16) >= least.view(np.int16)
    return np.greater_equal(values, threshold, signature="ff->?", casting="same_kind")
