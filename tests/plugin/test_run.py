"""Running the module on drawn images: objects, masks, borders, settings, bad input.

The network is wired by hand (`networks.wired_network`), so that the right objects are known pixel by pixel:
grey 0 is background, 1 is cell, 0.6 is contact between cells.
"""

import logging
import sys

import numpy as np
import pytest
from cellprofiler_core.image import Image
from drawing import as_sets, disc, discs, photograph
from scipy import ndimage

import deepsplit_core

CONTACT = 0.6
SHAPE = (40, 60)


def draw():
    """Two touching squares, a disc, and a square at the lower border; the image and the cells without contact."""
    image, cells = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.int32)
    cells[5:15, 5:15] = 1
    cells[5:15, 16:26] = 2
    cells[disc(SHAPE, (28, 12), 5)] = 3
    cells[30:40, 45:55] = 4
    image[cells > 0] = 1
    image[5:15, 15] = CONTACT
    return image, cells


def dumb_bell():
    """Two discs that run into each other along 7 pixels."""
    return (disc(SHAPE, (20, 20), 6) | disc(SHAPE, (20, 30), 6)).astype(np.float32)


def nuclei(workspace):
    return workspace.object_set.get_objects("Nuclei")


def measured(workspace, feature, name="Nuclei"):
    return workspace.measurements.get_current_measurement(name, feature)


def test_objects_are_the_cells_that_were_drawn(run_on):
    image, cells = draw()
    objects = nuclei(run_on(image, contact_to_cells=False))
    assert type(objects.segmented) is np.ndarray
    assert as_sets(objects.segmented) == as_sets(cells)
    assert np.array_equal(np.unique(objects.segmented), np.arange(5))


def test_contact_pixels_go_to_the_cells(run_on):
    image, cells = draw()
    labels = nuclei(run_on(image)).segmented
    assert np.array_equal(labels > 0, image > 0)  # no gap is left
    assert np.array_equal(labels[cells > 0] == labels[10, 10], cells[cells > 0] == 1)


def test_measurements_are_those_of_the_labels(run_on):
    workspace = run_on(draw()[0])
    labels = nuclei(workspace).segmented
    assert measured(workspace, "Count_Nuclei", "Image") == 4
    assert np.array_equal(measured(workspace, "Number_Object_Number"), [1, 2, 3, 4])
    for axis, name in enumerate(("Location_Center_Y", "Location_Center_X")):
        centres = [np.nonzero(labels == label)[axis].mean() for label in range(1, 5)]
        assert measured(workspace, name) == pytest.approx(centres)


def test_the_image_is_not_changed(run_on):
    image, _ = draw()
    before = image.copy()
    run_on(image)
    assert np.array_equal(image, before)


def test_no_object_outside_the_mask(run_on):
    image, cells = draw()
    mask = np.ones(SHAPE, bool)
    mask[:, :20] = False
    workspace = run_on(Image(image, mask=mask))
    labels = nuclei(workspace).segmented
    assert not labels[~mask].any()
    assert as_sets(labels) == as_sets(np.where(mask, cells, 0))
    assert measured(workspace, "Count_Nuclei", "Image") == 2


def test_grey_values_outside_the_mask_do_not_count(run_on):
    image, cells = draw()
    image *= np.float32(0.1)
    image[:, :2] = 1  # debris beside which the cells are dark
    mask = np.ones(SHAPE, bool)
    mask[:, :2] = False
    assert nuclei(run_on(image, watershed=False)).count == 1
    labels = nuclei(run_on(Image(image, mask=mask), contact_to_cells=False)).segmented
    assert as_sets(labels) == as_sets(cells)


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_not_even_in_a_hole_of_the_mask_inside_a_cell(run_on, threshold):
    image, cells = draw()
    mask = np.ones(SHAPE, bool)
    mask[8:10, 8:10] = False
    mask[:, 40:] = False
    own = {"use_model_thresholds": False, "segmentation_threshold": threshold, "separation_threshold": 0.9}
    labels = nuclei(run_on(Image(image, mask=mask), **own)).segmented
    assert labels[12, 12] > 0
    assert not labels[~mask].any()
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))


