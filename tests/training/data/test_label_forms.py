"""Label images, masks of single cells and the paper's two masks become the same labels."""

import numpy as np
import pytest
import tifffile
from drawing import as_sets, contact, discs, picture
from PIL import Image

from deepsplit_core.images import write_png
from training.data.label_forms import from_label_image, from_object_masks, from_reference_masks, read_mask
from training.data.problems import EMPTY_MASK, LOST, NOT_A_MASK, NOT_LABELS, OVERLAP, SIZES, UNREADABLE, AnnotationError

CELLS = discs((40, 60), [(20, 18, 11), (20, 38, 10), (8, 50, 5)])


def write_masks(folder, masks):
    folder.mkdir()
    for i, mask in enumerate(masks):
        write_png(folder / f"mask{i}.png", np.asarray(mask).astype(np.uint8) * 255)
    return folder


def refused(kind, read, *arguments):
    with pytest.raises(AnnotationError) as refusal:
        read(*arguments)
    assert refusal.value.kind == kind
    return str(refusal.value)


def test_one_mask_for_each_cell(tmp_path):
    folder = write_masks(tmp_path / "masks", [CELLS == n for n in (2, 3, 1)])
    (folder / "notes.txt").write_text("not a mask")
    labels, doubts = from_object_masks(folder)
    assert as_sets(labels) == as_sets(CELLS)
    assert labels.dtype == np.int32
    assert doubts == []


def test_masks_may_abut(tmp_path):
    assert contact(CELLS).any()
    labels = from_object_masks(write_masks(tmp_path / "masks", [CELLS == n for n in (1, 2, 3)])).labels
    assert np.array_equal(contact(labels), contact(CELLS))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_common_pixels_go_to_the_smaller_mask_and_are_counted(tmp_path, order):
    masks = [picture("11111 11111") > 0, picture("...11 .....") > 0]
    labels, doubts = from_object_masks(write_masks(tmp_path / "masks", [masks[i] for i in order]))
    assert as_sets(labels) == as_sets(picture("11122 11111"))
    assert doubts == [(OVERLAP, "2 pixels")]


def test_masks_without_pixels_and_hidden_ones_are_named(tmp_path):
    """A cell outlined twice is one cell, but somebody should know."""
    mask = picture("11...") > 0
    labels, doubts = from_object_masks(write_masks(tmp_path / "masks", [mask, mask, mask & False]))
    assert labels.max() == 1
    assert doubts == [(EMPTY_MASK, "mask2.png"), (OVERLAP, "2 pixels; nothing is left of mask0.png")]


def test_masks_of_two_sizes_and_no_masks_are_refused(tmp_path):
    folder = write_masks(tmp_path / "masks", [np.ones((3, 4)), np.ones((3, 5))])
    assert "(3, 5), but mask0.png is of shape (3, 4)" in refused(SIZES, from_object_masks, folder)
    (tmp_path / "empty").mkdir()
    assert "holds no mask" in refused(NOT_LABELS, from_object_masks, tmp_path / "empty")


def test_reference_masks_of_the_paper(tmp_path):
    """Pieces of segmentation minus separation are the cells, and they get the contact pixels back."""
    write_png(tmp_path / "seg.png", (CELLS > 0).astype(np.uint8) * 255)
    write_png(tmp_path / "sep.png", contact(CELLS).astype(np.uint8) * 255)
    labels, doubts = from_reference_masks(tmp_path / "seg.png", tmp_path / "sep.png")
    assert as_sets(labels) == as_sets(CELLS)
    assert doubts == []


def test_separation_outside_of_the_segmentation_is_background(tmp_path):
    write_png(tmp_path / "seg.png", (picture("111.111") > 0).astype(np.uint8))
    write_png(tmp_path / "sep.png", (picture("..111..") > 0).astype(np.uint8))
    labels = from_reference_masks(tmp_path / "seg.png", tmp_path / "sep.png").labels
    assert np.array_equal(labels, picture("111.222"))


