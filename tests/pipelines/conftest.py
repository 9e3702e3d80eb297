"""The demo's functions, and its run in the CellProfiler of this environment."""

import contextlib
import importlib.util
import io
from pathlib import Path

import pytest

# It compares CellProfiler 4 with itself.
collect_ignore = ["test_engine.py"] if importlib.util.find_spec("cellprofiler_library") else []
DEMO = Path(__file__).parents[2] / "example_pipelines" / "cell_shape" / "run_demo.py"


@pytest.fixture(scope="session")
def demo():
    """The module `run_demo`; examples are no package, so it is loaded from its file."""
    spec = importlib.util.spec_from_file_location("run_demo", DEMO)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def demo_run(demo, tmp_path_factory):
    """The demo on all its images, once: exit code, output folder, what it printed."""
    output, printed = tmp_path_factory.mktemp("demo"), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        exit_code = demo.main(output)
    return exit_code, output, printed.getvalue()


@pytest.fixture(scope="session")
def small_images(demo, tmp_path_factory):
    """One field of 150 x 150 pixels, for runs that fail anyway."""
    import tifffile

    folder = tmp_path_factory.mktemp("small")
    images = demo.find_images()
    field = demo.list_fields(images)[0]
    for channel in "DFR":
        name = f"{field}_{channel}.TIF"
        tifffile.imwrite(folder / name, tifffile.imread(images / name)[:150, :150])
    return folder
