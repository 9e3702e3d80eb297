"""Images of one size, and divisions in which no image is tested that was seen."""

import numpy as np
import pytest

from training.annotations import Annotation, find_annotations
from training.folds import leave_two_out, resized


def named(n):
    return [Annotation(f"drawn/{i}", None, None) for i in range(n)]


@pytest.mark.parametrize("n", [4, 5, 7])
def test_leave_two_out_tests_every_image_once_and_none_that_was_seen(n):
    divisions = leave_two_out(named(n), seed=3)
    assert sorted(a.name for parts in divisions for a in parts["test"]) == [a.name for a in named(n)]
    assert [len(parts["test"]) for parts in divisions] == [2] * (n // 2) + [1] * (n % 2)
    for parts in divisions:
        assert sorted(a.name for part in parts.values() for a in part) == [a.name for a in named(n)]
        assert len(parts["validation"]) == 1
        assert parts["train"]
    assert divisions != leave_two_out(named(n), seed=4)


def test_too_few_images_for_leave_two_out():
    with pytest.raises(ValueError, match="3 annotated images: 4 are the least"):
        leave_two_out(named(3), seed=0)


def test_images_are_smoothed_and_labels_are_not(ignoring):
    """Half the size: the image is a mean over its surroundings, each label that of a pixel in its place."""
    original = find_annotations(ignoring)[0].read()
    (annotation, *_) = resized(find_annotations(ignoring), 24)
    image, labels, ignore = annotation.read()
    assert image.shape == labels.shape == ignore.shape == (24, 24)
    assert image.mean() == pytest.approx(original.image.mean(), rel=0.02)
    assert image.max() < original.image.max()
    assert set(np.unique(labels)) == set(np.unique(original.labels))
    assert np.array_equal(labels, original.labels[1::2][:, (np.arange(24) + 0.5).__mul__(52 / 24).astype(int)])
    assert ignore[:, :12].all()
    assert not ignore[:, 12:].any()
