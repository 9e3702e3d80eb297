"""The module's own measurements: values counted by hand, and that CellProfiler knows of every one of them."""

import csv

import numpy as np
import pytest
from cellprofiler_core.image import Image
from cellprofiler_core.utilities.core.modules import instantiate_module

import deepsplit_core

SHAPE = (40, 60)
EVERYTHING = {"wants_clumps": True, "wants_probabilities": True}


def draw():
    """Two squares of 10 x 10 with two columns of contact between them, and one at the border of 10 x 10."""
    image = np.zeros(SHAPE, np.float32)
    image[5:15, 5:15] = image[5:15, 17:27] = image[30:40, 45:55] = 1
    image[5:15, 15:17] = 0.6
    return image


def dumb_bell():
    """Two squares of 11 x 11, and a bridge of 3 x 2 between them that only the watershed can cut."""
    image = np.zeros(SHAPE, np.float32)
    image[5:16, 5:16] = image[5:16, 18:29] = image[9:12, 16:18] = 1
    return image


def seeds():
    labels = np.zeros(SHAPE, np.int32)
    labels[10, 8], labels[10, 20], labels[35, 50] = 1, 2, 3
    return labels


def of_object(workspace, feature, name="Nuclei"):
    return workspace.measurements.get_current_measurement(name, feature)


def of_image(workspace, feature):
    return workspace.measurements.get_current_image_measurement(feature)


@pytest.mark.parametrize("contact_to_cells", [True, False])
def test_contact_and_cuts_that_the_network_found(run_on, contact_to_cells):
    workspace = run_on(draw(), contact_to_cells=contact_to_cells)
    # With their half of the contact, the squares are 10 x 11: 10 of 42 sides.
    assert of_object(workspace, "DeepSplit_ContactShare") == pytest.approx([10 / 42, 10 / 42, 0])
    assert of_object(workspace, "DeepSplit_CutLength") == pytest.approx([10, 10, 0])
    assert of_object(workspace, "DeepSplit_TouchesBorder").tolist() == [0, 0, 1]
    assert of_image(workspace, "DeepSplit_Cuts_Nuclei") == 1
    assert of_image(workspace, "DeepSplit_CutsByWatershed_Nuclei") == 0


def test_contact_and_cuts_that_the_watershed_found(run_on):
    workspace = run_on(dumb_bell())
    assert of_object(workspace, "DeepSplit_CutLength") == pytest.approx([3, 3])
    # A square of 11 x 11 and its half of the bridge: 44 + 2 sides, of which 3 are in contact.
    assert of_object(workspace, "DeepSplit_ContactShare") == pytest.approx([3 / 46, 3 / 46])
    assert of_image(workspace, "DeepSplit_Cuts_Nuclei") == 1
    assert of_image(workspace, "DeepSplit_CutsByWatershed_Nuclei") == 1


def test_the_border_of_the_mask_is_touched_too(run_on):
    mask = np.ones(SHAPE, bool)
    mask[:, :7] = False
    workspace = run_on(Image(draw(), mask=mask))
    assert of_object(workspace, "DeepSplit_TouchesBorder").tolist() == [1, 0, 1]


def test_probabilities_are_averaged_over_the_object(run_on):
    workspace = run_on(draw(), wants_probabilities=True)
    probability = workspace.image_set.get_image("CellProbability").pixel_data
    labels = workspace.object_set.get_objects("Nuclei").segmented
    expected = [probability[labels == label].mean() for label in (1, 2, 3)]
    assert of_object(workspace, "DeepSplit_MeanProbability") == pytest.approx(expected)
    assert all(0.9 < value <= 1 for value in expected)


def test_the_image_tells_how_it_was_segmented(run_on, wired_weights):
    workspace = run_on(draw(), device="CPU")
    name, values = "Nuclei", {}
    for feature in (
        "ModelName",
        "ModelSha256",
        "Version",
        "Device",
        "Scale",
        "Tile",
        "SecondsNetwork",
        "SecondsSplitting",
    ):
        values[feature] = of_image(workspace, f"DeepSplit_{feature}_{name}")
    assert values["ModelName"] == "tiny"
    assert values["ModelSha256"] == deepsplit_core.load_model(str(wired_weights), "cpu").sha256
    assert values["Version"] == deepsplit_core.__version__
    assert values["Device"] in ("cpu float32", "cpu bfloat16", "cpu int8")
    assert (values["Scale"], values["Tile"]) == (1, 1024)
    assert values["SecondsNetwork"] > 0 and values["SecondsSplitting"] > 0


