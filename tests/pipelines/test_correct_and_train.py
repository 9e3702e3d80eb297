"""The pipeline `correct_and_train`: what a person leaves of the cells is what training reads."""

import importlib.util
import shutil

import numpy as np
import pytest
import tifffile

from training.cli import main
from training.data.annotations import find_annotations

# A person drops the first cell and joins the next two. Headless, CellProfiler has nobody to ask and raises: the answer
# is put where EditObjectsManually asks for it, by a line at the end of the plugin.
ANSWER = """

def answer(workspace, module, found, guide, number):
    import numpy
    assert module.module_name == "EditObjectsManually" and guide.shape == found[0].shape
    numpy.save(r"{folder}/%d.npy" % number, found[0])
    return [numpy.where(found[0] == 3, 2, numpy.where(found[0] == 1, 0, found[0]))]

from cellprofiler_core.workspace import Workspace
Workspace.interaction_request = answer
"""


@pytest.fixture(scope="module")
def answering(demo, tmp_path_factory):
    """The plugins that correct for a person, and the folder with the labels that they were asked about."""
    found = tmp_path_factory.mktemp("found")
    plugins = shutil.copytree(demo.PLUGINS, tmp_path_factory.mktemp("copy") / "plugins")
    with open(plugins / "deepsplitsegment.py", "a", encoding="utf-8") as plugin:
        plugin.write(ANSWER.format(folder=found))
    return plugins, found


@pytest.fixture(scope="module")
def corrected(answering, run_example, annotated, tmp_path_factory):
    """The output folder, and the labels of each image before the correction."""
    plugins, found = answering
    output = tmp_path_factory.mktemp("corrected")
    run_example("correct_and_train", annotated / "images", output, plugins=plugins)
    return output, [np.load(found / f"{number}.npy") for number in (1, 2)]


def test_the_labels_are_the_corrected_cells(corrected, annotated):
    output, found = corrected
    for name, before in zip(("one", "two"), found):
        assert before.max() >= 10
        expected = np.where(before > 2, before - 2, np.where(before == 2, 1, 0))
        expected[before == 3] = 1
        labels = tifffile.imread(output / "labels" / f"{name}.tiff")
        assert labels.dtype == np.uint16
        assert np.array_equal(labels, expected)


def test_the_images_are_saved_unchanged(corrected, annotated):
    for name in ("one", "two"):
        saved = tifffile.imread(corrected[0] / "images" / f"{name}.tiff")
        assert saved.dtype == np.uint16
        assert np.array_equal(saved, tifffile.imread(annotated / "images" / f"{name}.tif"))


def test_training_reads_the_folder(corrected, capsys):
    assert main(["prepare", "--data", str(corrected[0])]) == 0, capsys.readouterr()
    pairs = {annotation.image_path.stem: annotation.read() for annotation in find_annotations(corrected[0])}
    assert sorted(pairs) == ["one", "two"]
    for (image, labels, ignore), before in zip((pairs["one"], pairs["two"]), corrected[1]):
        assert image.shape == labels.shape
        assert labels.max() == before.max() - 2
        assert not ignore.any()


@pytest.mark.skipif(
    importlib.util.find_spec("cellprofiler_library") is not None,
    reason="The imageio reader of CellProfiler 5 divides floats by 2^32 - 1",
)
def test_an_image_that_cannot_be_saved_stops_the_run_before_it_is_corrected(
    corrected, answering, demo, annotated, tmp_path
):
    """Floats above 1 are no grey values to SaveImages."""
    plugins, found = answering
    for path in found.iterdir():
        path.unlink()
    (tmp_path / "images").mkdir()
    image = tifffile.imread(annotated / "images" / "one.tif").astype(np.float32)
    tifffile.imwrite(tmp_path / "images" / "one.tif", image)
    pipeline = demo.FOLDER.parent / "correct_and_train" / "correct_and_train.cppipe"
    demo.run_cellprofiler(tmp_path / "output", tmp_path / "images", pipeline, plugins)
    log = (tmp_path / "output" / demo.LOG).read_text(encoding="utf-8", errors="replace")
    assert "Error detected during run of module SaveImages" in log
    assert list(found.iterdir()) == []
