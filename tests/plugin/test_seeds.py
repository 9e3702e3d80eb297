"""Seed objects: one cell each, numbered and related as IdentifySecondaryObjects does."""

import contextlib

import numpy as np
import pytest
from cellprofiler_core.constants.measurement import R_FIRST_OBJECT_NUMBER, R_SECOND_OBJECT_NUMBER
from cellprofiler_core.image import Image
from cellprofiler_core.pipeline import Pipeline
from cellprofiler_core.setting import ValidationError
from cellprofiler_core.utilities.core.modules import instantiate_module
from drawing import as_sets, contact, discs, picture

SHAPE = (60, 90)
CELLS = discs(SHAPE, [(20, 18, 11), (20, 38, 11), (45, 60, 9), (3, 70, 8)])  # a pair, one alone, one at the border
NUCLEI = discs(SHAPE, [(45, 60, 3), (20, 18, 3), (3, 70, 3), (20, 38, 3)])
CELL_OF_NUCLEUS = [3, 1, 4, 2]
IMAGE = np.where(contact(CELLS), 0.6, CELLS > 0).astype(np.float32)


def cells(workspace):
    return workspace.object_set.get_objects("Nuclei")


def measured(workspace, feature, name="Nuclei"):
    return workspace.measurements.get_current_measurement(name, feature)


def test_cells_have_the_numbers_of_their_seeds(run_on):
    workspace = run_on(IMAGE, seeds=NUCLEI)
    labels = cells(workspace).segmented
    expected = np.zeros(SHAPE, int)
    for nucleus, cell in enumerate(CELL_OF_NUCLEUS, start=1):
        expected[CELLS == cell] = nucleus
    assert not (labels != expected)[~contact(CELLS)].any()
    assert np.array_equal(labels > 0, CELLS > 0)
    assert measured(workspace, "Parent_Seeds").tolist() == [1, 2, 3, 4]
    assert measured(workspace, "Children_Nuclei_Count", "Seeds").tolist() == [1, 1, 1, 1]


def test_foreground_without_a_seed_is_no_cell(run_on):
    seeds = np.where(NUCLEI == 2, 1, 0)
    workspace = run_on(IMAGE, seeds=seeds)
    labels = cells(workspace).segmented
    assert labels.max() == 1
    assert not labels[CELLS > 2].any()
    assert (labels[CELLS == 1] == 1).all()  # touches the one with the seed, and is a part of it: the help says so
    assert as_sets(cells(workspace).unedited_segmented) == as_sets(labels)


def test_a_seed_without_foreground_is_a_cell_of_its_own_pixels(run_on):
    seeds = NUCLEI.copy()
    seeds[55:58, 5:8] = 5
    workspace = run_on(IMAGE, seeds=seeds)
    assert np.array_equal(cells(workspace).segmented == 5, seeds == 5)


@pytest.mark.parametrize("masked", [False, True])
def test_rows_that_do_not_match_their_seeds_are_told_of(run_on, caplog, masked):
    """ExportToDatabase writes seeds and cells into one table, row by row, where every seed has a cell."""
    workspace = run_on(Image(IMAGE, mask=CELLS != CELL_OF_NUCLEUS[0] if masked else None), seeds=NUCLEI)
    assert measured(workspace, "Parent_Seeds").tolist() == ([2, 3, 4] if masked else [1, 2, 3, 4])
    assert ("Parent_Seeds, not by number" in caplog.text) == masked


@pytest.mark.parametrize(
    ("settings", "is_warned"),
    [
        ({}, False),
        ({"wants_clumps": True}, False),
        ({"discard_border": True}, True),
        ({"discard_mask_border": True}, True),
        ({"smallest_diameter": 5.0}, True),
        ({"use_seeds": False}, True),
    ],
)
def test_the_real_export_to_database_takes_seeds_and_cells_into_one_table(make_module, settings, is_warned):
    """But it warns where some seeds may have no cell, as rows of both are put beside each other."""
    seeds, export = instantiate_module("IdentifyPrimaryObjects"), instantiate_module("ExportToDatabase")
    seeds.y_name.value = "Seeds"
    cells = make_module(**{"y_name": "Cells", "use_seeds": True, "seeds_name": "Seeds", **settings})
    export.separate_object_tables.value = "Single object table"
    export.objects_choice.value, export.objects_list.value = "Select...", "Seeds,Cells"
    pipeline = Pipeline()
    for number, module in enumerate((seeds, cells, export), start=1):
        module.set_module_num(number)
        pipeline.add_module(module)
    warned = pytest.raises(ValidationError, match="is not in a 1:1 relationship")
    with warned if is_warned else contextlib.nullcontext():
        export.validate_module_warnings(pipeline)


def test_discarded_cells_leave_their_seeds_childless_and_no_gap(run_on):
    workspace = run_on(IMAGE, seeds=NUCLEI, discard_border=True)
    labels = cells(workspace).segmented
    assert np.unique(labels).tolist() == [0, 1, 2, 3]
    assert measured(workspace, "Parent_Seeds").tolist() == [1, 2, 4]
    assert measured(workspace, "Children_Nuclei_Count", "Seeds").tolist() == [1, 1, 0, 1]
    assert (labels[20, 38], labels[45, 60]) == (3, 1)
    relation = workspace.measurements.get_relationships(workspace.module.module_num, "Parent", "Seeds", "Nuclei")
    pairs = zip(relation[R_FIRST_OBJECT_NUMBER].tolist(), relation[R_SECOND_OBJECT_NUMBER].tolist())
    assert sorted(pairs) == [(1, 1), (2, 2), (4, 3)]


