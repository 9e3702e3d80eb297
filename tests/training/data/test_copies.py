"""Images that are there twice, under two names, are found whatever type of file they are in."""

import re
import shutil

import numpy as np
import pytest
import tifffile

from deepsplit_core.images import write_png
from training.data.annotations import find_annotations
from training.data.copies import check_parts_differ, digest
from training.data.division import split_annotations


def twice(data, n):
    """Divide the folder's images and n of them again: a copy is for another part than its image."""
    for i in range(n):
        for kind in ("images", "labels"):
            shutil.copy(data / kind / f"field{i % 6}.tif", data / kind / f"more{i}.tif")
    found = find_annotations(data)
    return {"train": found[:6], "validation": found[6:7], "test": found[7:]}


def test_images_that_differ_are_taken(data):
    check_parts_differ(split_annotations(find_annotations(data), seed=0))


def test_all_pairs_are_named(data):
    with pytest.raises(ValueError, match=r"train and test: what was learned would be tested") as error:
        check_parts_differ(twice(data, 3))
    assert re.findall(
        r"drawn/(\w+) and drawn/(\w+) are one image, but would be for train and (\w+)", str(error.value)
    ) == [
        ("field0", "more0", "validation"),
        ("field1", "more1", "test"),
        ("field2", "more2", "test"),
    ]


def test_of_many_pairs_five_are_named(data):
    with pytest.raises(ValueError, match=r"; and 2 more pairs: what was learned would be tested") as error:
        check_parts_differ(twice(data, 7))
    assert str(error.value).count("are one image") == 5


def test_copies_have_the_same_size_and_values(tmp_path):
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert digest(image) == digest(image.astype(np.uint16)) == digest(image.astype(">f8"))
    assert len({digest(image), digest(image.reshape(4, 3)), digest(image + 1)}) == 3


def test_a_copy_in_another_type_of_file_is_one(data):
    parts = twice(data, 1)
    image = tifffile.imread(data / "images" / "field0.tif") // 256
    tifffile.imwrite(data / "images" / "field0.tif", image)
    (data / "images" / "more0.tif").unlink()
    write_png(data / "images" / "more0.png", image.astype(np.uint8))
    parts["validation"] = [annotation for annotation in find_annotations(data) if annotation.name == "drawn/more0"]
    with pytest.raises(ValueError, match="drawn/field0 and drawn/more0 are one image"):
        check_parts_differ(parts)
