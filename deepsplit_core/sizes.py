"""How large the cells of an image are: for models that see every cell at about the size that they know best."""

from __future__ import annotations

import numpy as np

from .bands import areas_of
from .config import SplittingConfig
from .splitting import split

NEAR = 1.25  # a cell that differs less in size is seen as well
WINDOW = 1024  # pixels: a large image is judged by a part of this side


def typical_diameter(labels: np.ndarray) -> float:
    """Return the diameter of a disc as large as the cell in which a typical pixel of a cell lies; 0 without cells.

    The median over pixels, not over cells: pieces of cells, of which there are many where a network sees the cells
    far too large, have few of them.

    Parameters
    ----------
    labels : (Y, X) integer array
        0 = background, every other value one cell.
    """
    areas = np.sort(areas_of(labels)[1:])
    half = np.searchsorted(np.cumsum(areas), areas.sum() / 2)
    return float(np.sqrt(4 / np.pi * areas[half])) if areas.any() else 0.0


def brightest_window(image: np.ndarray, side: int = WINDOW) -> tuple[slice, slice]:
    """Return the part of a (Y, X) image, at most `side` pixels high and wide, whose mean grey value is the greatest.

    Parts that overlap by half are compared: cells are brighter than what is between them, so that there are some in it.
    Of an image of fewer than four times as many pixels it is all: looking at a part first would save little time.
    """
    if image.size < 4 * side**2:
        return slice(0, image.shape[0]), slice(0, image.shape[1])
    rows, columns = (range(0, max(0, n - side) + side // 2, side // 2) for n in image.shape)
    parts = [(slice(y, y + side), slice(x, x + side)) for y in rows for x in columns]
    return max(parts, key=lambda part: float(image[part].mean()))


def estimated_scale(probabilities: np.ndarray, splitting: SplittingConfig, scale: float, diameter: float) -> float:
    """Return how many pixels of the image stand for one of the model's, judged by the cells found so far.

    Parameters
    ----------
    probabilities : (2, Y, X) float array, 0 to 1
    splitting : SplittingConfig
        The model's own.
    scale : float
        With which the probabilities were found. It is returned where there is no cell, or little would change.
    diameter : float
        The model's, in pixels.
    """
    found = typical_diameter(split(probabilities, splitting.scaled(scale)).labels)
    estimate = found / diameter
    return estimate if found and not 1 / NEAR < estimate / scale < NEAR else scale
