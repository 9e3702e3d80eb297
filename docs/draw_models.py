"""Draw what each bundled model makes of one of its test images: docs/models.png, for the README.

    .venv/bin/python docs/draw_models.py DATA

DATA is the folder with `bbbc039`, `endothelium` and `usiigaci`. Each image is the first test image; its middle is
shown, as it is on the left and with the outlines found on the right.
"""

import sys
from pathlib import Path

import numpy as np

from deepsplit_core import segment
from deepsplit_core.cli import draw_overlay
from deepsplit_core.images import read_image, write_png

SIDE = 360
IMAGES = {
    "nuclei": "bbbc039/images/IXMtest_B17_s7_w1215A0A98-4A76-4846-B54A-F7C1EAF84E02.tif",
    "cells": "endothelium/images/endothelium_04.tif",
    "cells-phase": "usiigaci/images/set03.tif",
}


def draw(image: np.ndarray, model: str) -> np.ndarray:
    """Return the middle of an image, without and with outlines: (SIDE, 2 SIDE, 3) uint8."""
    labels = segment(image, model=model)
    start = [(n - SIDE) // 2 for n in image.shape]
    part = (slice(start[0], start[0] + SIDE), slice(start[1], start[1] + SIDE))
    halves = draw_overlay(image, np.zeros_like(labels)), draw_overlay(image, labels)
    return np.concatenate([half[part] for half in halves], axis=1)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    rows = [draw(read_image(Path(sys.argv[1], path)), model) for model, path in IMAGES.items()]
    write_png(Path(__file__).with_name("models.png"), np.concatenate(rows))
