"""Annotated images on disk: a folder with `images/` and one of three forms of labels, joined by the files' names.

`labels/NAME.tif` is a label image, or `labels/NAME_labels.tif`, as `deepsplit segment` writes it; `labels/NAME/*.png`
is one mask for each cell; `segmentation/NAME.tif` with `separation/NAME.tif` are the paper's two reference masks.
`ignore/NAME.tif` (nonzero) may mark what nobody annotated.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deepsplit_core.images import IMAGE_SUFFIXES
from deepsplit_core.preprocessing import check_image

from .label_forms import Labels, from_label_image, from_object_masks, from_reference_masks, read_file, read_plane
from .problems import (
    COLOUR,
    NO_IMAGE,
    NO_IMAGE_OF_IGNORE,
    NO_LABELS,
    NOT_FINITE,
    NOT_GREY,
    NOT_READ,
    SIZES,
    TWICE,
    AnnotationError,
    Problem,
    describe,
    faults_in,
)


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
    """Where the parts of one annotated image are.

    Attributes
    ----------
    name : str
        Folder and file name without ending.
    image_path : Path
    labels_path : Path
        A label image; a folder with one mask for each cell; or, beside a separation mask, the segmentation mask.
    ignore_path, separation_path : Path or None
    """

    name: str
    image_path: Path
    labels_path: Path
    ignore_path: Path | None = None
    separation_path: Path | None = None

    def read(self) -> Annotated:
        """Read all parts and check them against each other."""
        image = self.read_image()
        labels, ignore = self.read_labels().labels, self.read_ignore(image.shape)
        self.check_size(labels, image.shape)
        return Annotated(image, labels, ignore)

    def read_image(self) -> np.ndarray:
        """Read the image and check that it is grey: (Y, X)."""
        image = read_file(self.image_path)
        if image.ndim == 2 and image.dtype.kind == "f" and not np.isfinite(image).all():
            raise AnnotationError(
                NOT_FINITE,
                f"{self.image_path} holds NaN or infinity, but grey values are finite: put another value there, and "
                "mark these pixels in ignore/.",
            )
        try:
            return check_image(image)
        except ValueError as error:
            kind = COLOUR if image.ndim == 3 and image.shape[-1] in (3, 4) else NOT_GREY
            raise AnnotationError(kind, f"{self.image_path}: {error}") from error

    def read_labels(self) -> Labels:
        """Read the labels from whichever form they have: (Y, X) int32."""
        if self.separation_path is not None:
            return from_reference_masks(self.labels_path, self.separation_path)
        return from_object_masks(self.labels_path) if self.labels_path.is_dir() else from_label_image(self.labels_path)

    def read_ignore(self, shape: tuple[int, ...]) -> np.ndarray:
        """Read the mask of ignored pixels, of the image's shape: (Y, X) bool; without one, no pixel is ignored."""
        if self.ignore_path is None:
            return np.zeros(shape, bool)
        ignore = read_plane(self.ignore_path)
        if ignore.shape != shape:
            raise AnnotationError(
                SIZES,
                f"{self.ignore_path} is of shape {ignore.shape}, but its image {self.image_path.name} is of shape "
                f"{shape}: the mask of ignored pixels is given for every pixel of the image.",
            )
        return ignore != 0

    def check_size(self, labels: np.ndarray, shape: tuple[int, ...]) -> None:
        """Refuse labels that are not of the image's shape."""
        if labels.shape != shape:
            raise AnnotationError(
                SIZES,
                f"{self.labels_path} is of shape {labels.shape}, but its image {self.image_path.name} is of shape "
                f"{shape}: labels are given for every pixel of the image.",
            )


def find_annotations(folder: Path) -> list[Annotation]:
    """List the annotated images of a folder, sorted by name.

    Raises
    ------
    ValueError
        A folder is missing or empty, a file has no partner, or several have one name; all of them are named.
    """
    annotations, problems = list_folder(folder)
    if faults := faults_in(problems):
        raise ValueError(f"{folder}: {'; '.join(describe(faults))}. {HOW_TO_REPAIR}")
    return annotations


HOW_TO_REPAIR = (
    "Mend the files, or let `deepsplit-train prepare --data FOLDER --repair --output CLEAN` write a clean copy."
)


