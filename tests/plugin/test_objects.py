"""What comes with the objects: discarded ones for later modules, clumps, probability images."""

import imageio.v2 as imageio
import numpy as np
import pytest
from cellprofiler_core.image import Image
from cellprofiler_core.utilities.core.modules import instantiate_module
from drawing import as_sets, contact, discs

SHAPE = (60, 90)
# Sizes: a pair of 9, one of 16 alone, a tiny one, and one at the border of the image.
CELLS = discs(SHAPE, [(20, 15, 9), (20, 32, 9), (38, 62, 16), (8, 80, 2), (55, 8, 7)])
PAIR, LARGE, TINY, BORDER = (1, 2), 3, 4, 5
IMAGE = np.where(contact(CELLS), 0.6, CELLS > 0).astype(np.float32)


def kept(*numbers):
    return as_sets(np.where(np.isin(CELLS, numbers), CELLS, 0))


def objects(workspace, name="Nuclei"):
    return workspace.object_set.get_objects(name)


def measured(workspace, feature, name="Nuclei"):
    return workspace.measurements.get_current_measurement(name, feature)


# Discarded objects


def test_discarded_objects_are_where_identify_primary_objects_documents_them(run_on):
    limits = {"smallest_diameter": 8.0, "largest_diameter": 25.0}
    found = objects(run_on(IMAGE, discard_border=True, watershed=False, **limits))
    assert as_sets(found.segmented) == kept(*PAIR)
    assert as_sets(found.small_removed_segmented) == kept(*PAIR, LARGE, BORDER)  # all but those that are too small
    assert as_sets(found.unedited_segmented) == kept(*PAIR, LARGE, TINY, BORDER)


@pytest.mark.parametrize(
    ("limits", "numbers"),
    [
        ({"smallest_diameter": 1.0}, (*PAIR, LARGE, TINY, BORDER)),
        ({}, (*PAIR, LARGE, TINY, BORDER)),  # the model's own limit has 5 pixels
        ({"smallest_diameter": 5.0}, (*PAIR, LARGE, BORDER)),
        ({"largest_diameter": 25.0}, (*PAIR, TINY, BORDER)),
        ({"largest_diameter": 40.0}, (*PAIR, LARGE, TINY, BORDER)),
    ],
)
def test_the_diameter_range(run_on, limits, numbers):
    assert as_sets(objects(run_on(IMAGE, watershed=False, **limits)).segmented) == kept(*numbers)


def test_objects_have_the_same_numbers_among_those_that_were_discarded(run_on):
    """ExpandOrShrinkObjects mixes both: a number would stand for two objects, and have the neighbours of both."""
    image = IMAGE[::-1].copy()  # the one at the border comes first
    workspace = run_on(image, watershed=False, discard_border=True, largest_diameter=25.0, wants_clumps=True)
    for name in ("Nuclei", "Clumps"):
        found = objects(workspace, name)
        inside = found.segmented > 0
        for others in (found.small_removed_segmented, found.unedited_segmented):
            assert np.array_equal(others[inside], found.segmented[inside])
            assert others[~inside].max() > found.segmented.max() == len(np.unique(others[inside]))
            assert not np.isin(others[~inside], found.segmented[inside]).any()


@pytest.mark.parametrize(
    ("is_edited", "discards", "expected"),
    [(False, False, (False, True)), (True, False, (False, False)), (True, True, (True, True))],
)
def test_edit_objects_manually_finds_the_same_with_and_without_a_speck(run_on, is_edited, discards, expected):
    """It asks whether there are objects before others were discarded, and treats an image otherwise then."""
    others = [instantiate_module("EditObjectsManually")] if is_edited else []
    with_speck = IMAGE.copy()
    with_speck[40, 80:82] = 1  # the model's own limit has 5 pixels
    limits = {"largest_diameter": 80.0} if discards else {}
    is_set = tuple(
        objects(run_on(image, watershed=False, others=others, **limits)).has_unedited_segmented()
        for image in (IMAGE, with_speck)
    )
    assert is_set == expected


