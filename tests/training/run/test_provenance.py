"""The SHA-256 by which a run knows its images."""

import shutil

import pytest

from training.data.annotations import find_annotations
from training.run.provenance import sha256_of_images


@pytest.fixture
def before(data):
    return sha256_of_images(find_annotations(data))


def test_order_and_place_of_the_files_do_not_matter(data, before, tmp_path):
    assert sha256_of_images(find_annotations(data)[::-1]) == before
    shutil.copytree(data, tmp_path / "elsewhere" / "drawn")
    assert sha256_of_images(find_annotations(tmp_path / "elsewhere" / "drawn")) == before
    assert len(before) == 64


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_one_byte_matters(data, before, kind):
    path = data / kind / "field3.tif"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert sha256_of_images(find_annotations(data)) != before


def test_names_matter(data, before):
    for kind in ("images", "labels"):
        (data / kind / "field3.tif").rename(data / kind / "field9.tif")
    assert sha256_of_images(find_annotations(data)) != before


def test_missing_and_further_images_matter(data, before):
    annotations = find_annotations(data)
    assert sha256_of_images(annotations[:-1]) != before
    assert sha256_of_images(annotations[:1] + annotations) != before


def test_every_mask_of_a_cell_matters(masks):
    before = sha256_of_images(find_annotations(masks))
    one = masks / "labels" / "field3" / "1.png"
    one.rename(one.with_name("7.png"))
    renamed = sha256_of_images(find_annotations(masks))
    one.with_name("7.png").unlink()
    assert len({before, renamed, sha256_of_images(find_annotations(masks))}) == 3
    shutil.copy(masks / "labels" / "field0" / "1.png", one)  # other bytes under the old name
    assert sha256_of_images(find_annotations(masks)) != before


def test_single_files_are_digested_as_ever(tmp_path):
    """Runs are resumed and exported by later versions: what was written down must be found again."""
    for kind in ("images", "labels"):
        (tmp_path / "drawn" / kind).mkdir(parents=True)
        (tmp_path / "drawn" / kind / "a.tif").write_bytes(kind.encode())
    sha256 = "b3ff8212bb6f8acf249bc1e4600ea1663ce0ce948531c2b37d7ac3fe88c2f126"
    assert sha256_of_images(find_annotations(tmp_path / "drawn")) == sha256
