"""Annotated images on disk: partners are found, and checked against each other."""

import math
import shutil

import numpy as np
import pytest
import tifffile
from drawing import as_sets, contact, discs

from training.data.annotations import cell_diameters, find_annotations, list_folder
from training.data.problems import NOT_READ


def test_partners_are_found_and_read(data):
    found = find_annotations(data)
    assert [annotation.name for annotation in found] == [f"drawn/field{i}" for i in range(6)]
    image, labels, ignore = found[2].read()
    assert np.array_equal(image, tifffile.imread(data / "images" / "field2.tif"))
    assert np.array_equal(labels, tifffile.imread(data / "labels" / "field2.tif"))
    assert labels.dtype == np.int32
    assert ignore.dtype == bool
    assert ignore.shape == labels.shape
    assert not ignore.any()


def test_ignored_pixels_are_read(ignoring):
    found = find_annotations(ignoring)
    assert np.array_equal(found[0].read().ignore, np.indices((48, 52))[1] < 26)
    assert not found[1].read().ignore.any()


def test_ignored_pixels_are_read_from_a_colour_file_with_equal_channels(ignoring):
    path = ignoring / "ignore" / "field0.tif"
    tifffile.imwrite(path, np.repeat(tifffile.imread(path)[..., None], 3, axis=-1))
    assert np.array_equal(find_annotations(ignoring)[0].read().ignore, np.indices((48, 52))[1] < 26)


def test_ignore_masks_without_an_image_are_named(ignoring):
    (ignoring / "ignore" / "field0.tif").rename(ignoring / "ignore" / "feild0.tif")
    with pytest.raises(ValueError, match="1 x ignore mask without an image: feild0"):
        find_annotations(ignoring)


def test_ignore_mask_of_another_size(ignoring):
    tifffile.imwrite(ignoring / "ignore" / "field0.tif", np.zeros((48, 51), np.uint8))
    with pytest.raises(ValueError, match=r"of shape \(48, 51\), but its image field0.tif is of shape \(48, 52\)"):
        find_annotations(ignoring)[0].read()


def test_partners_may_be_of_two_kinds_of_files(data):
    from deepsplit_core.images import write_png

    write_png(data / "images" / "field0.png", np.zeros((48, 52), np.uint8))
    (data / "images" / "field0.tif").unlink()
    assert find_annotations(data)[0].image_path.name == "field0.png"


def as_masks(data, name):
    """Turn one label image into a folder of masks."""
    labels = tifffile.imread(data / "labels" / f"{name}.tif")
    (data / "labels" / f"{name}.tif").unlink()
    (data / "labels" / name).mkdir()
    for value in np.unique(labels[labels > 0]):
        tifffile.imwrite(data / "labels" / name / f"{value}.tif", (labels == value).astype(np.uint8))


def as_reference_masks(data):
    """Turn all label images into the paper's two masks."""
    for path in sorted((data / "labels").iterdir()):
        labels = tifffile.imread(path)
        for kind, mask in (("segmentation", labels > 0), ("separation", contact(labels))):
            (data / kind).mkdir(exist_ok=True)
            tifffile.imwrite(data / kind / path.name, mask.astype(np.uint8) * 255)
    shutil.rmtree(data / "labels")


def test_masks_of_cells_may_stand_for_a_label_image(data):
    """Even in one folder, each image in its own form."""
    before = [annotation.read().labels for annotation in find_annotations(data)]
    as_masks(data, "field3")
    found = find_annotations(data)
    assert [annotation.labels_path.is_dir() for annotation in found] == [i == 3 for i in range(6)]
    for annotation, labels in zip(found, before, strict=True):
        assert as_sets(annotation.read().labels) == as_sets(labels)


def test_reference_masks_may_stand_for_labels(data):
    before = [annotation.read().labels for annotation in find_annotations(data)]
    as_reference_masks(data)
    found = find_annotations(data)
    assert len(found) == 6
    for annotation, labels in zip(found, before, strict=True):
        assert as_sets(annotation.read().labels) == as_sets(labels)


def test_image_with_one_of_two_reference_masks_has_no_labels(data):
    as_reference_masks(data)
    (data / "separation" / "field2.tif").unlink()
    (data / "images" / "field4.tif").unlink()
    with pytest.raises(
        ValueError,
        match=r"image without labels: field2 \(nothing in separation/\); 1 x labels without an image: field4",
    ):
        find_annotations(data)


def test_labels_may_be_named_as_deepsplit_writes_them(data):
    before = [annotation.read().labels for annotation in find_annotations(data)]
    (data / "labels" / "field3.tif").rename(data / "labels" / "field3_labels.tif")
    found = find_annotations(data)
    assert [annotation.name for annotation in found] == [f"drawn/field{i}" for i in range(6)]
    assert all(np.array_equal(annotation.read().labels, labels) for annotation, labels in zip(found, before))


