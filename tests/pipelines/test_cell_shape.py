"""The example pipeline, headless in a real CellProfiler, and the demo's checks on runs that go wrong."""

import shutil

import numpy as np
import pytest
import tifffile
from cellprofiler_core import preferences

preferences.set_headless()  # before the modules are imported

from cellprofiler.modules.measureobjectsizeshape import MeasureObjectSizeShape  # noqa: E402
from cellprofiler_core.measurement import Measurements  # noqa: E402
from cellprofiler_core.object import Objects, ObjectSet  # noqa: E402
from cellprofiler_core.pipeline import Pipeline  # noqa: E402
from cellprofiler_core.workspace import Workspace  # noqa: E402

FIELDS = ["01_POS002", "01_POS076", "01_POS218"]


def labels_of(output, field, name):
    return tifffile.imread(output / f"{field}_{name.lower()}_labels.tiff")


def test_the_demo_succeeds_and_prints_a_table(demo, demo_run):
    exit_code, output, printed = demo_run
    assert exit_code == 0, printed
    assert demo.list_fields(demo.find_images()) == FIELDS
    table = [line.split() for line in printed.splitlines()]
    for field in FIELDS:
        (row,) = [line for line in table if line and line[0] == field]
        cells, area, form_factor, seconds = map(float, row[1:])
        assert cells == labels_of(output, field, "Cells").max()
        assert 300 < area < 3000  # Kc167 cells are some 30 pixels across
        assert 0.2 < form_factor <= 1
        assert seconds > 0
    assert str(output) in printed.splitlines()[-1]


@pytest.mark.parametrize("name", ["Nuclei", "Cells"])
def test_the_tables_measure_the_label_images(demo, demo_run, name):
    _, output, _ = demo_run
    rows = demo.read_rows(output / f"{name}.csv")
    for field in FIELDS:
        labels = labels_of(output, field, name)
        assert labels.dtype == np.uint16
        assert labels.shape == (1006, 1000)
        areas = [float(row["AreaShape_Area"]) for row in rows if row["Metadata_Field"] == field]
        assert np.array_equal(areas, np.bincount(labels.ravel())[1:])


@pytest.mark.parametrize("name", ["Nuclei", "Cells"])
def test_the_shapes_are_those_of_the_saved_labels(demo, demo_run, name):
    """MeasureObjectSizeShape on the labels from the file, in a pipeline of nothing else."""
    _, output, _ = demo_run
    rows = [row for row in demo.read_rows(output / f"{name}.csv") if row["Metadata_Field"] == FIELDS[0]]
    objects = Objects()
    objects.segmented = labels_of(output, FIELDS[0], name).astype(np.int32)
    object_set = ObjectSet()
    object_set.add_objects(objects, name)
    module = MeasureObjectSizeShape()
    module.objects_list.value = name
    module.calculate_zernikes.value = module.calculate_advanced.value = False
    measurements = Measurements()
    module.run(Workspace(Pipeline(), module, None, object_set, measurements, None))
    features = [feature for feature in rows[0] if feature.startswith("AreaShape_")]
    assert len(features) >= 15
    for feature in features:
        measured = measurements.get_measurement(name, feature)
        np.testing.assert_allclose([float(row[feature]) for row in rows], measured, rtol=0, atol=1e-6, err_msg=feature)
    measurements.close()


def test_neighbours_are_counted(demo, demo_run):
    for name in ("Nuclei", "Cells"):
        rows = demo.read_rows(demo_run[1] / f"{name}.csv")
        assert {float(row["Neighbors_NumberOfNeighbors_Adjacent"]) > 0 for row in rows} == {True, False}


def test_nuclei_are_separate_objects(demo_run):
    _, output, _ = demo_run
    for field, at_least in zip(FIELDS, (150, 400, 350)):
        nuclei = labels_of(output, field, "Nuclei")
        assert nuclei.max() >= at_least
        assert np.median(np.bincount(nuclei.ravel())[1:]) < 1000  # not the clumps in one piece


def test_every_nucleus_lies_in_its_cell(demo_run):
    _, output, _ = demo_run
    for field in FIELDS:
        nuclei, cells = labels_of(output, field, "Nuclei"), labels_of(output, field, "Cells")
        assert np.array_equal(cells[nuclei > 0], nuclei[nuclei > 0])
        assert (cells > 0).sum() > 1.3 * (nuclei > 0).sum()


def test_the_overlay_shows_both_outlines(demo_run):
    from imageio import v2 as imageio

    _, output, _ = demo_run
    for field in FIELDS:
        overlay = np.asarray(imageio.imread(output / f"{field}_overlay.png"))
        assert overlay.shape == (1006, 1000, 3)
        cells, nuclei = labels_of(output, field, "Cells"), labels_of(output, field, "Nuclei")
        yellow, cyan = (overlay == (255, 255, 0)).all(axis=-1), (overlay == (0, 255, 255)).all(axis=-1)
        assert yellow.any()
        assert cyan.any()
        assert (cells[yellow] > 0).all()
        assert (nuclei[cyan] > 0).all()


def without_last_row(text):
    return "".join(text.splitlines(keepends=True)[:-1])


def with_failed_module(text):
    """Image.csv as --always-continue leaves it when DeepSplitSegment fails on the first field."""
    header, first, *rest = (line.split(",") for line in text.splitlines())
    (column,) = [i for i, name in enumerate(header) if name.startswith("ModuleError_") and "DeepSplit" in name]
    first[column] = "1"
    return "\n".join(",".join(line) for line in (header, first, *rest))