def test_cells_that_are_all_contact_are_counted(tmp_path):
    write_png(tmp_path / "seg.png", (picture("11..111") > 0).astype(np.uint8))
    write_png(tmp_path / "sep.png", (picture("11.....") > 0).astype(np.uint8))
    assert from_reference_masks(tmp_path / "seg.png", tmp_path / "sep.png").doubts == [(LOST, "2 pixels")]


def test_reference_masks_of_two_sizes_are_refused(tmp_path):
    write_png(tmp_path / "seg.png", np.ones((3, 4), np.uint8))
    write_png(tmp_path / "sep.png", np.ones((4, 3), np.uint8))
    assert "(4, 3)" in refused(SIZES, from_reference_masks, tmp_path / "seg.png", tmp_path / "sep.png")


@pytest.mark.parametrize("value", [1, 255])
def test_colour_masks_with_equal_channels_are_masks(tmp_path, value):
    mask = picture("11. ..1") > 0
    write_png(tmp_path / "m.png", np.repeat(mask[..., None].astype(np.uint8) * value, 3, axis=-1))
    assert np.array_equal(read_mask(tmp_path / "m.png"), mask)


@pytest.mark.parametrize(
    "pixels",
    [
        np.array([[0, 100, 255]], np.uint8),  # a smoothed outline: where does the cell end?
        np.array([[3, 7]], np.uint8),  # which of them is outside?
        np.array([[[255, 0, 0], [0, 0, 0]]], np.uint8),
    ],
    ids=["grey", "no zero", "red"],
)
def test_what_is_no_mask_is_refused(tmp_path, pixels):
    write_png(tmp_path / "m.png", pixels)
    assert "a mask has two" in refused(NOT_A_MASK, read_mask, tmp_path / "m.png")


@pytest.mark.parametrize("numbers", [(1, 2), (70000, 4_000_000_000), (9, 2**24)])
def test_label_values_of_any_size_stay_apart(tmp_path, numbers):
    labels = np.array([0, *numbers], np.uint32)[picture("11.22 11.22")]
    tifffile.imwrite(tmp_path / "l.tif", labels)
    found = from_label_image(tmp_path / "l.tif").labels
    assert found.dtype == np.int32
    assert as_sets(found) == as_sets(labels)


def test_one_plane_of_a_stack_is_a_label_image(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.arange(6, dtype=np.uint16).reshape(1, 2, 3))
    assert from_label_image(tmp_path / "a.tif").labels.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_numbers_and_masks_are_read_whatever_colours_show_them(tmp_path):
    """An inverting palette turns background into the brightest colour."""
    for folder, pixels in (("labels.png", [[0, 1, 1], [0, 0, 2]]), ("mask.png", [[0, 0, 1], [0, 0, 1]])):
        picture = Image.fromarray(np.array(pixels, np.uint8))
        picture.putpalette([value for number in range(255, -1, -1) for value in (number, number, number)])
        picture.save(tmp_path / folder)
    assert from_label_image(tmp_path / "labels.png").labels.tolist() == [[0, 1, 1], [0, 0, 2]]
    assert read_mask(tmp_path / "mask.png").tolist() == [[False, False, True], [False, False, True]]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([[0.0, 1.0]], np.float32), "holds float32 values"),
        (np.array([[0, -1]], np.int16), "holds -1"),
        (np.zeros((4, 5, 3), np.uint8), r"(4, 5, 3)"),
    ],
)
def test_what_is_no_label_image_is_refused(tmp_path, labels, message):
    tifffile.imwrite(tmp_path / "l.tif", labels)
    assert message in refused(NOT_LABELS, from_label_image, tmp_path / "l.tif")


def test_file_that_cannot_be_read_is_a_fault_of_its_own(tmp_path):
    (tmp_path / "l.tif").write_text("no picture")
    assert "l.tif" in refused(UNREADABLE, from_label_image, tmp_path / "l.tif")
    assert "gone.tif" in refused(UNREADABLE, from_label_image, tmp_path / "gone.tif")