def test_seeds_of_their_own_size_limit(run_on):
    """A cell above or below the diameters is discarded, whatever its seed is like."""
    workspace = run_on(IMAGE, seeds=NUCLEI, smallest_diameter=15.0, largest_diameter=20.0)
    assert measured(workspace, "Parent_Seeds").tolist() == [1]
    # The pair is too large, the one at the border too small.
    assert len(np.unique(cells(workspace).small_removed_segmented)) == 4
    assert len(np.unique(cells(workspace).unedited_segmented)) == 5


def test_no_seeds_no_cells(run_on):
    workspace = run_on(IMAGE, seeds=np.zeros(SHAPE, np.int32), wants_clumps=True)
    assert cells(workspace).count == 0
    assert len(measured(workspace, "Parent_Seeds")) == 0
    assert len(measured(workspace, "Children_Nuclei_Count", "Seeds")) == 0


def test_seeds_in_an_image_without_contrast_are_their_own_cells(run_on):
    assert np.array_equal(cells(run_on(np.zeros(SHAPE, np.float32), seeds=NUCLEI)).segmented, NUCLEI)


def test_seeds_outside_the_mask_have_no_cell(run_on):
    mask = np.ones(SHAPE, bool)
    mask[:, 28:] = False
    workspace = run_on(Image(IMAGE, mask=mask), seeds=NUCLEI)
    assert measured(workspace, "Parent_Seeds").tolist() == [2]
    assert not cells(workspace).segmented[~mask].any()
    assert measured(workspace, "Children_Nuclei_Count", "Seeds").tolist() == [0, 1, 0, 0]


def test_seeds_discarded_at_the_border_keep_their_pixels(run_on, objects_of):
    """As in IdentifySecondaryObjects: the nucleus at the border was dropped, but its cell reaches into the image."""
    image = np.zeros((20, 30), np.float32)
    image[5:15, :24] = 1
    all_seeds = picture("\n".join(["." * 30] * 8 + ["11" + "." * 16 + "22" + "." * 10] * 4 + ["." * 30] * 8))
    kept = (all_seeds == 2).astype(int)
    seeds = objects_of(kept, all_seeds)
    workspace = run_on(image, seeds=seeds)
    labels = cells(workspace).segmented
    assert np.unique(labels).tolist() == [0, 1]
    # Nearest of the two: the dropped one keeps columns 0 to 9, though its cell is not there.
    assert np.flatnonzero(labels[10]).tolist() == list(range(10, 24))
    assert np.unique(cells(workspace).unedited_segmented).tolist() == [0, 1, 2]
    assert measured(workspace, "Parent_Seeds").tolist() == [1]
    # Had they been dropped for their size, the cell would be all of it.
    inner = objects_of(kept, 2 * kept + np.roll(all_seeds == 1, 3, axis=1))
    assert np.flatnonzero(cells(run_on(image, seeds=inner)).segmented[10]).tolist() == list(range(24))


@pytest.mark.parametrize("discard", [False, True])
def test_relations_are_those_of_identify_secondary_objects(run_on, discard):
    """The real module, by distance from the same seeds, relates as this one does."""
    workspace = run_on(IMAGE, seeds=NUCLEI, discard_border=discard)
    names = ("Parent_Seeds", "Children_Nuclei_Count")
    ours = [measured(workspace, names[0]).tolist(), measured(workspace, names[1], "Seeds").tolist()]
    real = instantiate_module("IdentifySecondaryObjects")
    real.x_name.value, real.y_name.value, real.image_name.value = "Seeds", "Theirs", "DNA"
    real.method.value = "Distance - N"
    real.distance_to_dilate.value = 3
    real.wants_discard_edge.value = discard
    real.set_module_num(2)
    real.run(workspace)
    theirs = [
        measured(workspace, "Parent_Seeds", "Theirs").tolist(),
        measured(workspace, "Children_Theirs_Count", "Seeds").tolist(),
    ]
    assert ours == theirs


def test_cuts_outside_the_mask_are_not_counted(run_on):
    mask = ~np.isin(CELLS, [1, 2])  # less the pair that touches
    workspace = run_on(Image(IMAGE, mask=mask), seeds=CELLS)  # that touch as well
    for feature in ("Cuts", "CutsByWatershed"):
        assert workspace.measurements.get_current_image_measurement(f"DeepSplit_{feature}_Nuclei") == 0


def test_seeds_of_another_shape_stop_the_run(run_on):
    with pytest.raises(
        ValueError, match=r"seeds Seeds have the shape \(3, 4\), the image DNA \(60, 90\).*ResizeObjects"
    ):
        run_on(IMAGE, seeds=np.ones((3, 4), int))


def test_a_colour_image_is_refused_as_without_seeds(run_on):
    with pytest.raises(ValueError, match="3 colour channels .*ColorToGray"):
        run_on(Image(np.eye(3, dtype=np.float32)[np.ones(SHAPE, int)]), seeds=NUCLEI)


def test_the_modules_own_objects_are_seeds(run_on):
    """A second DeepSplitSegment takes the place of IdentifySecondaryObjects."""
    first = run_on((NUCLEI > 0).astype(np.float32), smallest_diameter=1.0, discard_border=True)
    workspace = run_on(IMAGE, seeds=cells(first))
    assert cells(workspace).count == 3
    assert measured(workspace, "Children_Nuclei_Count", "Seeds").tolist() == [1, 1, 1]
    assert len(np.unique(cells(workspace).unedited_segmented)) == 5  # and the cell of the one at the border
