"""`prepare`: the table, and clean copies in which everything that was repaired is told."""

import shutil

import numpy as np
import pytest
import tifffile
from drawing import as_sets, discs, picture
from scipy import ndimage

from deepsplit_core.images import write_png
from training.cli import main
from training.data.annotations import find_annotations
from training.data.prepare import survey, touching_pairs
from training.data.repair import LUMINANCE, part_pieces


def prepare(*arguments):
    return main(["prepare", "--data", *map(str, arguments)])


def table(output):
    """The rows of the last table, as lists of cells."""
    lines = output.splitlines()
    start = max(i for i, line in enumerate(lines) if line.startswith("folder "))
    rows = []
    for line in lines[start + 1 :]:
        if not line:
            break
        rows.append([cell.strip() for cell in line.split("  ") if cell.strip()])
    return rows


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# The table


def test_table_of_a_sound_folder(ignoring, capsys):
    before = contents(ignoring)
    assert prepare(ignoring) == 0
    (row,) = table(capsys.readouterr().out)
    # A pair of discs of radius 7 and one of radius 8 in each of six images; half of one image is ignored.
    assert row[:4] == ["drawn", "6", "18", "48, 52"]
    assert float(row[4]) == pytest.approx(14, abs=0.7)
    assert row[5:] == ["6", "8 %", "0 + 0"]
    assert contents(ignoring) == before


def test_range_of_sizes(data, capsys):
    for kind in ("images", "labels"):
        tifffile.imwrite(data / kind / "wide.tif", np.eye(30, 90, dtype=np.uint16))
    assert prepare(data) == 0
    assert table(capsys.readouterr().out)[0][3] == "30..48, 52..90"


def by_force(labels):
    """Pairs of labels with pixels at most 2 apart, each cell's distances worked out over the whole image."""
    values = [int(v) for v in np.unique(labels) if v]
    distance = {v: ndimage.distance_transform_edt(labels != v) for v in values}
    return [[a, b] for a in values for b in values if a < b and (distance[a][labels == b] <= 2).any()]


@pytest.mark.parametrize(
    ("labels", "pairs"),
    [
        ("1122", [[1, 2]]),
        ("11.22", [[1, 2]]),
        ("11..22", []),
        ("1.. ..2", []),  # 2.2 apart
        ("1. .2", [[1, 2]]),
        (".2 1.", [[1, 2]]),
        ("1 . 2", [[1, 2]]),
        ("12. 12. 333", [[1, 2], [1, 3], [2, 3]]),
    ],
)
def test_touching_pairs_are_at_most_2_pixels_apart(labels, pairs):
    assert touching_pairs(picture(labels)).tolist() == pairs


@pytest.mark.parametrize("seed", range(5))
def test_touching_pairs_against_every_distance(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 7, (9, 14)) * (rng.random((9, 14)) < 0.25)
    assert touching_pairs(labels).tolist() == by_force(labels)


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("usiigaci", ["45", "2900", "1022, 1024", "897", "0 %"]),
        ("endothelium", ["7", "1304", "279..741, 297..770", "3280", "22 %"]),
    ],
)
def test_real_sets_hold_what_is_written_about_them(shared_data, folder, expected):
    row = survey(shared_data / folder).row()
    assert [*row[1:4], *row[5:7]] == expected


# What is wrong


@pytest.fixture
def spoilt(data):
    """Six images, of which the first four have something wrong with them, and a label without an image."""
    (data / "labels" / "field0.tif").unlink()
    tifffile.imwrite(data / "labels" / "field1.tif", np.ones((9, 9), np.uint16))
    labels = discs((48, 52), [(12, 12, 8), (34, 30, 9)])
    labels[44:, 0:3], labels[12:24, 40:50] = 1, 2  # a crumb of cell 1, and a piece of cell 2
    tifffile.imwrite(data / "labels" / "field2.tif", labels.astype(np.uint16))
    tifffile.imwrite(data / "labels" / "field3.tif", np.zeros((48, 52), np.uint16))
    shutil.copy(data / "labels" / "field4.tif", data / "labels" / "lonely.tif")
    return data


