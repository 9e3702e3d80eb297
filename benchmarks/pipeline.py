"""CellProfiler without window over 96 images: seconds per image in the module and around it, and the start.

    .venv/bin/python -m benchmarks.pipeline

The images are drawn (1024 x 1024, as in benchmarks/whole.py). CellProfiler's log has the seconds of the whole module
(its measurement ExecutionTime adds up those of all threads), the module's measurements have those of the network.
"""

from __future__ import annotations

import csv
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import tifffile

from .whole import draw_image

PLUGINS = Path(__file__).parents[1] / "plugins"
N_IMAGES = 96
SIDE = 1024


def measure() -> dict[str, Any]:
    """Return seconds of the CellProfiler run, and of `deepsplit segment` on one image from start to end."""
    with tempfile.TemporaryDirectory() as folder:
        images, output = Path(folder, "images"), Path(folder, "output")
        for path in (images, output):
            path.mkdir()
        for number in range(N_IMAGES):
            tifffile.imwrite(images / f"field{number:03d}.tif", draw_image(SIDE))
        start = time.perf_counter()
        first = [sys.executable, "-m", "deepsplit_core", "segment", str(images / "field000.tif"), "--output", folder]
        _run(first)
        first_result = time.perf_counter() - start
        return {**_measure_cellprofiler(images, output), "command_line_first_result_seconds": first_result}


def _measure_cellprofiler(images: Path, output: Path) -> dict[str, Any]:
    pipeline = output / "bench.cppipe"
    write_pipeline(pipeline)
    start = time.perf_counter()
    log = _run(
        [sys.executable, "-m", "cellprofiler", "-c", "-r", "-p", str(pipeline), "-i", str(images), "-o", str(output)]
        + ["--plugins-directory", str(PLUGINS)]
    )
    total = time.perf_counter() - start
    with open(output / "Image.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if len(rows) != N_IMAGES:
        raise RuntimeError(f"CellProfiler wrote {len(rows)} rows for {N_IMAGES} images.")
    seconds = [float(s) for s in re.findall(r"module DeepSplitSegment # \d+: .*Wall_time = ([\d.]+)", log)]
    if len(seconds) != N_IMAGES:
        raise RuntimeError(f"CellProfiler's log tells the seconds of {len(seconds)} of {N_IMAGES} images.")
    # The first image also loads torch and the model.
    in_module = statistics.median(seconds[1:])
    in_network = statistics.median(float(row["DeepSplit_SecondsNetwork_Nuclei"]) for row in rows[1:])
    return {
        "images": N_IMAGES,
        "side": SIDE,
        "seconds_per_image": total / N_IMAGES,
        "module_seconds": in_module,
        "network_seconds": in_network,
        "module_without_network_share": 1 - in_network / in_module,
        "first_image_seconds": seconds[0],
    }


def write_pipeline(path: Path) -> None:
    """Write a pipeline that reads grey images, runs DeepSplitSegment and exports the measurements of the images."""
    from cellprofiler_core import preferences

    preferences.set_headless()
    preferences.set_plugin_directory(str(PLUGINS), globally=False)
    import cellprofiler_core.modules  # noqa: F401
    from cellprofiler_core.pipeline import Pipeline
    from cellprofiler_core.utilities.core.modules import instantiate_module

    pipeline = Pipeline()
    pipeline.init_modules()
    pipeline.modules()[2].single_image_provider.value = "DNA"  # NamesAndTypes: all images are this one
    segment, export = instantiate_module("DeepSplitSegment"), instantiate_module("ExportToSpreadsheet")
    segment.x_name.value, segment.y_name.value = "DNA", "Nuclei"
    export.wants_prefix.value = False
    for module in (segment, export):
        module.set_module_num(len(pipeline.modules()) + 1)
        pipeline.add_module(module)
    with open(path, "w", encoding="utf-8") as file:
        pipeline.dump(file)


def _run(command: list[str]) -> str:
    """Run a command and return what it logged."""
    return subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True).stderr


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
