"""Which images are learned from, chosen by and tested on; tests of whole folders are in test_cli.py."""

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


@given(st.lists(st.integers(1, 30), min_size=3, max_size=12), st.integers(0, 1000))
def test_pictures_stay_whole(frames, seed):
    """However many frames each movie has: no part is empty, none shares a movie, and the longest is learned from."""
    movies = [Annotation(f"f/m{m}_t{t}", None, None) for m, n in enumerate(frames) for t in range(n)]
    parts = names(split_annotations(movies, seed, r"^m\d+"))
    assert sorted(name for found in parts.values() for name in found) == sorted(movie.name for movie in movies)
    of = {part: {name.split("_")[0] for name in found} for part, found in parts.items()}
    assert all(of.values())
    assert not of["train"] & of["validation"] | of["train"] & of["test"] | of["validation"] & of["test"]
    assert max(frames) in [frames[int(movie[3:])] for movie in of["train"]]
    for part in ("validation", "test"):  # no movie more than it takes to have a tenth of the images
        shortest_without = len(parts[part]) - max(frames[int(movie[3:])] for movie in of[part])
        assert shortest_without < max(1, round(len(movies) / 10))


def test_a_picture_is_what_the_groups_match():
    """The plate and the well, but not the field between them, in whatever order."""
    wells = [Annotation(f"f/plate{p}-field{f}-well{w}", None, None) for p in (1, 2) for f in range(4) for w in "AB"]
    pictures = pictures_of(wells, r"plate(\d)-field\d-well(.)")
    assert sorted(len(images) for images in pictures.values()) == [4, 4, 4, 4]
    assert pictures_of(wells, "").keys() == {well.name[2:] for well in wells}


def test_names_without_picture_and_too_few_pictures():
    with pytest.raises(ValueError, match=r"picture is 'm\\d', but it finds nothing in '000'"):
        split_annotations(annotations(5), 0, r"m\d")
    with pytest.raises(ValueError, match="picture is 'x\\*', but it finds nothing"):
        split_annotations(annotations(5), 0, "x*")
    with pytest.raises(ValueError, match=r"f/004: 1 pictures by '\^0' cannot be divided.* leave --set picture out"):
        split_annotations(annotations(5), 0, "^0")


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