def test_problems_are_named_counted_and_refused(spoilt, capsys):
    before = contents(spoilt)
    assert prepare(spoilt) == 1
    captured = capsys.readouterr()
    assert table(captured.out)[0][1] == "4"
    assert table(captured.out)[0][-1] == "3 + 3"
    for line in (
        "1 x image without labels: field0",
        "1 x labels without an image: lonely",
        "1 x sizes that differ: drawn/field1 (",
        "1 x image without cells: drawn/field3",
        "2 x label in several pieces: drawn/field2 (label 1: 2 pieces; label 2: 2 pieces)",
    ):
        assert line in captured.out
    assert "3 problems are to be mended" in captured.err
    assert contents(spoilt) == before


def test_doubts_are_refused_only_when_asked(spoilt):
    for kind, name in (("images", "field0"), ("labels", "lonely"), ("images", "field1"), ("labels", "field1")):
        (spoilt / kind / f"{name}.tif").unlink()
    assert prepare(spoilt) == 0
    assert prepare(spoilt, "--strict") == 1


# Copies


def test_repaired_copy_is_sound_and_tells_what_was_done(spoilt, tmp_path, capsys):
    before = contents(spoilt)
    assert prepare(spoilt, "--output", tmp_path / "clean", "--repair") == 0
    output = capsys.readouterr().out
    for line in (
        "1 x left out, image without labels: drawn/field0",
        "1 x left out, labels without an image: drawn/lonely",
        "1 x left out, sizes that differ: drawn/field1 (",
        "1 x left out, image without cells: drawn/field3",
        "1 x mended: drawn/field2 (label in several pieces: 1 pieces became cells, 1 crumbs became background)",
    ):
        assert line in output
    assert table(output)[0][1] == "3"
    assert table(output)[0][-1] == "0 + 0"
    assert contents(spoilt) == before
    assert prepare(tmp_path / "clean" / "drawn", "--strict") == 0
    found = {annotation.name: annotation.read() for annotation in find_annotations(tmp_path / "clean" / "drawn")}
    assert list(found) == ["drawn/field2", "drawn/field4", "drawn/field5"]
    assert found["drawn/field2"].labels.max() == 3
    assert not found["drawn/field2"].labels[44:, 0:3].any()
    for kind, part in (("images", "image"), ("labels", "labels")):
        original = tifffile.imread(spoilt / kind / "field4.tif")
        copy = getattr(found["drawn/field4"], part)
        assert np.array_equal(copy, original)
    assert found["drawn/field4"].image.dtype == np.uint16


def test_ignored_pixels_are_copied(ignoring, tmp_path):
    assert prepare(ignoring, "--output", tmp_path / "clean") == 0
    assert [path.name for path in (tmp_path / "clean" / "drawn" / "ignore").iterdir()] == ["field0.tif"]
    one, other = find_annotations(ignoring)[0].read(), find_annotations(tmp_path / "clean" / "drawn")[0].read()
    assert np.array_equal(one.ignore, other.ignore)


def test_every_form_is_copied_as_label_images(data, tmp_path):
    labels = tifffile.imread(data / "labels" / "field0.tif")
    (data / "labels" / "field0.tif").unlink()
    (data / "labels" / "field0").mkdir()
    for value in (1, 2, 3):
        write_png(data / "labels" / "field0" / f"{value}.png", (labels == value).astype(np.uint8) * 255)
    assert prepare(data, "--output", tmp_path / "clean") == 0
    assert as_sets(tifffile.imread(tmp_path / "clean" / "drawn" / "labels" / "field0.tif")) == as_sets(labels)


