"""Which images are learned from, chosen by and tested on; tests of whole folders are in test_cli.py."""

import pytest

from training.data.annotations import Annotation
from training.data.division import read_split, split_annotations


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
