"""Annotated images on disk: a folder with `images/`, `labels/` and, if need be, `ignore/`: files of the same name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deepsplit_core.images import IMAGE_SUFFIXES, read_image
from deepsplit_core.preprocessing import check_image


class Annotated(NamedTuple):
    """An annotated image in memory.

    Attributes
    ----------
    image : (Y, X) array of any integer, float or bool type
    labels : (Y, X) int32 array
        0 = background, 1..n = one cell each.
    ignore : (Y, X) bool array
        Pixels that nobody annotated, neither cell nor background: no loss and no score counts them.
    """

    image: np.ndarray
    labels: np.ndarray
    ignore: np.ndarray


@dataclass(frozen=True)
class Annotation:
    """Where one image, the labels of its cells and the mask of ignored pixels (nonzero; none: no pixel) are."""

    name: str
    image_path: Path
    labels_path: Path
    ignore_path: Path | None = None

    def read(self) -> Annotated:
        """Read all parts and check them against each other."""
        image, labels = check_image(read_image(self.image_path)), read_image(self.labels_path)
        if labels.dtype.kind not in "bui":
            raise ValueError(f"{self.labels_path} holds {labels.dtype} values, but labels are integers.")
        if labels.shape != image.shape:
            raise ValueError(
                f"{self.labels_path} is of shape {labels.shape}, but its image {self.image_path.name} is of shape "
                f"{image.shape}: labels are given for every pixel of the image."
            )
        if self.ignore_path is None:
            return Annotated(image, labels.astype(np.int32), np.zeros(image.shape, bool))
        ignore = read_image(self.ignore_path)
        if ignore.shape != image.shape:
            raise ValueError(
                f"{self.ignore_path} is of shape {ignore.shape}, but its image {self.image_path.name} is of shape "
                f"{image.shape}: the mask of ignored pixels is given for every pixel of the image."
            )
        return Annotated(image, labels.astype(np.int32), ignore > 0)


def find_annotations(folder: Path) -> list[Annotation]:
    """List the annotated images of a folder, sorted by name.

    Raises
    ------
    ValueError
        A folder is missing or empty, or an image, labels or a mask in `ignore/` has no partner; all of them are named.
    """
    found: dict[str, dict[str, Path]] = {"ignore": {}}
    for kind in ("images", "labels", "ignore"):
        if kind == "ignore" and not (folder / kind).is_dir():
            continue
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
    lonely = sorted(set(found["ignore"]) - set(found["images"]))
    if lonely:
        raise ValueError(f"{folder}/ignore holds {len(lonely)} masks of no image of the same name: {lonely}.")
    if not found["images"]:
        raise ValueError(f"{folder}/images holds no {' or '.join(IMAGE_SUFFIXES)} files.")
    return [
        Annotation(f"{folder.name}/{stem}", path, found["labels"][stem], found["ignore"].get(stem))
        for stem, path in found["images"].items()
    ]


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
