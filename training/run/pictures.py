"""Every few epochs a picture of a validation image: what the network makes of it so far."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deepsplit_core.config import SplittingConfig
from deepsplit_core.images import write_png
from deepsplit_core.outlines import border_pixels

from ..learning.validation import Found

LARGEST = 512  # pixels a side of one panel: the picture is looked at as a whole
CONTACT_COLOUR = (255, 40, 40)
GAP = 4


def write_picture(path: Path, found: Found) -> None:
    """Write a PNG of four panels beside each other: image, true cells, cells found, and the cuts between them."""
    grey = np.repeat((255 * found.image.clip(0, 1)).astype(np.uint8)[..., None], 3, axis=-1)
    segmentation, separation = found.probabilities
    # On the background the separation counts for nothing, and the network learns little of it there.
    contact = np.where(segmentation >= SplittingConfig().segmentation_threshold, separation, 0)
    panels = [grey, colour(found.truth), colour(found.labels), draw_cuts(grey, found.labels, contact)]
    panels = [panel[:LARGEST, :LARGEST] for panel in panels]
    gap = np.full((panels[0].shape[0], GAP, 3), 255, np.uint8)
    path.parent.mkdir(exist_ok=True)
    write_png(path, np.concatenate([part for panel in panels for part in (panel, gap)][:-1], axis=1))


def colour(labels: np.ndarray) -> np.ndarray:
    """Return (Y, X, 3) uint8: black background, and for each cell a bright colour that its number determines."""
    # Multiples of the golden ratio spread hues, so that cells of following numbers differ.
    hue = np.arange(labels.max(initial=0) + 1) * 0.618034 % 1
    palette = 155 + 100 * np.cos(2 * np.pi * (hue[:, None] - np.array([0, 1 / 3, 2 / 3])))
    palette[0] = 0
    return palette.clip(0, 255).astype(np.uint8)[labels]


def draw_cuts(grey: np.ndarray, labels: np.ndarray, separation: np.ndarray) -> np.ndarray:
    """Return the grey image with the separation probability in red, and full red where two cells meet."""
    red = np.where(border_pixels(labels), 1, separation)
    return (grey * (1 - red[..., None]) + red[..., None] * np.array(CONTACT_COLOUR)).astype(np.uint8)
