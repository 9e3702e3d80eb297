"""Splitting alone: probabilities to cells, for 100 to 50,000 cells, beside scikit-image's usual watershed.

    .venv/bin/python -m benchmarks.postprocessing

The probabilities are drawn: pairs of touching discs, blurred, with a ridge of the separation
where two touch. What is beside it is the recipe of scikit-image's gallery: label, distance transform, peak_local_max,
watershed.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.measure import label
from skimage.segmentation import watershed

from deepsplit_core.config import SplittingConfig
from deepsplit_core.splitting import split

from .timing import medians

# (side of the image in pixels, number of cells): few large ones to many small ones.
SCENES = ((512, 100), (512, 1000), (1024, 100), (1024, 2000), (2048, 8000), (4096, 20000), (8192, 50000))


def measure() -> list[dict[str, Any]]:
    """Return one row for each scene: seconds in all and per megapixel."""
    return [_measure(side, n_cells) for side, n_cells in SCENES]


def _measure(side: int, n_cells: int) -> dict[str, Any]:
    probabilities, radius = draw_probabilities(side, n_cells)
    config = SplittingConfig(smallest_cell=radius**2 / 2, longest_cut=radius, seed_distance=max(2.0, 0.6 * radius))
    found = split(probabilities, config).labels
    calls = {"ours": lambda: split(probabilities, config), "usual": lambda: usual_watershed(probabilities[0], radius)}
    seconds = medians(calls, n_rounds=3 if side > 2048 else 7)
    megapixels = side * side / 1e6
    return {
        "side": side,
        "cells": n_cells,
        "found": int(found.max()),
        "seconds": seconds["ours"],
        "seconds_per_megapixel": seconds["ours"] / megapixels,
        "usual_seconds_per_megapixel": seconds["usual"] / megapixels,
    }


def draw_probabilities(side: int, n_cells: int) -> tuple[np.ndarray, float]:
    """Return probabilities (2, side, side) float32 of about `n_cells` discs in touching pairs, and their radius."""
    n_pairs = n_cells // 2
    n_columns = int(np.ceil(np.sqrt(n_pairs)))
    pitch = side / n_columns
    radius = min(0.22 * pitch, 30.0)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    # Every pixel asks the pair of its own field alone: time and memory do not grow with the cells.
    row, column = np.minimum(y // pitch, n_columns - 1), np.minimum(x // pitch, n_columns - 1)
    dy, dx = y - (row + 0.5) * pitch, x - (column + 0.5) * pitch
    is_there = row * n_columns + column < n_pairs
    depth = radius - np.hypot(dy, np.abs(dx) - 0.9 * radius)
    segmentation = is_there / (1 + np.exp(np.clip(-2 * depth, -50, 50)))
    contact = is_there * np.exp(-(dx**2) / 2) * (np.abs(dy) < 0.7 * radius)
    # Every third contact is one that the network missed: it is left to the watershed.
    contact[(row + column) % 3 == 0] *= 0.1
    return np.stack([segmentation, contact]).astype(np.float32), radius


def usual_watershed(segmentation: np.ndarray, radius: float) -> np.ndarray:
    """Split by the distance transform's maxima, as is usual."""
    mask = segmentation >= 0.5
    distance = ndimage.distance_transform_edt(mask)
    peaks = peak_local_max(distance, min_distance=max(1, round(0.6 * radius)), labels=label(mask))
    markers = np.zeros(mask.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return watershed(-distance, markers, mask=mask)


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