# The file, how it is changed (None: deleted), and what is to be said of it.
DAMAGE = [
    ("01_POS076_nuclei_labels.tiff", None, "01_POS076_nuclei_labels.tiff is missing or empty."),
    ("01_POS218_overlay.png", None, "01_POS218_overlay.png is missing or empty."),
    ("Cells.csv", None, "Cells.csv has 0 rows for 01_POS002, Image.csv counts"),
    ("Cells.csv", lambda text: "", "Cells.csv has 0 rows for 01_POS076, Image.csv counts"),
    ("Nuclei.csv", without_last_row, "rows for 01_POS218, Image.csv counts"),
    ("Image.csv", None, "Image.csv has no row for 01_POS002."),
    ("Image.csv", without_last_row, "Image.csv has no row for 01_POS218."),
    ("Image.csv", with_failed_module, "01_POS002: the module 05DeepSplitSegment failed."),
    ("cellprofiler.log", lambda text: text + "Could not load deepsplitsegment\n", "The log says: Could not load"),
    ("cellprofiler.log", lambda text: text + "Failed to load pipeline\n", "The log says: Failed to load pipeline"),
    ("cellprofiler.log", lambda text: text + "Error detected during run of module X\n", "The log says: Error detected"),
]


@pytest.mark.parametrize(("name", "change", "message"), DAMAGE)
def test_each_missing_result_is_found(demo, demo_run, tmp_path, name, change, message):
    _, output, _ = demo_run
    copy = shutil.copytree(output, tmp_path / "copy")
    assert demo.find_problems(copy, FIELDS, 0) == []
    if change is None:
        (copy / name).unlink()
    else:
        (copy / name).write_text(change((copy / name).read_text()))
    assert any(message in problem for problem in demo.find_problems(copy, FIELDS, 0))


def test_an_empty_picture_is_found(demo, demo_run, tmp_path):
    copy = shutil.copytree(demo_run[1], tmp_path / "copy")
    (copy / "01_POS002_cells_labels.tiff").write_bytes(b"")
    assert demo.find_problems(copy, FIELDS, 0) == ["01_POS002_cells_labels.tiff is missing or empty."]


def test_an_exit_code_is_a_problem(demo, demo_run):
    assert demo.find_problems(demo_run[1], FIELDS, 3) == ["CellProfiler ended with exit code 3."]


def test_a_second_run_forgets_the_first(demo, small_images, tmp_path):
    """Results of an earlier run must not pass for those of a run that wrote nothing; other files stay."""
    (tmp_path / "Cells.csv").write_text("ImageNumber\n1\n")
    (tmp_path / "mine.csv").write_text("1\n")
    demo.run_cellprofiler(tmp_path, small_images, tmp_path / "no.cppipe")
    assert not (tmp_path / "Cells.csv").exists()
    assert (tmp_path / "mine.csv").exists()


def test_a_module_that_cannot_be_loaded_fails_the_demo(demo, small_images, tmp_path, capsys):
    """CellProfiler says "Complete" and ends with 0: it cuts the pipeline at the module that it does not know."""
    plugins, output = tmp_path / "plugins", tmp_path / "output"
    plugins.mkdir()
    done = tmp_path / "done"
    exit_code = demo.run_cellprofiler(output, small_images, demo.PIPELINE, plugins, "-d", str(done))
    assert (exit_code, done.read_text().strip()) == (0, "Complete")
    problems = demo.find_problems(output, demo.list_fields(small_images), exit_code)
    assert "01_POS002_nuclei_labels.tiff is missing or empty." in problems

    (plugins / "deepsplitsegment.py").write_text("import no_such_package\n")
    assert demo.main(output, small_images, plugins=plugins) == 1
    printed = capsys.readouterr()
    assert "Could not load" in printed.err
    assert "The demo failed:" in printed.err
    assert "Image.csv has no row for 01_POS002." in printed.err
    assert "image  " not in printed.out  # no table


def unknown_model(demo, folder):
    text = demo.PIPELINE.read_text()
    assert text.count("Select the model:nuclei") == 1
    pipeline = folder / "unknown_model.cppipe"
    pipeline.write_text(text.replace("Select the model:nuclei", "Select the model:no_such_model"))
    return pipeline


def test_a_module_that_raises_fails_the_demo(demo, small_images, tmp_path, capsys):
    assert demo.main(tmp_path / "output", small_images, unknown_model(demo, tmp_path)) == 1
    printed = capsys.readouterr().err
    assert "Error detected during run of module DeepSplitSegment" in printed
    assert "'no_such_model' is neither a bundled model" in printed  # the end of the log says why


def test_a_module_that_is_passed_over_fails_the_demo(demo, small_images, tmp_path):
    """With --always-continue CellProfiler goes on without the objects, and says "Complete"."""
    done, output = tmp_path / "done", tmp_path / "output"
    pipeline = unknown_model(demo, tmp_path)
    options = ("--always-continue", "-d", str(done))
    exit_code = demo.run_cellprofiler(output, small_images, pipeline, demo.PLUGINS, *options)
    assert (exit_code, done.read_text().strip()) == (0, "Complete")
    problems = demo.find_problems(output, demo.list_fields(small_images), exit_code)
    assert any("Error detected during run of module DeepSplitSegment" in problem for problem in problems)
    assert "01_POS002_nuclei_labels.tiff is missing or empty." in problems


def test_a_run_that_hangs_is_stopped(demo, small_images, tmp_path):
    exit_code = demo.run_cellprofiler(tmp_path, small_images, timeout=0.1)
    assert exit_code == 1
    assert "Stopped: not done after" in (tmp_path / demo.LOG).read_text()
