"""The images of the paper's tables: brought to one size, and divided for training, validation and test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from deepsplit_core.inference import resize
from deepsplit_core.outlines import border_pixels

from ..data.annotations import Annotated, Annotation
from ..data.division import split_annotations
from ..learning.dataset import nearest

Parts = dict[str, list[Annotation]]


@dataclass(frozen=True)
class Resized(Annotation):
    """An annotated image that is brought to `side` x `side` pixels when it is read.

    Cells that touch get a gap of two pixels, in what is learned and in what is scored. Eq. 1 weights the background
    between cells: without any, a U-Net has no way to part them, and where everything that is annotated is cell (the
    endothelium) it has nothing to learn.
    """

    side: int = 512  # the paper's images (3.1)

    def read(self) -> Annotated:
        """Read all parts: the image is resampled linearly, labels and ignored pixels are those of the nearest pixel."""
        image, labels, ignore = super().read()
        shape = (self.side, self.side)
        labels, ignore = nearest(labels, shape), nearest(ignore, shape)
        return Annotated(resize(image.astype(np.float32), shape), np.where(border_pixels(labels), 0, labels), ignore)


def resized(annotations: Sequence[Annotation], side: int) -> list[Annotation]:
    """Return the annotations, to be read at `side` x `side` pixels."""
    return [Resized(**vars(annotation), side=side) for annotation in annotations]


def one_division(annotations: Sequence[Annotation], seed: int) -> list[Parts]:
    """Divide the images once, 80 to 10 to 10 % (paper, 3.1)."""
    return [split_annotations(annotations, seed)]


def leave_two_out(annotations: Sequence[Annotation], seed: int) -> list[Parts]:
    """Divide few images several times: each is a test image once, two at a time, and one of the others validates."""
    if len(annotations) < 4:
        raise ValueError(f"{len(annotations)} annotated images: 4 are the least where two at a time are tested.")
    order = np.random.default_rng(seed).permutation(len(annotations))
    divisions = []
    for start in range(0, len(order), 2):
        others = np.concatenate([order[start + 2 :], order[:start]])
        numbers = {"train": others[1:], "validation": others[:1], "test": order[start : start + 2]}
        divisions.append({part: [annotations[i] for i in sorted(chosen)] for part, chosen in numbers.items()})
    return divisions


DIVISIONS: dict[str, Callable[[Sequence[Annotation], int], list[Parts]]] = {
    "usiigaci": one_division,
    "endothelium": leave_two_out,
}