def test_a_cropped_image_keeps_its_place_in_the_whole(run_on):
    image, _ = draw()
    crop = np.zeros(SHAPE, bool)
    crop[2:38, 3:30] = True
    cropped = Image(image[2:38, 3:30], parent_image=Image(image), crop_mask=crop)
    objects = nuclei(run_on(cropped))
    assert objects.segmented.shape == (36, 27)
    assert objects.count == 3
    assert objects.parent_image is cropped
    # How a later module measures the whole image under these objects.
    assert np.array_equal(objects.crop_image_similarly(image), cropped.pixel_data)


def test_nan_outside_of_the_mask_is_no_part_of_the_image(run_on):
    """CorrectIlluminationApply divides by 0 beside a cropped well."""
    image, cells = draw()
    mask = np.ones(cells.shape, bool)
    mask[:, -3:] = False
    image[:, -3:] = np.nan
    found = nuclei(run_on(Image(image, mask=mask), contact_to_cells=False))
    assert as_sets(found.segmented) == as_sets(np.where(mask, cells, 0))


def test_border_objects_are_discarded_but_not_forgotten(run_on):
    image, cells = draw()
    workspace = run_on(image, discard_border=True, contact_to_cells=False)
    objects = nuclei(workspace)
    assert as_sets(objects.segmented) == as_sets(np.where(cells == 4, 0, cells))
    assert measured(workspace, "Count_Nuclei", "Image") == 3
    # MeasureObjectNeighbors and IdentifySecondaryObjects look at these.
    assert as_sets(objects.unedited_segmented) == as_sets(cells)
    assert as_sets(objects.small_removed_segmented) == as_sets(cells)


def test_an_image_without_contrast_has_no_objects(run_on):
    workspace = run_on(np.full((20, 30), 0.4, np.float32), discard_border=True)
    assert nuclei(workspace).segmented.shape == (20, 30)
    assert nuclei(workspace).count == 0
    assert measured(workspace, "Count_Nuclei", "Image") == 0
    assert len(measured(workspace, "Location_Center_X")) == 0


