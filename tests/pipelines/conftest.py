"""The example pipelines, headless in the CellProfiler of this environment, and the images that they run on."""

import contextlib
import importlib.util
import io
from pathlib import Path

import pytest

# It compares CellProfiler 4 with itself.
collect_ignore = ["test_engine.py"] if importlib.util.find_spec("cellprofiler_library") else []
EXAMPLES = Path(__file__).parents[2] / "example_pipelines"


def load_script(path):
    """Load a script as a module; examples are no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def demo():
    """The module `run_demo`."""
    return load_script(EXAMPLES / "cell_shape" / "run_demo.py")


@pytest.fixture(scope="session")
def join():
    """The module `join`."""
    return load_script(EXAMPLES / "batch" / "join.py")


@pytest.fixture
def label_fields(monkeypatch):
    """The module `label_fields`, without ExampleFly, which takes half a minute."""
    folder = EXAMPLES / "cell_shape"
    monkeypatch.syspath_prepend(folder)
    script = load_script(folder / "label_fields.py")
    monkeypatch.setattr(script, "list_fields", lambda images: [])
    return script


@pytest.fixture(scope="session")
def demo_run(demo, tmp_path_factory):
    """The demo on all its images, once: exit code, output folder, what it printed."""
    output, printed = tmp_path_factory.mktemp("demo"), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        exit_code = demo.main(output)
    return exit_code, output, printed.getvalue()


@pytest.fixture(scope="session")
def run_example(demo):
    """Run the pipeline of an example, or another file, on a folder of images; the log must tell of no error."""

    def run(name, images, output, *options, pipeline=None, plugins=None, exit_code=0):
        pipeline = pipeline or EXAMPLES / name / f"{name}.cppipe"
        ended_with = demo.run_cellprofiler(output, images, pipeline, plugins or demo.PLUGINS, *options)
        log = (output / demo.LOG).read_text(encoding="utf-8", errors="replace")
        assert not [line for line in log.splitlines() if any(error in line for error in demo.ERRORS)], log
        assert ended_with == exit_code, log
        return output

    return run


@pytest.fixture(scope="session")
def annotated(tmp_path_factory):
    """Drawn nuclei, touching in pairs: a folder with two images in images/ and their labels in labels/."""
    import numpy as np
    import tifffile
    from drawing import discs, grid_of_pairs, photograph
    from imageio import v2 as imageio

    folder = tmp_path_factory.mktemp("annotated")
    circles, shape = grid_of_pairs(2, 3, radius=11, apart=19, spacing=56)
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for seed, name in enumerate(("one", "two")):
        labels = discs(shape, circles[seed:])
        tifffile.imwrite(folder / "images" / f"{name}.tif", photograph(labels, seed=seed))
        imageio.imwrite(folder / "labels" / f"{name}.png", labels.astype(np.uint16))
    return folder


@pytest.fixture(scope="session")
def small_images(demo, tmp_path_factory):
    """Two fields of 150 x 150 pixels of ExampleFly."""
    import tifffile

    folder = tmp_path_factory.mktemp("small")
    images = demo.find_images()
    for field in demo.list_fields(images)[:2]:
        for channel in "DFR":
            name = f"{field}_{channel}.TIF"
            tifffile.imwrite(folder / name, tifffile.imread(images / name)[:150, :150])
    return folder