@pytest.mark.parametrize("arguments", [["--repair"], ["--output", "{data}/.."]])
def test_nothing_is_written_over(data, arguments, capsys):
    before = contents(data)
    assert prepare(data, *(a.format(data=data) for a in arguments)) == 1
    assert contents(data) == before
    assert "--output" in (error := capsys.readouterr().err) or "holds images already" in error


def test_nothing_is_written_where_a_later_folder_cannot_be(data, tmp_path, capsys):
    other = shutil.copytree(data, tmp_path / "other")
    shutil.copytree(data, tmp_path / "clean" / "other")
    assert prepare(data, other, "--repair", "--output", tmp_path / "clean") == 1
    assert "other holds images already" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "clean").iterdir()] == ["other"]


def test_folders_of_which_nothing_is_left_are_named_after_the_others_were_written(data, few, tmp_path, capsys):
    shutil.copytree(data, tmp_path / "more")
    for folder in (data, tmp_path / "more"):
        for path in (folder / "labels").iterdir():
            tifffile.imwrite(path, np.ones((9, 9), np.uint16))
    assert prepare(data, few, tmp_path / "more", "--output", tmp_path / "clean", "--repair") == 1
    captured = capsys.readouterr()
    assert f"Nothing of {data}, {tmp_path / 'more'} is left after the repair" in captured.err
    assert [row[:2] for row in table(captured.out)] == [["few", "5"]]
    assert len(find_annotations(tmp_path / "clean" / "few")) == 5


# Copies of one image


def test_images_that_are_there_twice_are_named_and_left_out(data, few, tmp_path, capsys):
    """In other folders too: the five fields of the second are the first five of the first."""
    for kind in ("images", "labels"):
        shutil.copy(data / kind / "field5.tif", data / kind / "field7.tif")
    assert prepare(data, few) == 0
    output = capsys.readouterr().out
    assert "1 x image that is there twice: drawn/field7 (as drawn/field5)" in output
    assert "5 x image that is there twice: few/field0 (as drawn/field0), few/field1 (as drawn/field1)" in output
    assert [row[-1] for row in table(output)] == ["0 + 1", "0 + 5"]
    tifffile.imwrite(few / "images" / "own.tif", np.eye(48, 52, dtype=np.uint16))
    tifffile.imwrite(few / "labels" / "own.tif", np.eye(48, 52, dtype=np.uint16))
    assert prepare(data, few, "--output", tmp_path / "clean", "--repair") == 0
    assert "1 x left out, image that is there twice: drawn/field7 (as drawn/field5)" in capsys.readouterr().out
    names = [a.name for folder in ("drawn", "few") for a in find_annotations(tmp_path / "clean" / folder)]
    assert names == [*(f"drawn/field{i}" for i in range(6)), "few/own"]


def test_of_two_copies_the_one_that_can_be_used_is_kept(data, tmp_path):
    for kind in ("images", "labels"):
        shutil.copy(data / kind / "field5.tif", data / kind / "field7.tif")
    tifffile.imwrite(data / "labels" / "field5.tif", np.zeros((48, 52), np.uint16))
    assert "field7" in repaired(data, tmp_path)


# Single repairs


def in_colour(data, names, equal=False):
    rng = np.random.default_rng(0)
    images = {}
    for name in names:
        images[name] = rng.integers(0, 256, (48, 52, 3)).astype(np.uint8)
        if equal:
            images[name][..., 1:] = images[name][..., :1]
        tifffile.imwrite(data / "images" / f"{name}.tif", images[name], photometric="rgb")
    return images


def repaired(data, tmp_path):
    assert prepare(data, "--output", tmp_path / "clean", "--repair") == 0
    return {a.name.split("/")[1]: a.read() for a in find_annotations(tmp_path / "clean" / "drawn")}