# CellProfiler's own Objects cannot hold an image of one row, one column or one pixel; the library can.
@pytest.mark.parametrize("shape", [(2, 2), (15, 17), (5, 300), (2500, 40)])
def test_odd_sizes(run_on, shape):
    image = np.zeros(shape, np.float32)
    image[:, : shape[1] // 2] = 1
    objects = nuclei(run_on(image, smallest_diameter=1.0))
    assert np.array_equal(objects.segmented > 0, image > 0)


def test_more_than_65535_objects_keep_their_labels(run_on):
    image = np.zeros((520, 530), np.float32)
    image[::2, ::2] = 1
    workspace = run_on(image, smallest_diameter=1.0, watershed=False, contact_to_cells=False)
    labels = nuclei(workspace).segmented
    assert measured(workspace, "Count_Nuclei", "Image") == 260 * 265
    assert np.array_equal(labels[::2, ::2].ravel(), np.arange(1, 260 * 265 + 1))


@pytest.mark.parametrize(
    ("settings", "n_cells"),
    [
        ({}, 1),  # the model's own longest cut is 4 pixels, the border has 7
        ({"longest_cut": 9.0}, 2),
        ({"longest_cut": 6.0}, 1),
        ({"longest_cut": 9.0, "watershed": False}, 1),
    ],
)
def test_the_watershed_cuts_up_to_the_longest_cut(run_on, settings, n_cells):
    assert nuclei(run_on(dumb_bell(), **settings)).count == n_cells


@pytest.mark.parametrize(
    ("settings", "n_cells"),
    [
        ({}, 2),  # grey 0.32 has a segmentation probability of 0.69
        ({"segmentation_threshold": 0.9}, 2),  # not in use
        ({"use_model_thresholds": False}, 2),
        ({"use_model_thresholds": False, "segmentation_threshold": 0.9}, 1),
    ],
)
def test_the_segmentation_threshold_is_used(run_on, settings, n_cells):
    image = disc(SHAPE, (15, 15), 6) + np.float32(0.32) * disc(SHAPE, (15, 40), 6)
    assert nuclei(run_on(image.astype(np.float32), **settings)).count == n_cells


def test_the_separation_threshold_is_used(run_on):
    image, _ = draw()
    image[5:15, 15] = 0.69  # a separation probability of 0.69
    own = {"use_model_thresholds": False, "watershed": False}
    assert nuclei(run_on(image, separation_threshold=0.5, **own)).count == 4
    assert nuclei(run_on(image, separation_threshold=0.9, **own)).count == 3


def test_the_smallest_object_is_given_by_its_diameter(run_on):
    image = (disc(SHAPE, (15, 15), 8) | disc(SHAPE, (15, 40), 4)).astype(np.float32)
    assert nuclei(run_on(image, smallest_diameter=7.0)).count == 2  # the small disc has 49 pixels: 7.9 across
    assert nuclei(run_on(image, smallest_diameter=9.0)).count == 1


def test_the_diameter_rescales_and_labels_come_back_at_full_size(run_on):
    circles = [(30, 30, 12), (30, 80, 12), (80, 50, 12)]
    drawn = discs((110, 110), circles)
    labels = nuclei(run_on((drawn > 0).astype(np.float32), diameter=50.0)).segmented
    assert labels.shape == drawn.shape
    assert labels.max() == 3
    for label in (1, 2, 3):
        same = labels == labels[circles[label - 1][:2]]
        assert (same & (drawn == label)).sum() / (same | (drawn == label)).sum() > 0.9


@pytest.mark.parametrize("shared", [{}, {"diameter": 12.0, "contact_to_cells": False, "discard_border": True}])
def test_it_gives_what_the_library_gives(run_on, wired_weights, shared):
    noise = ndimage.gaussian_filter(np.random.default_rng(3).standard_normal((90, 130)), 3)
    image = np.clip(noise / noise.max(), 0, 1).astype(np.float32)
    labels = nuclei(run_on(image, longest_cut=6.0, smallest_diameter=4.0, **shared)).segmented
    expected = deepsplit_core.segment(
        image, str(wired_weights), longest_cut=6.0, smallest_cell=4 * np.pi, watershed=True, **shared
    )
    assert expected.max() > 5
    assert np.array_equal(labels, expected)


def test_the_bundled_model_finds_drawn_nuclei(run_on):
    circles = [(y, x, 9) for y in range(25, 200, 40) for x in range(25, 240, 40)]
    drawn = discs((210, 250), circles)
    image = (photograph(drawn) / 65535).astype(np.float32)
    labels = nuclei(run_on(image, model="nuclei")).segmented
    found = [labels[y, x] for y, x, _ in circles]
    assert all(found)
    assert len(set(found)) == len(circles)  # apart from each other
    assert labels.max() <= 1.2 * len(circles)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image(np.eye(3, dtype=np.float32)[np.ones((20, 30), int)]), "3 colour channels .*ColorToGray"),
        (Image(np.zeros((4, 20, 30), np.float32), dimensions=3), "DNA is a volume .*Process as 3D.*in Metadata"),
        (np.where(np.eye(20), np.nan, 0.5), "NaN or infinity in 20 of 400 values"),
        (np.where(np.eye(20), np.inf, 0.5), "NaN or infinity in 20 of 400 values"),
    ],
    ids=["colour", "volume", "nan", "infinity"],
)
def test_what_cannot_be_segmented_stops_the_run(run_on, image, message):
    with pytest.raises(ValueError, match=message):
        run_on(image)


def test_a_damaged_weights_file_stops_the_run(run_on, wired_weights):
    content = wired_weights.read_bytes()
    wired_weights.write_bytes(content[:-200])
    with pytest.raises(ValueError, match="wired.safetensors is not a usable DeepSplit weights file"):
        run_on(draw()[0])


def test_a_missing_torch_is_named_with_its_cure(run_on, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"torch.*-m pip install torch") as caught:
        run_on(draw()[0], where="This Python")
    assert sys.executable in str(caught.value)


def test_a_missing_device_stops_the_run(run_on, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(RuntimeError, match="'cuda' was asked for"):
        run_on(draw()[0], device="CUDA")


def test_one_line_of_log_for_an_image(run_on, caplog, wired_weights):
    with caplog.at_level(logging.INFO):
        run_on(draw()[0], device="CPU")
    (line,) = [record.getMessage() for record in caplog.records if "DeepSplitSegment" in record.getMessage()]
    assert str(wired_weights) in line
    assert "on cpu" in line
    assert "in tiles of 1024" in line
    assert "4 Nuclei, 1 cuts" in line
    assert line.endswith(" s")
