"""Annotated images on disk: a folder with `images/` and `labels/`, files of the same name in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deepsplit_core.images import IMAGE_SUFFIXES, read_image
from deepsplit_core.preprocessing import check_image


@dataclass(frozen=True)
class Annotation:
    """One image and the labels of its cells: (Y, X) integers, 0 = background, 1..n = one cell each."""

    name: str
    image_path: Path
    labels_path: Path

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the image (Y, X), and the labels (Y, X) int32, checked against each other."""
        image, labels = check_image(read_image(self.image_path)), read_image(self.labels_path)
        if labels.dtype.kind not in "bui":
            raise ValueError(f"{self.labels_path} holds {labels.dtype} values, but labels are integers.")
        if labels.shape != image.shape:
            raise ValueError(
                f"{self.labels_path} is of shape {labels.shape}, but its image {self.image_path.name} is of shape "
                f"{image.shape}: labels are given for every pixel of the image."
            )
        return image, labels.astype(np.int32)


def find_annotations(folder: Path) -> list[Annotation]:
    """List the annotated images of a folder, sorted by name.

    Raises
    ------
    ValueError
        A folder is missing or empty, or an image or its labels have no partner; all of them are named.
    """
    found: dict[str, dict[str, Path]] = {}
    for kind in ("images", "labels"):
        if not (folder / kind).is_dir():
            raise ValueError(
                f"{folder} has no folder {kind!r}: expected images/ and labels/ with files of the same names."
            )
        paths = sorted(p for p in (folder / kind).iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        found[kind] = {path.stem: path for path in paths}
        twice = sorted({path.stem for path in paths if found[kind][path.stem] != path})
        if twice:
            raise ValueError(f"{folder / kind} holds several files of one name: {twice}.")
    lonely = sorted(set(found["images"]) ^ set(found["labels"]))
    if lonely:
        raise ValueError(
            f"{folder}: {len(lonely)} files have no partner of the same name in images/ and labels/: {lonely}."
        )
    if not found["images"]:
        raise ValueError(f"{folder}/images holds no {' or '.join(IMAGE_SUFFIXES)} files.")
    return [Annotation(f"{folder.name}/{stem}", path, found["labels"][stem]) for stem, path in found["images"].items()]


def split_annotations(
    annotations: Sequence[Annotation], seed: int, shares: tuple[float, float] = (0.1, 0.1)
) -> dict[str, list[Annotation]]:
    """Divide the images of one folder into training, validation and test images.

    Parameters
    ----------
    annotations : sequence of Annotation
    seed : int
        The division depends on it and on the sorted file names alone.
    shares : (float, float)
        Shares of validation and test images; 10 % each in the paper (3.1). Each gets at least one image.
    """
    ordered = sorted(annotations, key=lambda annotation: annotation.name)
    if len(ordered) < 3:
        raise ValueError(
            f"{len(ordered)} annotated images cannot be divided into training, validation and test: 3 are the least."
        )
    order = np.random.default_rng(seed).permutation(len(ordered))
    n_validation, n_test = (max(1, round(share * len(ordered))) for share in shares)
    bounds = {
        "test": order[:n_test],
        "validation": order[n_test : n_test + n_validation],
        "train": order[n_test + n_validation :],
    }
    return {part: [ordered[i] for i in sorted(indices)] for part, indices in bounds.items()}