def test_an_image_without_objects_has_every_measurement(run_on):
    workspace = run_on(np.zeros(SHAPE, np.float32), **EVERYTHING)
    for name, feature, _ in workspace.module.get_measurement_columns(workspace.pipeline):
        value = workspace.measurements.get_current_measurement(name, feature)
        assert value is not None if name == "Image" else len(value) == 0
    assert of_image(workspace, "DeepSplit_Tile_Nuclei") == 0


# What CellProfiler knows of


@pytest.mark.parametrize(("wanted", "seeded"), [({}, False), (EVERYTHING, False), ({}, True), (EVERYTHING, True)])
def test_what_is_announced_is_what_is_made(run_on, wanted, seeded):
    workspace = run_on(draw(), seeds=seeds() if seeded else None, **wanted)
    made = {
        (name, feature)
        for name in workspace.measurements.get_object_names()
        for feature in workspace.measurements.get_feature_names(name)
        if name not in ("Experiment", "Relationship") and feature not in ("ImageNumber", "Group_Number", "Group_Index")
    }
    columns = workspace.module.get_measurement_columns(workspace.pipeline)
    assert {(name, feature) for name, feature, _ in columns} == made
    assert len(columns) == len(made)  # none twice


@pytest.mark.parametrize(("wanted", "seeded"), [({}, False), (EVERYTHING, False), ({}, True), (EVERYTHING, True)])
def test_what_is_announced_can_be_picked(run_on, wanted, seeded):
    """The window builds names from category, measurement and objects: they are the columns, all of them."""
    workspace = run_on(draw(), seeds=seeds() if seeded else None, **wanted)
    module, pipeline, picked = workspace.module, workspace.pipeline, set()
    for name in ("Image", "Nuclei", "Clumps", "Seeds"):
        categories = module.get_categories(pipeline, name)
        assert len(categories) == len(set(categories))
        for category in categories:
            for measurement in module.get_measurements(pipeline, name, category):
                ends = module.get_measurement_objects(pipeline, name, category, measurement) or [None]
                picked |= {(name, "_".join(filter(None, (category, measurement, end)))) for end in ends}
    assert picked == {(name, feature) for name, feature, _ in module.get_measurement_columns(pipeline)}


def test_types_hold_the_values(run_on):
    workspace = run_on(draw(), **EVERYTHING)
    for name, feature, kind in workspace.module.get_measurement_columns(workspace.pipeline):
        value = workspace.measurements.get_current_measurement(name, feature)
        if kind.startswith("varchar"):
            assert isinstance(value, str) and len(value) <= int(kind[8:-1])
        elif kind == "integer":
            assert np.array_equal(value, np.round(value))
        elif feature.startswith("DeepSplit_"):
            assert np.asarray(value).dtype.kind == "f"


def test_two_modules_do_not_overwrite_each_other(run_on):
    one, two = run_on(draw()), run_on(draw(), y_name="Cells", clumps_name="Heaps", wants_clumps=True)
    columns = [set(w.module.get_measurement_columns(w.pipeline)) for w in (one, two)]
    assert not columns[0] & columns[1]


def test_the_help_tells_of_every_measurement(run_on):
    module = run_on(draw()).module
    for _, feature, _ in module.get_measurement_columns(None):
        if feature.startswith("DeepSplit_"):
            assert "_".join(feature.split("_")[:2]) in module.get_help()


def test_relationships_are_announced(run_on):
    workspace = run_on(draw(), seeds=seeds(), wants_clumps=True)
    announced = workspace.module.get_object_relationships(workspace.pipeline)
    assert [names[1:3] for names in announced] == [("Seeds", "Nuclei"), ("Clumps", "Nuclei")]
    made = {(key.object_name1, key.object_name2) for key in workspace.measurements.get_relationship_groups()}
    assert made == {("Seeds", "Nuclei"), ("Clumps", "Nuclei")}


def test_the_real_export_to_spreadsheet_writes_them(run_on, tmp_path):
    workspace = run_on(draw(), **EVERYTHING)
    export = instantiate_module("ExportToSpreadsheet")
    export.directory.dir_choice = "Elsewhere..."
    export.directory.custom_path = str(tmp_path)
    export.wants_prefix.value = False
    export.set_module_num(2)
    workspace.pipeline.add_module(export)
    export.post_run(workspace)
    tables = {}
    for name in ("Image", "Nuclei"):
        with open(tmp_path / f"{name}.csv", newline="", encoding="utf-8") as file:
            tables[name] = list(csv.DictReader(file))
    (image,) = tables["Image"]
    assert image["DeepSplit_ModelName_Nuclei"] == "tiny"
    assert float(image["DeepSplit_Cuts_Nuclei"]) == 1
    assert [float(row["DeepSplit_CutLength"]) for row in tables["Nuclei"]] == [10, 10, 0]
    assert [float(row["Parent_Clumps"]) for row in tables["Nuclei"]] == [1, 1, 2]