def test_labels_of_both_names_are_refused(data):
    shutil.copy(data / "labels" / "field5.tif", data / "labels" / "field5_labels.tif")
    with pytest.raises(
        ValueError, match=r"several files of one name: field5 \(.*/field5.tif, labels/field5_labels.tif"
    ):
        find_annotations(data)


def test_an_image_whose_own_name_ends_in_labels_keeps_its_labels(data):
    for kind in ("images", "labels"):
        (data / kind / "field3.tif").rename(data / kind / "field2_labels.tif")
    found = {annotation.name: annotation.labels_path.name for annotation in find_annotations(data)}
    assert found["drawn/field2"] == "field2.tif"
    assert found["drawn/field2_labels"] == "field2_labels.tif"


def test_two_forms_of_labels_in_one_folder_are_refused(data):
    shutil.copytree(data / "labels", data / "spare")
    as_reference_masks(data)
    (data / "spare").rename(data / "labels")
    with pytest.raises(ValueError, match="keep one of the two forms"):
        find_annotations(data)


def test_label_image_and_masks_of_one_name_are_refused(data):
    shutil.copytree(data / "labels", data / "labels" / "field5")
    with pytest.raises(ValueError, match=r"several files of one name: field5 \(.*labels/field5, labels/field5.tif\)"):
        find_annotations(data)


def test_other_files_are_left_out(data):
    (data / "images" / "README.txt").write_text("about")
    (data / "labels" / ".hidden.tif").write_text("left by the system")
    (data / "images" / "thumbnails").mkdir()
    assert len(find_annotations(data)) == 6


def test_missing_partners_are_all_named(data):
    (data / "images" / "field1.tif").unlink()
    (data / "labels" / "field4.tif").unlink()
    with pytest.raises(ValueError, match="1 x image without labels: field4; 1 x labels without an image: field1"):
        find_annotations(data)


def test_two_images_of_one_name_are_refused(data):
    """Else one of them would silently be left out."""
    from deepsplit_core.images import write_png

    write_png(data / "images" / "field0.png", np.zeros((48, 52), np.uint8))
    with pytest.raises(ValueError, match="field0"):
        find_annotations(data)


def test_umlauts_of_macos_are_umlauts(data):
    """It writes u and two dots: the names look alike."""
    for kind, umlaut in (("images", "\u00fc"), ("labels", "u\u0308")):
        (data / kind / "field0.tif").rename(data / kind / f"pr{umlaut}fung.tif")
    assert "drawn/pr\u00fcfung" in [annotation.name for annotation in find_annotations(data)]


def test_what_is_not_read_in_images_is_named(data):
    """Neither a folder in it nor a file of another kind is passed over; what the system leaves there is."""
    (data / "images" / "plate1").mkdir()
    for name in ("photo.jpg", ".DS_Store", "Thumbs.db"):
        (data / "images" / name).touch()
    annotations, problems = list_folder(data)
    assert [(problem.kind, problem.name) for problem in problems] == [(NOT_READ, "photo.jpg"), (NOT_READ, "plate1")]
    assert find_annotations(data) == annotations


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_missing_folder(tmp_path, kind):
    (tmp_path / ("labels" if kind == "images" else "images")).mkdir()
    with pytest.raises(ValueError, match=f"has no folder '{kind}'"):
        find_annotations(tmp_path)


def test_empty_folder(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    with pytest.raises(ValueError, match="holds no .tif"):
        find_annotations(tmp_path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((48, 51), np.uint16), r"of shape \(48, 51\), but its image field0.tif is of shape \(48, 52\)"),
        (np.zeros((48, 52, 3), np.uint16), r"of shape \(48, 52, 3\)"),
        (np.zeros((48, 52), np.float32), "holds float32 values, but labels are integers"),
    ],
)
def test_labels_that_do_not_fit(data, labels, message):
    tifffile.imwrite(data / "labels" / "field0.tif", labels)
    with pytest.raises(ValueError, match=message):
        find_annotations(data)[0].read()


# Diameters


def test_diameters_are_those_of_discs():
    labels = [discs((60, 60), [(12, 12, 5), (40, 40, 15)]), discs((40, 40), [(20, 20, 10)])]
    assert cell_diameters(labels) == pytest.approx([10, 30, 20], rel=0.03)
    assert cell_diameters([np.eye(3, dtype=int)]) == pytest.approx([math.sqrt(4 * 3 / math.pi)])


def test_no_cells_have_no_diameter():
    with pytest.raises(ValueError, match="hold no cell"):
        cell_diameters([np.zeros((4, 4), int)])
