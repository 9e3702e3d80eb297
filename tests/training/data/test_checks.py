"""What is wrong with an annotated image is found, by its kind."""

import numpy as np
import pytest
import tifffile
from drawing import picture

from training.data.annotations import find_annotations
from training.data.checks import check_cells, checked_annotations, doubts_about, examine
from training.data.division import split_annotations
from training.data.problems import DOUBTS, FAULTS, Problem, describe

SPOIL = {
    "file that cannot be read": ("images", None),
    "colour image": ("images", np.arange(48 * 52 * 3).reshape(48, 52, 3).astype(np.uint8)),
    "image that is not grey and 2-D": ("images", np.arange(48 * 52 * 2).reshape(2, 48, 52).astype(np.uint16)),
    "image with NaN or infinity": ("images", np.full((48, 52), np.nan, np.float32)),
    "image of one grey value": ("images", np.full((48, 52), 7, np.uint16)),
    "labels that are no label image": ("labels", np.full((48, 52), 0.5, np.float32)),
    "sizes that differ": ("labels", np.ones((52, 48), np.uint16)),
    "mask that is no mask": ("ignore", np.arange(48 * 52 * 3, dtype=np.uint8).reshape(48, 52, 3)),
    "image without annotated pixels": ("ignore", np.ones((48, 52), np.uint8)),
    "image without cells": ("labels", np.zeros((48, 52), np.uint16)),
    "labels of one number, as a mask has": ("labels", np.pad(np.full((8, 12), 255, np.uint8), 20)),
    "label in several pieces": (
        "labels",
        np.eye(48, 52, dtype=np.uint16) * (np.arange(52) % 5 > 0) * (1 + np.arange(52) // 30),
    ),
}


def spoil(data, kind, name="field2"):
    """Replace a part of one image so that it has this problem."""
    part, pixels = SPOIL[kind]
    (data / part).mkdir(exist_ok=True)
    if pixels is None:
        (data / part / f"{name}.tif").write_text("damaged")
    else:
        tifffile.imwrite(data / part / f"{name}.tif", pixels.astype(pixels.dtype))


@pytest.mark.parametrize("kind", SPOIL)
def test_problem_is_found_in_the_one_image_that_has_it(data, kind):
    spoil(data, kind)
    found = {annotation.name: examine(annotation) for annotation in find_annotations(data)}
    annotated, problems = found.pop("drawn/field2")
    assert {problem.kind for problem in problems} == {kind}
    assert {problem.name for problem in problems} == {"drawn/field2"}
    assert (annotated is None) == (kind in FAULTS)
    assert all(problems == [] for _, problems in found.values())


def test_several_problems_of_one_image_are_all_found(data):
    spoil(data, "colour image")
    spoil(data, "labels that are no label image")
    kinds = [problem.kind for problem in examine(find_annotations(data)[2])[1]]
    assert kinds == ["colour image", "labels that are no label image"]


@pytest.mark.parametrize("inside", [1, 255])
def test_masks_in_place_of_labels_are_refused(data, inside):
    """Else a training would learn that no cells touch."""
    for path in (data / "labels").iterdir():
        tifffile.imwrite(path, (tifffile.imread(path) > 0).astype(np.uint8) * inside)
    with pytest.raises(ValueError, match=r"one number, as masks have.*segmentation/ and separation/"):
        checked_annotations(data)


def without_cells(annotations):
    for annotation in annotations:
        tifffile.imwrite(annotation.labels_path, np.zeros((48, 52), np.uint16))


def test_no_cell_at_all_is_refused(data):
    parts = split_annotations(find_annotations(data), seed=0)
    check_cells(parts)
    without_cells(find_annotations(data))
    with pytest.raises(ValueError, match=r"No image of drawn has a labelled cell: are these the labels\?"):
        check_cells(parts)


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_a_part_without_a_cell_is_refused(data, part):
    """Thresholds cannot be chosen without one, and finding nothing would be a perfect score."""
    parts = split_annotations(find_annotations(data), seed=0)
    without_cells(parts[part])
    with pytest.raises(ValueError, match=rf"images of drawn those for {part} have no labelled cell.*--set seed=N"):
        check_cells(parts)


def test_cells_that_nobody_looks_at_are_none(ignoring):
    """Ignored, they count neither in a loss nor in a score."""
    (annotation,) = find_annotations(ignoring)[:1]
    tifffile.imwrite(annotation.labels_path, np.pad(np.full((9, 9), 1, np.uint16), ((20, 19), (5, 38))))
    with pytest.raises(ValueError, match="have no labelled cell"):
        check_cells({"train": find_annotations(ignoring)[1:], "validation": [annotation]})


@pytest.mark.parametrize("kind", [kind for kind in SPOIL if kind in FAULTS])
def test_faults_are_refused_for_all_images_at_once(data, kind):
    for name in ("field1", "field4"):
        spoil(data, kind, name)
    with pytest.raises(ValueError, match=rf"2 x {kind}: drawn/field1.*drawn/field4"):
        checked_annotations(data)


@pytest.mark.parametrize("kind", [kind for kind in SPOIL if kind in DOUBTS])
def test_doubts_are_counted_and_let_through(data, kind, capsys):
    spoil(data, kind)
    assert len(checked_annotations(data)) == 6
    assert f"x {kind}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("labels", "n_pieces"),
    [
        ("11.11 22222", {1: 2}),
        ("1.1.1 .222.", {1: 3}),
        ("1.... .1...", {}),  # pixels that meet at a corner are one piece
        ("11122 11122", {}),
    ],
)
def test_pieces_are_counted_by_label(labels, n_pieces):
    expected = [("label in several pieces", f"label {label}: {n} pieces") for label, n in n_pieces.items()]
    assert doubts_about(picture(labels)) == expected


def test_report_counts_and_names_all():
    problems = [Problem("a", "one", "x"), Problem("b", "two"), Problem("a", "one", "y"), Problem("a", "three")]
    assert describe(problems) == ["3 x a: one (x; y), three", "1 x b: two"]


def test_report_says_once_what_is_alike_but_for_names():
    problems = [
        Problem("a", "drawn/1", "/drawn/1.tif is of shape (11, 1), not as 1.tif."),
        Problem("a", "drawn/2", "/drawn/2.tif is of shape (11, 1), not as 2.tif."),
        Problem("a", "drawn/3", "/drawn/3.tif is of shape (12, 1), not as 3.tif."),
    ]
    assert describe(problems) == [
        "3 x a: drawn/1, drawn/2 (each: /drawn/NAME.tif is of shape (11, 1), not as NAME.tif.), "
        "drawn/3 (/drawn/3.tif is of shape (12, 1), not as 3.tif.)"
    ]


def test_colour_images_are_named_after_one_sentence(data):
    for name in ("field1", "field4"):
        spoil(data, "colour image", name)
    with pytest.raises(ValueError, match=r"2 x colour image: drawn/field1, drawn/field4 \(each: ") as error:
        checked_annotations(data)
    assert str(error.value).count("3 colour channels") == 1
