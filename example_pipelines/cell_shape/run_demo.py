"""Run the cell_shape pipeline headless on CellProfiler's ExampleFly images, and check that every result is there.

    .venv/bin/python example_pipelines/cell_shape/run_demo.py

CellProfiler says "Complete" with exit code 0 when a plugin cannot be loaded, and when a module fails that it was told
to pass over. So what counts here is what it wrote: a missing result gives exit code 1 and the end of its log.
"""

import csv
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Dict, List, Optional

import numpy as np

FOLDER = Path(__file__).resolve().parent
PIPELINE = FOLDER / "cell_shape.cppipe"
PLUGINS = FOLDER.parents[1] / "plugins"
OUTPUT = FOLDER / "output"

OBJECTS = ("Nuclei", "Cells")
LOG = "cellprofiler.log"
WRITTEN = ("*_labels.tiff", "*_overlay.png", "Image.csv", "Nuclei.csv", "Cells.csv", "Experiment.csv", LOG)
# What CellProfiler logs when it leaves a module out, stops reading the pipeline, or a module raises.
ERRORS = ("Could not load", "Failed to load pipeline", "Error detected during run of module")
WHICH_PYTHON = "run this with the Python in which CellProfiler was installed with pip, or that of `make env` (.venv)."


def find_images() -> Path:
    """Return the folder of the ExampleFly images in the CellProfiler of this Python."""
    package = importlib.util.find_spec("cellprofiler")
    if package is None or not package.submodule_search_locations:
        raise SystemExit(f"{sys.executable} has no CellProfiler: {WHICH_PYTHON}")
    images = Path(package.submodule_search_locations[0]) / "data" / "examples" / "ExampleFly" / "images"
    if not list_fields(images):
        raise SystemExit(f"No ExampleFly images (*_D.TIF) in {images}: install CellProfiler 4.2.8.1 again.")
    return images


def list_fields(images: Path) -> List[str]:
    """Return the names of the fields of view: 01_POS002 for 01_POS002_D.TIF."""
    return sorted(path.name[: -len("_D.TIF")] for path in images.glob("*_D.TIF"))


def run_cellprofiler(
    output: Path, images: Path, pipeline: Path = PIPELINE, plugins: Path = PLUGINS, *options: str, timeout: float = 600
) -> int:
    """Run a pipeline headless with the CellProfiler of this Python, and return its exit code.

    The output folder is emptied of earlier results, and receives CellProfiler's log.
    """
    # Beside Python in an environment; elsewhere in the folder of scripts.
    folders = os.pathsep.join([str(Path(sys.executable).parent), sysconfig.get_path("scripts")])
    program = shutil.which("cellprofiler", path=folders)
    if program is None:
        raise SystemExit(f"No program cellprofiler in {folders}: {WHICH_PYTHON}")
    output.mkdir(parents=True, exist_ok=True)
    for pattern in WRITTEN:
        for path in output.glob(pattern):
            path.unlink()
    command = [program, "-c", "-r", "-p", str(pipeline), "-i", str(images), "-o", str(output)]
    if importlib.util.find_spec("cellprofiler_library"):  # CellProfiler 5: its default reader wants the network
        command += ["-e", "imageio_reader"]
    command += ["--plugins-directory", str(plugins), *options]
    with open(output / LOG, "w", encoding="utf-8") as log:
        try:
            return subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, timeout=timeout).returncode
        except subprocess.TimeoutExpired:
            log.write(f"\nStopped: not done after {timeout:.0f} s\n")
            return 1


def read_rows(path: Path) -> List[Dict[str, str]]:
    """Read a CSV file; none where there is no file."""
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8", errors="replace") as file:  # paths are in the machine's own encoding
        return list(csv.DictReader(file))


def find_problems(output: Path, fields: List[str], exit_code: int) -> List[str]:
    """Return what is wrong with the results of a run, one sentence each."""
    problems = [] if exit_code == 0 else [f"CellProfiler ended with exit code {exit_code}."]
    log = (output / LOG).read_text(encoding="utf-8", errors="replace")
    problems += [f"The log says: {line.strip()}" for line in log.splitlines() if any(error in line for error in ERRORS)]
    images = {row.get("Metadata_Field"): row for row in read_rows(output / "Image.csv")}
    objects = {name: read_rows(output / f"{name}.csv") for name in OBJECTS}
    for field in fields:
        pictures = [f"{field}_{name.lower()}_labels.tiff" for name in OBJECTS] + [f"{field}_overlay.png"]
        for name in pictures:
            if not (output / name).is_file() or (output / name).stat().st_size == 0:
                problems.append(f"{name} is missing or empty.")
        row = images.get(field)
        if row is None:
            problems.append(f"Image.csv has no row for {field}.")
            continue
        failed = [key for key, value in row.items() if key.startswith("ModuleError_") and float(value) != 0]
        problems += [f"{field}: the module {key[len('ModuleError_') :]} failed." for key in failed]
        for name in OBJECTS:
            n_rows = sum(cell["ImageNumber"] == row["ImageNumber"] for cell in objects[name])
            n_counted = float(row.get(f"Count_{name}", "nan"))
            if n_rows == 0 or n_rows != n_counted:
                problems.append(f"{name}.csv has {n_rows} rows for {field}, Image.csv counts {n_counted:.0f} objects.")
    return problems


def summarise(output: Path) -> List[str]:
    """Return a table of the cells of every image, line by line; areas in square pixels."""
    cells = read_rows(output / "Cells.csv")
    lines = [f"{'image':<12}{'cells':>7}{'median area':>13}{'median form factor':>20}{'seconds':>9}"]
    for row in read_rows(output / "Image.csv"):
        own = [cell for cell in cells if cell["ImageNumber"] == row["ImageNumber"]]
        area, form = (
            np.nanmedian([float(cell[f"AreaShape_{feature}"]) for cell in own]) for feature in ("Area", "FormFactor")
        )
        seconds = sum(float(value) for key, value in row.items() if key.startswith("ExecutionTime_"))
        lines.append(f"{row['Metadata_Field']:<12}{len(own):>7}{area:>13.0f}{form:>20.2f}{seconds:>9.1f}")
    return lines


def main(
    output: Path = OUTPUT, images: Optional[Path] = None, pipeline: Path = PIPELINE, plugins: Path = PLUGINS
) -> int:
    """Run the demo, print its table, and return the exit code."""
    images = images or find_images()
    fields = list_fields(images)
    print(f"CellProfiler segments {len(fields)} fields of {images}; its log: {output / LOG}", flush=True)
    start = time.perf_counter()
    problems = find_problems(output, fields, run_cellprofiler(output, images, pipeline, plugins))
    if problems:
        end = (output / LOG).read_text(encoding="utf-8", errors="replace").splitlines()[-40:]
        print("\n".join(["The demo failed:", *problems, f"The end of {output / LOG}:", *end]), file=sys.stderr)
        return 1
    print("\n".join(summarise(output)))
    print(f"{time.perf_counter() - start:.0f} s in all. Label images, overlays and CSV files: {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
