"""The example pipeline in CellProfiler 4 with the versions that it asks for, where torch is not: an engine runs it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from deepsplit_core import engine

LIMIT = 600  # seconds

SELECT_ENGINE = """
import sys
from cellprofiler_core import preferences
preferences.set_headless()
preferences.set_plugin_directory(sys.argv[1], globally=False)
import cellprofiler_core.modules
from cellprofiler_core.pipeline import Pipeline
pipeline = Pipeline()
pipeline.load(sys.argv[2])
(module,) = [module for module in pipeline.modules() if module.module_name == "DeepSplitSegment"]
module.where.value = "Another Python environment"
module.environment.value = "Elsewhere...|" + sys.argv[3]
with open(sys.argv[4], "w") as file:
    pipeline.dump(file, save_image_plane_details=False)
"""
RUN_DEMO = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import run_demo
sys.exit(run_demo.main(*map(Path, sys.argv[2:])))
"""


@pytest.fixture(scope="module")
def exact_python(root):
    """The Python of CellProfiler 4.2.8.1 with the versions that it asks for, without torch and without DeepSplit."""
    folder = root / ".venv-cp4-exact"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.is_file():
        pytest.skip(f"There is no {folder.name}: `make env39` makes it, where there is a Python 3.9.")
    return python


def run_in(python, code, *arguments):
    """Run some code; returns what it printed, the log of the demo included if it fails."""
    command = [str(python), "-c", code, *map(str, arguments)]
    # Not from the repository: deepsplit_core would be found there without being looked for.
    run = subprocess.run(command, cwd=python.parent, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_its_environment_has_neither_torch_nor_deepsplit(exact_python):
    code = "import importlib.util as u, sys; print(sys.version_info[:2], *[u.find_spec(n) for n in sys.argv[1:]])"
    assert run_in(exact_python, code, "torch", "safetensors", "deepsplit_core") == "(3, 9) None None None\n"


def test_labels_are_those_of_the_run_in_one_process(
    root, demo, run_example, small_images, exact_python, tmp_path, monkeypatch
):
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    pipeline, output = tmp_path / "engine.cppipe", tmp_path / "output"
    expected = run_example("cell_shape", small_images, tmp_path / "expected")
    run_in(exact_python, SELECT_ENGINE, root / "plugins", demo.PIPELINE, sys.prefix, pipeline)
    try:
        run_in(exact_python, RUN_DEMO, Path(demo.__file__).parent, output, small_images, pipeline)
        (model,) = engine.status()["models"]
        assert model.startswith("nuclei on ")
    finally:
        engine.stop()
    assert list((tmp_path / "run").iterdir()) == []  # the engine left nothing
    for field in demo.list_fields(small_images):
        for name in ("nuclei", "cells"):
            file = f"{field}_{name}_labels.tiff"
            assert np.array_equal(tifffile.imread(output / file), tifffile.imread(expected / file)), file
