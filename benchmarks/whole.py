"""`segment()` from image to labels with the bundled model: seconds per megapixel, and memory, each size on its own.

.venv/bin/python -m benchmarks.whole            all sizes
.venv/bin/python -m benchmarks.whole SIDE       one size, in this process
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np
import psutil
from scipy import ndimage

SIDES = (512, 1024, 4096, 10000)


def measure() -> list[dict[str, Any]]:
    """Return one row for each size, largest memory included: a new process for each, as memory once taken stays."""
    command = [sys.executable, "-m", "benchmarks.whole"]
    return [
        json.loads(subprocess.run([*command, str(side)], check=True, stdout=subprocess.PIPE).stdout) for side in SIDES
    ]


def measure_one(side: int) -> dict[str, Any]:
    """Return the row of one size."""
    import deepsplit_core
    from deepsplit_core.config import SegmentConfig

    image = draw_image(side)
    config = SegmentConfig()
    deepsplit_core.segment(image[:256, :256])  # loading is not part of it
    before = psutil.Process().memory_info().rss
    network, splitting = [], []
    for _ in range(3 if side <= 1024 else 1):
        start = time.perf_counter()
        prediction = deepsplit_core.predict(image, config)
        middle = time.perf_counter()
        found = deepsplit_core.split_prediction(prediction, config)
        network.append(middle - start)
        splitting.append(time.perf_counter() - middle)
    seconds = statistics.median(network) + statistics.median(splitting)
    return {
        "side": side,
        "cells": int(found.labels.max()),
        "seconds": seconds,
        "seconds_per_megapixel": seconds / (side * side / 1e6),
        "splitting_share": statistics.median(splitting) / seconds,
        # Beyond the process at rest, which holds the image, and beyond the labels.
        "peak_mb": (_most_memory() - before - found.labels.nbytes) / 2**20,
    }


def draw_image(side: int) -> np.ndarray:
    """Return a field of touching nuclei: (side, side) uint16, a drawn tile of 512 pixels repeated."""
    y, x = np.mgrid[:512, :512]
    dy, dx = y % 64 - 32.0, x % 64 - 32.0
    depth = 13 - np.hypot(dy, np.abs(dx) - 12)
    grey = ndimage.gaussian_filter(np.clip(depth / 4, 0, 1), 1.0)
    noise = np.random.default_rng(0).normal(0, 0.02, grey.shape)
    tile = np.clip((grey + noise + 0.1) * 20000, 0, 65535).astype(np.uint16)
    n_tiles = -(-side // 512)
    return np.tile(tile, (n_tiles, n_tiles))[:side, :side].copy()


def _most_memory() -> int:
    """Return the most memory that this process has held, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    print(json.dumps(measure_one(int(sys.argv[1])) if len(sys.argv) > 1 else measure()))
