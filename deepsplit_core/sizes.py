"""How large the cells of an image are: for models that see every cell at about the size that they know best."""

from __future__ import annotations

import numpy as np

from .bands import areas_of, typical_area
from .config import SplittingConfig
from .splitting import find_segments, split

NEAR = 1.25  # a model that sees all cells at one size sees those as well that differ less
FAR = 2.0  # any other model sees cells up to so many times as large as well
WINDOW = 1024  # pixels: a large image is judged by a part of this side


def typical_diameter(labels: np.ndarray) -> float:
    """Return the diameter of a disc as large as the cell in which a typical pixel of a cell lies; 0 without cells.

    Parameters
    ----------
    labels : (Y, X) integer array
        0 = background, every other value one cell.
    """
    return float(np.sqrt(4 / np.pi * typical_area(areas_of(labels))))


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


def estimated_scale(
    probabilities: np.ndarray, splitting: SplittingConfig, scale: float, diameter: float, is_one_size: bool
) -> float:
    """Return how many pixels of the image should stand for one of the model's, judged by the cells found so far.

    Parameters
    ----------
    probabilities : (2, Y, X) float array, 0 to 1
    splitting : SplittingConfig
        The model's own.
    scale : float
        With which the probabilities were found. It is returned where there is no cell, or the model sees those well.
    diameter : float
        The model's, in pixels.
    is_one_size : bool
        The model sees all cells at one size. Any other one sees well what is small: an image has no more detail than
        it has, and enlarging it takes long.
    """
    lowest, highest = (1 / NEAR, NEAR) if is_one_size else (0, FAR)
    splitting = splitting.scaled(scale)
    # Before the watershed, which takes most of the time, cells are larger.
    if not is_one_size and typical_diameter(find_segments(probabilities, splitting)[0]) < highest * scale * diameter:
        return scale
    found = typical_diameter(split(probabilities, splitting).labels) / diameter
    return found if found and not lowest < found / scale < highest else scale