@pytest.mark.parametrize("settings", [{"discard_border": True}, {"largest_diameter": 10.0}])
def test_the_real_measure_object_neighbors_counts_discarded_neighbours(run_on, settings):
    image = np.zeros((30, 40), np.float32)
    image[0:18, 5:20] = image[5:14, 22:29] = 1  # a large one at the border, and a small one
    image[5:14, 20:22] = 0.6
    workspace = run_on(image, watershed=False, **settings)
    assert objects(workspace).count == 1
    neighbours = instantiate_module("MeasureObjectNeighbors")
    neighbours.object_name.value = neighbours.neighbors_name.value = "Nuclei"
    neighbours.distance_method.value = "Adjacent"
    neighbours.run(workspace)
    assert measured(workspace, "Neighbors_NumberOfNeighbors_Adjacent").tolist() == [1]


def test_the_real_measure_object_neighbors_leaves_discarded_objects_to_later_modules(run_on):
    """Asked not to count discarded neighbours, CellProfiler 4 erases them in the array that it was given."""
    workspace = run_on(IMAGE, watershed=False, discard_border=True, smallest_diameter=1.0)
    neighbours = instantiate_module("MeasureObjectNeighbors")
    neighbours.object_name.value = neighbours.neighbors_name.value = "Nuclei"
    neighbours.wants_excluded_objects.value = False
    neighbours.run(workspace)
    assert as_sets(objects(workspace).segmented) == kept(*PAIR, LARGE, TINY)
    assert as_sets(objects(workspace).unedited_segmented) == kept(*PAIR, LARGE, TINY, BORDER)


def test_the_real_measure_object_neighbors_does_not_count_what_is_too_small(run_on):
    image = np.zeros((30, 40), np.float32)
    image[3:18, 5:20] = image[5:8, 22:25] = 1
    image[5:8, 20:22] = 0.6
    workspace = run_on(image, watershed=False, smallest_diameter=6.0)
    neighbours = instantiate_module("MeasureObjectNeighbors")
    neighbours.object_name.value = neighbours.neighbors_name.value = "Nuclei"
    neighbours.distance_method.value = "Within a specified distance"
    neighbours.distance.value = 8
    neighbours.run(workspace)
    assert measured(workspace, "Neighbors_NumberOfNeighbors_8").tolist() == [0]


@pytest.mark.parametrize(("image_border", "mask_border"), [(False, False), (True, False), (False, True), (True, True)])
def test_the_border_of_the_image_and_of_the_mask_are_two_settings(run_on, image_border, mask_border):
    mask = np.ones(SHAPE, bool)
    mask[:, :10] = False  # through the left one of the pair, and the one at the border
    settings = {"discard_border": image_border, "discard_mask_border": mask_border, "smallest_diameter": 5.0}
    found = objects(run_on(Image(IMAGE, mask=mask), watershed=False, **settings))
    expected = {LARGE, *PAIR, BORDER}
    expected -= {BORDER} if image_border else set()
    expected -= {1, BORDER} if mask_border else set()
    inside = np.where(mask & np.isin(CELLS, list(expected)), CELLS, 0)
    assert as_sets(found.segmented) == as_sets(inside)


def test_holes_are_filled_if_so_asked(run_on):
    image = IMAGE.copy()
    image[38, 62] = 0
    assert objects(run_on(image, watershed=False)).segmented[38, 62] > 0
    assert objects(run_on(image, watershed=False, fill_holes=False)).segmented[38, 62] == 0


# Clumps


def test_cells_in_a_clump_are_its_children(run_on):
    workspace = run_on(IMAGE, watershed=False, wants_clumps=True, smallest_diameter=5.0)
    clumps = objects(workspace, "Clumps")
    assert as_sets(clumps.segmented) == as_sets(np.where(np.isin(CELLS, (2, TINY)), (CELLS == 2) * 1, CELLS))
    assert sorted(measured(workspace, "Children_Nuclei_Count", "Clumps").tolist()) == [1, 1, 2]
    parents = measured(workspace, "Parent_Clumps")
    for cell, clump in enumerate(parents, start=1):
        assert (clumps.segmented[objects(workspace).segmented == cell] == clump).all()
    assert measured(workspace, "Count_Clumps", "Image") == 3
    assert len(measured(workspace, "Location_Center_X", "Clumps")) == 3
    assert clumps.parent_image is workspace.image_set.get_image("DNA")


