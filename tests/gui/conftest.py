"""One screen for all tests, small images, and CellProfiler's window with an example pipeline on them."""

import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(Path(__file__).parent))  # window
sys.path.insert(0, str(ROOT / "example_pipelines" / "cell_shape"))  # run_demo

import run_demo  # noqa: E402
import window  # noqa: E402
from start_cellprofiler import WX  # noqa: E402


@pytest.fixture(scope="session")
def display(tmp_path_factory):
    missing = [program for program in window.PROGRAMS if shutil.which(program) is None]
    if missing or not WX.is_dir():
        pytest.fail(f"{', '.join([*missing, str(WX)])} missing: `make test-gui` installs what it needs.")
    with window.screen(tmp_path_factory.mktemp("screen")) as name:
        yield name


@pytest.fixture(scope="session")
def pictures():
    """The folder in which pictures of the windows are kept, for a person to look at."""
    folder = Path(__file__).parent / "pictures" / ("CellProfiler5" if window.IS_5 else "CellProfiler4")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """Two fields of ExampleFly in three channels, 400 x 400 pixels, as if annotated: images/ and labels/.

    No part of the path begins with a dot: CellProfiler 4 would filter the images out.
    """
    import numpy as np
    import tifffile

    source, folder = run_demo.find_images(), tmp_path_factory.mktemp("fly")
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    for field in run_demo.list_fields(source)[:2]:
        for channel in "DFR":
            name = f"{field}_{channel}.TIF"
            crop = tifffile.imread(source / name)[300:700, 300:700]
            tifffile.imwrite(folder / "images" / name, crop)
            # Any objects will do here: two bars.
            labels = np.zeros(crop.shape, np.uint16)
            labels[100:150], labels[200:250] = 1, 2
            tifffile.imwrite(folder / "labels" / name, labels)
    return folder


@pytest.fixture
def open_example(display, pictures, images, tmp_path):
    """Open CellProfiler's window with an example pipeline and its images; its results go to `tmp_path / "output"`."""

    @contextmanager
    def opened(name, *options):
        pipeline = ROOT / "example_pipelines" / name / f"{name}.cppipe"
        # Annotations would be taken for images where a pipeline does not ask for them.
        folder = images if name == "compare" else images / "images"
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        listed = tmp_path / "files.txt"
        listed.write_text("".join(f"{path}\n" for path in files))
        (tmp_path / "output").mkdir()
        options = ("-p", pipeline, "-i", folder, "-o", tmp_path / "output", "--file-list", listed, *options)
        with window.cellprofiler(display, tmp_path, pictures, ROOT / "plugins", *options) as opened_window:
            yield opened_window

    return opened