def list_folder(folder: Path) -> tuple[list[Annotation], list[Problem]]:
    """List the images that have all their parts, and what has no partner, shares a name or is not read.

    Raises
    ------
    ValueError
        The folder holds no images, or no or two forms of labels.
    """
    kinds = _kinds_of_labels(folder)
    found = {kind: _files_by_name(folder / kind) for kind in ("images", *kinds, "ignore")}
    for name in found["images"]:  # `deepsplit segment` writes the labels of NAME as NAME_labels
        if f"{name}_labels" in found.get("labels", {}) and f"{name}_labels" not in found["images"]:
            found["labels"].setdefault(name, []).extend(found["labels"].pop(f"{name}_labels"))
    twice = {name for files in found.values() for name, paths in files.items() if len(paths) > 1}
    problems = [
        Problem(TWICE, name, ", ".join(f"{kind}/{path.name}" for kind in found for path in found[kind].get(name, [])))
        for name in sorted(twice)
    ]
    problems += [Problem(NOT_READ, path.name) for path in sorted((folder / "images").iterdir()) if _is_not_read(path)]
    images = set(found["images"])
    if not images:
        raise ValueError(f"{folder}/images holds no {' or '.join(IMAGE_SUFFIXES)} files.")
    for name in sorted(set().union(*found.values()) - twice):
        missing = [kind for kind in kinds if name not in found[kind]]
        if name in images and missing:
            problems.append(Problem(NO_LABELS, name, f"nothing in {' and '.join(missing)}/" if len(kinds) > 1 else ""))
        elif name not in images:
            kind = NO_IMAGE if len(missing) < len(kinds) else NO_IMAGE_OF_IGNORE
            problems.append(Problem(kind, name))
    whole = [name for name in sorted(images - twice) if all(name in found[kind] for kind in kinds)]
    # Sorted by kind, so that a report has each once.
    return [_annotation(folder, name, found) for name in whole], sorted(problems)


def _kinds_of_labels(folder: Path) -> tuple[str, ...]:
    """Return the subfolders with the labels: one with label images or masks of cells, or two with reference masks."""
    has = {kind: (folder / kind).is_dir() for kind in ("images", "labels", "segmentation", "separation")}
    pair = has["segmentation"] and has["separation"]
    if has["labels"] and pair:
        raise ValueError(f"{folder} holds labels/ and segmentation/ with separation/: keep one of the two forms.")
    for kind in ("images", "labels"):
        if not has[kind] and not (kind == "labels" and pair):
            raise ValueError(
                f"{folder} has no folder {kind!r}: expected images/ with files of the same names in labels/, or in "
                "segmentation/ and separation/."
            )
    return ("labels",) if has["labels"] else ("segmentation", "separation")


def _files_by_name(folder: Path) -> dict[str, list[Path]]:
    """Return image files and, in labels/, folders of masks by their names without ending; hidden ones are no data."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        is_masks = folder.name == "labels" and path.is_dir()
        if not path.name.startswith(".") and (is_masks or path.suffix.lower() in IMAGE_SUFFIXES):
            # macOS writes an umlaut as two characters.
            name = unicodedata.normalize("NFC", path.name if is_masks else path.stem)
            found.setdefault(name, []).append(path)
    return found


def _is_not_read(path: Path) -> bool:
    is_hidden = path.name.startswith(".") or path.name.lower() in ("thumbs.db", "desktop.ini")
    return not is_hidden and (path.is_dir() or path.suffix.lower() not in IMAGE_SUFFIXES)


def _annotation(folder: Path, name: str, found: dict[str, dict[str, list[Path]]]) -> Annotation:
    path = {kind: files[name][0] for kind, files in found.items() if name in files}
    labels = path["labels"] if "labels" in path else path["segmentation"]
    return Annotation(f"{folder.name}/{name}", path["images"], labels, path.get("ignore"), path.get("separation"))


def cell_diameters(labels: Sequence[np.ndarray]) -> np.ndarray:
    """Return the diameters of all cells in pixels, those of discs with the same areas; (n,) float."""
    areas = np.concatenate([np.unique(image[image > 0], return_counts=True)[1] for image in labels])
    if areas.size == 0:
        raise ValueError("The annotated images hold no cell.")
    return np.sqrt(4 * areas / np.pi)
