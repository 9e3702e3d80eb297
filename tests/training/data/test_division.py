"""Which images are learned from, chosen by and tested on; tests of whole folders are in test_cli.py."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.annotations import Annotation
from training.data.division import pictures_of, read_split, split_annotations


def annotations(n, folder="f"):
    return [Annotation(f"{folder}/{i:03}", None, None) for i in range(n)]


def names(parts):
    return {part: [annotation.name for annotation in found] for part, found in parts.items()}


@pytest.mark.parametrize(("n", "counts"), [(3, (1, 1, 1)), (5, (3, 1, 1)), (50, (40, 5, 5)), (200, (160, 20, 20))])
def test_shares_are_the_papers(n, counts):
    """80 %, 10 %, 10 % (3.1)."""
    parts = split_annotations(annotations(n), seed=0)
    assert tuple(len(parts[part]) for part in ("train", "validation", "test")) == counts
    every = [name for found in names(parts).values() for name in found]
    assert sorted(every) == [f"f/{i:03}" for i in range(n)]


def test_division_depends_on_seed_and_names_alone():
    parts = names(split_annotations(annotations(30), seed=3))
    assert names(split_annotations(annotations(30)[::-1], seed=3)) == parts
    assert names(split_annotations(annotations(30), seed=4)) != parts


def test_division_is_random_not_by_name():
    parts = names(split_annotations(annotations(100), seed=0))
    assert parts["test"] != sorted(parts["test"] + parts["train"])[: len(parts["test"])]
    assert max(parts["test"]) > min(parts["train"])
    assert min(parts["test"]) < max(parts["train"])


def test_too_few_images():
    with pytest.raises(ValueError, match="f/000, f/001: 2 annotated images cannot be divided"):
        split_annotations(annotations(2), seed=0)


def test_division_of_images_stays_what_it_was():
    """Weights know what they learned, but going on from them needs the same division."""
    parts = names(split_annotations(annotations(10), 0))
    assert (parts["test"], parts["validation"]) == (["f/004"], ["f/006"])


def movies(frames):
    return [Annotation(f"f/m{m}_t{t}", None, None) for m, n in enumerate(frames) for t in range(n)]


@given(st.lists(st.integers(1, 30), min_size=3, max_size=12), st.integers(0, 1000))
def test_pictures_stay_whole(frames, seed):
    """However many frames each movie has, no part is empty, none shares a movie."""
    parts = names(split_annotations(movies(frames), seed, r"^m\d+"))
    assert sorted(name for found in parts.values() for name in found) == sorted(a.name for a in movies(frames))
    of = {part: {name.split("_")[0] for name in found} for part, found in parts.items()}
    assert all(of.values())
    assert not of["train"] & of["validation"] | of["train"] & of["test"] | of["validation"] & of["test"]
    for part in ("validation", "test"):
        assert len(parts[part]) <= max(1, round(sum(frames) / 10)) or len(of[part]) == 1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("frames", "counts"),
    [([4] * 30, (96, 12, 12)), ([50, 40, 10, 20], (90, 20, 10)), ([2] + [30] * 9, (240, 30, 2))],
)
def test_shares_of_pictures(frames, counts, seed):
    """A tenth of the images, or fewer, if whole movies are so short; else all of the shortest one."""
    parts = split_annotations(movies(frames), seed, r"^m\d+")
    assert tuple(len(parts[part]) for part in ("train", "validation", "test")) == counts


def test_a_picture_is_what_the_groups_match():
    """The plate and the well, but not the field between them, in whatever order."""
    wells = [Annotation(f"f/plate{p}-field{f}-well{w}", None, None) for p in (1, 2) for f in range(4) for w in "AB"]
    pictures = pictures_of(wells, r"plate(\d)-field\d-well(.)")
    assert {key: len(images) for key, images in pictures.items()} == {"1 A": 4, "1 B": 4, "2 A": 4, "2 B": 4}
    assert pictures_of(wells, "").keys() == {well.name[2:] for well in wells}


@pytest.mark.parametrize("picture", [r"m\d", "x*", "^(a)?(b)?"])
def test_names_without_a_picture(picture):
    with pytest.raises(ValueError, match=f"picture is '{re.escape(picture)}', but it finds nothing in f/000: give"):
        split_annotations(annotations(5), 0, picture)


def test_too_few_pictures():
    with pytest.raises(ValueError, match=r"^f: 7 images are of 2 pictures by '\^m\.' \(m0, m1\), which cannot be"):
        split_annotations(movies([3, 4]), 0, "^m.")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"folders": ["C:\\data"]}', r"split\.json is no JSON file .*Invalid \\escape"),
        ('{"folders": [], "train": [], "validation": []}', "object with folders, train, validation, test, and nothing"),
        ("[]", "must be a JSON object"),
    ],
)
def test_a_division_that_a_person_damaged_is_named(tmp_path, content, message):
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_split(tmp_path)
