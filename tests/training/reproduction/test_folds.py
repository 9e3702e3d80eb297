"""Images of one size, and divisions in which no image is tested that was seen."""

import numpy as np
import pytest
import tifffile

from deepsplit_core.images import write_labels
from deepsplit_core.outlines import border_pixels, borders
from training.data.annotations import Annotation, find_annotations
from training.reproduction.folds import leave_two_out, resized


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
    """Half the height: the image is a mean over its surroundings, each label that of a pixel in its place."""
    original = find_annotations(ignoring)[0].read()
    image, labels, ignore = resized(find_annotations(ignoring), 24)[0].read()
    assert image.shape == labels.shape == ignore.shape == (24, 24)
    assert image.mean() == pytest.approx(original.image.mean(), rel=0.02)
    assert image.max() < original.image.max()
    assert set(np.unique(labels)) == set(np.unique(original.labels))
    # Rows 0, 2, ... and columns 0, 2.17, ..., half of that further on.
    in_place = original.labels[1::2][:, [int((i + 0.5) * 52 / 24) for i in range(24)]]
    assert np.array_equal(labels[labels > 0], in_place[labels > 0])
    assert ((in_place > 0) & (labels == 0)).sum() == border_pixels(in_place).sum() > 0
    assert ignore[:, :12].all()
    assert not ignore[:, 12:].any()


def test_touching_cells_get_a_gap_and_others_stay_as_they_are(few):
    """Of the size that the images have: two discs that touch, and one alone."""
    annotation = find_annotations(few)[1]
    original = annotation.read().labels[:48, :48]
    write_labels(annotation.labels_path, original)
    tifffile.imwrite(annotation.image_path, annotation.read_image()[:48, :48])
    (found,) = resized([annotation], 48)
    labels = found.read().labels
    assert len(borders(original).pairs) == 1
    assert len(borders(labels).pairs) == 0
    assert np.array_equal(labels == 3, original == 3)
    assert 0 < (labels != original).sum() < 40