def test_the_real_relate_objects_agrees_on_the_children(run_on):
    workspace = run_on(IMAGE, watershed=False, wants_clumps=True)
    children, parents = objects(workspace, "Clumps").relate_children(objects(workspace))
    assert np.array_equal(children, measured(workspace, "Children_Nuclei_Count", "Clumps"))
    assert np.array_equal(parents, measured(workspace, "Parent_Clumps"))


def test_clumps_of_nothing(run_on):
    workspace = run_on(np.zeros(SHAPE, np.float32), wants_clumps=True)
    assert objects(workspace, "Clumps").count == 0
    assert measured(workspace, "Count_Clumps", "Image") == 0
    assert len(measured(workspace, "Children_Nuclei_Count", "Clumps")) == 0


def test_no_clumps_unless_asked(run_on):
    assert run_on(IMAGE).object_set.object_names == ["Nuclei"]


# Probability images


def test_probabilities_are_the_networks_own_at_full_size(run_on, wired_weights):
    import deepsplit_core

    image = IMAGE * np.float32(0.4)  # never as bright as 1
    image[0, 0] = 1
    workspace = run_on(image, wants_probabilities=True, diameter=40.0)
    config = deepsplit_core.SegmentConfig(model=str(wired_weights), diameter=40.0)
    expected = deepsplit_core.predict(image, config).probabilities
    for name, plane in (("CellProbability", expected[0]), ("ContactProbability", expected[1])):
        kept_image = workspace.image_set.get_image(name)
        assert kept_image.pixel_data.dtype == np.float32
        assert np.array_equal(kept_image.pixel_data, plane)
        assert kept_image.parent_image is workspace.image_set.get_image("DNA")


def test_probabilities_keep_mask_and_crop(run_on):
    crop = np.zeros(SHAPE, bool)
    crop[5:50, 3:70] = True
    mask = np.ones((45, 67), bool)
    mask[10:20] = False
    cropped = Image(IMAGE[5:50, 3:70], mask=mask, parent_image=Image(IMAGE), crop_mask=crop)
    probability = run_on(cropped, wants_probabilities=True).image_set.get_image("CellProbability")
    assert np.array_equal(probability.mask, cropped.mask)
    assert np.array_equal(probability.crop_mask, crop)
    assert not probability.pixel_data[~cropped.mask].any()


def test_probabilities_of_an_image_without_contrast_are_zero(run_on):
    images = run_on(np.full(SHAPE, 0.3, np.float32), wants_probabilities=True).image_set
    assert not images.get_image("CellProbability").pixel_data.any()
    assert not images.get_image("ContactProbability").pixel_data.any()


def test_no_probability_images_unless_asked(run_on):
    assert run_on(IMAGE).image_set.names == ["DNA"]


# Shapes


def test_shapes_are_those_of_the_same_labels_loaded_from_a_file(run_on, objects_of, tmp_path):
    """MeasureObjectSizeShape on the module's objects, and on their labels written and read again."""
    workspace = run_on(IMAGE, discard_border=True)
    imageio.imwrite(tmp_path / "labels.tif", objects(workspace).segmented.astype(np.uint16))
    workspace.object_set.add_objects(objects_of(imageio.imread(tmp_path / "labels.tif")), "Loaded")
    shape = instantiate_module("MeasureObjectSizeShape")
    shape.objects_list.value = "Nuclei, Loaded"
    shape.calculate_advanced.value = True
    shape.run(workspace)
    features = [f for f in workspace.measurements.get_feature_names("Nuclei") if f.startswith("AreaShape_")]
    assert {"AreaShape_Area", "AreaShape_FormFactor", "AreaShape_Zernike_4_2"} <= set(features)
    for feature in features:
        ours, loaded = measured(workspace, feature), measured(workspace, feature, "Loaded")
        np.testing.assert_allclose(ours, loaded, rtol=1e-6, err_msg=feature)