def test_colour_images_become_grey_by_luminance_where_all_are_in_colour(data, tmp_path):
    images = in_colour(data, [f"field{i}" for i in range(6)])
    found = repaired(data, tmp_path)
    assert len(found) == 6
    for name, pixels in images.items():
        expected = sum(share * pixels[..., i] for i, share in enumerate(LUMINANCE))
        np.testing.assert_allclose(found[name].image, expected, rtol=1e-5)


def test_colour_image_among_grey_ones_is_left_out(data, tmp_path, capsys):
    in_colour(data, ["field3"])
    assert "field3" not in repaired(data, tmp_path)
    assert "1 x left out, colour image: drawn/field3 (" in capsys.readouterr().out


def test_colour_image_among_grey_ones_stored_in_colour_is_left_out(data, tmp_path):
    in_colour(data, [f"field{i}" for i in range(5)], equal=True)
    in_colour(data, ["field5"])
    assert sorted(repaired(data, tmp_path)) == [f"field{i}" for i in range(5)]


def test_faulty_images_are_no_colour_images(data, tmp_path):
    """One with NaN is grey; one that cannot be read is neither, so that the others decide."""
    in_colour(data, [f"field{i}" for i in range(4)])
    (data / "images" / "field5.tif").write_bytes(b"damaged")
    for kind in ("images", "labels"):
        (data / kind / "field4.tif").unlink()
    assert len(repaired(data, tmp_path)) == 4
    image = np.full((48, 52), np.nan, np.float32)
    tifffile.imwrite(data / "images" / "field5.tif", image)
    assert prepare(data, "--output", tmp_path / "none", "--repair") == 1


def test_image_of_two_values_is_written(data, tmp_path):
    image = np.eye(48, 52, dtype=bool)
    tifffile.imwrite(data / "images" / "field3.tif", image)
    assert np.array_equal(repaired(data, tmp_path)["field3"].image, image.astype(np.uint8))


def test_grey_image_stored_in_colour_keeps_its_values(data, tmp_path):
    images = in_colour(data, ["field3"], equal=True)
    found = repaired(data, tmp_path)["field3"].image
    assert np.array_equal(found, images["field3"][..., 0])
    assert found.dtype == np.uint8


def test_labels_stored_as_floats_or_colours_are_read(data, tmp_path):
    labels = {name: tifffile.imread(data / "labels" / f"{name}.tif") for name in ("field1", "field2")}
    tifffile.imwrite(data / "labels" / "field1.tif", labels["field1"].astype(np.float32))
    colours = np.repeat(labels["field2"].astype(np.uint8)[..., None], 3, axis=-1)
    tifffile.imwrite(data / "labels" / "field2.tif", colours, photometric="rgb")
    found = repaired(data, tmp_path)
    assert all(np.array_equal(found[name].labels, expected) for name, expected in labels.items())


def test_labels_of_broken_numbers_are_left_out(data, tmp_path):
    tifffile.imwrite(data / "labels" / "field1.tif", np.full((48, 52), 1.5, np.float32))
    assert "field1" not in repaired(data, tmp_path)


@pytest.mark.parametrize(
    ("labels", "expected", "n_new", "n_crumbs"),
    [
        ("111111111..1 ............", "111111111..2 ............", 1, 0),
        ("11111111111111..1 22222............", "11111111111111... 22222............", 0, 1),
        ("11.11.22", "11.22.33", 1, 0),
        ("11111111111111111111111.11.11.11", "11111111111111111111111.22.33.44", 3, 0),
    ],
)
def test_pieces_become_cells_and_crumbs_background(labels, expected, n_new, n_crumbs):
    """A crumb is less than a tenth of its cell's largest piece; of a mask, where that may be a clump, of the median."""
    found, *counts = part_pieces(picture(labels))
    assert counts == [n_new, n_crumbs]
    assert as_sets(found) == as_sets(picture(expected))


def test_whole_labels_keep_their_numbers():
    labels = picture("33.55")
    found, *counts = part_pieces(labels)
    assert counts == [0, 0]
    assert np.array_equal(found, labels)
