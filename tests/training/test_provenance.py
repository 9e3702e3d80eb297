"""The fingerprint of the data."""

import shutil

import pytest

from training.annotations import find_annotations
from training.provenance import fingerprint


@pytest.fixture
def before(data):
    return fingerprint(find_annotations(data))


def test_order_and_place_of_the_files_do_not_matter(data, before, tmp_path):
    assert fingerprint(find_annotations(data)[::-1]) == before
    shutil.copytree(data, tmp_path / "elsewhere" / "drawn")
    assert fingerprint(find_annotations(tmp_path / "elsewhere" / "drawn")) == before
    assert len(before) == 64


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_one_byte_matters(data, before, kind):
    path = data / kind / "field3.tif"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert fingerprint(find_annotations(data)) != before


def test_names_matter(data, before):
    for kind in ("images", "labels"):
        (data / kind / "field3.tif").rename(data / kind / "field9.tif")
    assert fingerprint(find_annotations(data)) != before


def test_missing_and_further_images_matter(data, before):
    annotations = find_annotations(data)
    assert fingerprint(annotations[:-1]) != before
    assert fingerprint(annotations[:1] + annotations) != before
