"""``python -m training prepare``: what folders of annotated images hold, what is wrong with them, and clean copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tifffile

from deepsplit_core.images import with_replacement, write_labels

from .annotations import Annotated, Annotation, cell_diameters, list_folder
from .checks import examine
from .copies import digest
from .label_forms import read_file
from .problems import COPY, DOUBTS, FAULTS, AnnotationError, Problem, describe, faults_in
from .repair import mend

# Half of the pixels at most 2 away: each pair of pixels is seen from one of its two sides.
NEIGHBOURS = ((0, 1), (0, 2), (1, -1), (1, 0), (1, 1), (2, 0))


@dataclass
class Survey:
    """What a folder holds: numbers over the images that can be used, and the problems of all."""

    folder: Path
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    diameters: list[np.ndarray] = field(default_factory=list)
    n_touching: int = 0
    n_ignored: int = 0
    problems: list[Problem] = field(default_factory=list)
    digests: dict[str, bytes] = field(default_factory=dict)

    def row(self) -> list[str]:
        """Return the folder's row of the table."""
        diameters = np.concatenate([*self.diameters, np.zeros(0)])
        n_pixels = sum(int(np.prod(shape)) for shape in self.shapes)
        n_faults = len(faults_in(self.problems))
        return [
            self.folder.name,
            str(len(self.shapes)),
            str(diameters.size),
            _range_of(self.shapes),
            f"{np.median(diameters):.1f}" if diameters.size else "-",
            str(self.n_touching),
            f"{100 * self.n_ignored / n_pixels:.0f} %" if n_pixels else "-",
            f"{n_faults} + {len(self.problems) - n_faults}",
        ]


COLUMNS = [
    "folder",
    "images",
    "cells",
    "size (Y, X)",
    "median diameter",
    "touching pairs",
    "ignored",
    "faults + doubts",
]


def survey(folder: Path) -> Survey:
    """Read every annotated image of a folder; what is wrong is collected, not raised."""
    annotations, problems = list_folder(folder)
    result = Survey(folder, problems=problems)
    for annotation in annotations:
        found, more = examine(annotation)
        result.problems += more
        if found is None:
            continue
        result.digests[annotation.name] = digest(found.image)
        result.shapes.append(found.labels.shape)
        if found.labels.any():
            result.diameters.append(cell_diameters([found.labels]))
        result.n_touching += len(touching_pairs(found.labels))
        result.n_ignored += int(found.ignore.sum())
    return result


def add_copies(surveys: Sequence[Survey]) -> None:
    """Add to the problems of each folder its images that are there already, in it or in an earlier folder."""
    first: dict[bytes, str] = {}
    for found in surveys:
        for name, of_image in found.digests.items():
            earlier = first.setdefault(of_image, name)
            if earlier != name:
                found.problems.append(Problem(COPY, name, f"as {earlier}"))


def touching_pairs(labels: np.ndarray) -> np.ndarray:
    """Return the pairs of labels with pixels at most 2 apart; (n, 2) int array, the smaller label first."""
    n_y, n_x = labels.shape
    pairs = [np.zeros((0, 2), labels.dtype)]
    for y, x in NEIGHBOURS:
        one = labels[: n_y - y, max(0, -x) : n_x - max(0, x)]
        other = labels[y:, max(0, x) : n_x + min(0, x)]
        differ = (one != other) & (one > 0) & (other > 0)
        pairs.append(np.sort(np.stack([one[differ], other[differ]], axis=1), axis=1))
    return np.unique(np.concatenate(pairs), axis=0)


def write_copy(folder: Path, output: Path, repair: bool, written: dict[bytes, str]) -> list[Problem]:
    """Write a folder's annotated images as images/, labels/ and, where pixels are ignored, ignore/, all TIFF.

    Parameters
    ----------
    folder, output : Path
    repair : bool
        Mend what can be mended and leave out the rest. Without it the folder must have no fault.
    written : dict
        The images that a repair has written by now, of other folders too: digest and name. Those of this one are added.

    Returns
    -------
    list of Problem
        What was done about what was wrong.
    """
    annotations, problems = list_folder(folder)
    deeds = [Problem(f"left out, {p.kind}", f"{folder.name}/{p.name}", p.detail) for p in problems]
    all_in_colour = repair and not any(is_grey(annotation) for annotation in annotations)
    for annotation in annotations:
        found, more = mend(annotation, all_in_colour) if repair else (annotation.read(), [])
        if repair and found is not None:
            earlier = written.setdefault(digest(found.image), annotation.name)
            if earlier != annotation.name:
                found, more = None, [Problem(f"left out, {COPY}", annotation.name, f"as {earlier}")]
        deeds += more
        if found is not None:
            write_annotated(output, annotation.name.split("/", 1)[1], found)
    return sorted(deeds, key=lambda deed: deed.kind)


def write_annotated(output: Path, name: str, annotated: Annotated) -> None:
    """Write one annotated image into images/, labels/ and, if any pixel is ignored, ignore/ of a folder."""
    for kind in ("images", "labels", "ignore") if annotated.ignore.any() else ("images", "labels"):
        (output / kind).mkdir(parents=True, exist_ok=True)
    # tifffile does not compress bilevel images.
    image = annotated.image.astype(np.uint8) if annotated.image.dtype == bool else annotated.image
    with_replacement(
        output / "images" / f"{name}.tif",
        lambda part: tifffile.imwrite(part, image, photometric="minisblack", compression="zlib"),
    )
    write_labels(output / "labels" / f"{name}.tif", annotated.labels)
    if annotated.ignore.any():
        write_labels(output / "ignore" / f"{name}.tif", annotated.ignore.astype(np.int32))


def prepare(folders: Sequence[Path], output: Path | None, repair: bool, strict: bool) -> None:
    """Print what folders hold and what is wrong with them; write a clean copy of each into `output`, if asked.

    Raises
    ------
    ValueError
        Faults are left, or with `strict` doubts, that no repair was asked for; or a repair left nothing of a folder.
    """
    if repair and output is None:
        raise ValueError("--repair changes no file of yours, it writes a clean copy: say where by --output DIR.")
    surveys = [survey(folder) for folder in folders]
    add_copies(surveys)
    print(as_table(surveys))
    for found in surveys:
        for kind, repair_of_kind in (FAULTS | DOUBTS).items():
            for line in describe(p for p in sorted(found.problems) if p.kind == kind):
                print(f"\n{found.folder}: {line}\n  --repair: {repair_of_kind}")
    bad = [p for found in surveys for p in (found.problems if strict else faults_in(found.problems))]
    if bad and not repair:
        raise ValueError(f"{len(bad)} problems are to be mended: by hand, or by --repair --output DIR.")
    if output is None:
        return
    for copy in (output / folder.name for folder in folders):
        if (copy / "images").exists() or (copy / "labels").exists():
            raise ValueError(f"{copy} holds images already: choose another output folder, or remove it.")
    written: dict[bytes, str] = {}
    copies, lost = [], []
    for folder in folders:
        print(f"\n{folder} -> {output / folder.name}")
        for line in describe(write_copy(folder, output / folder.name, repair, written)):
            print(f"  {line}")
        if (output / folder.name / "images").is_dir():
            copies.append(survey(output / folder.name))
        else:
            lost.append(str(folder))
    add_copies(copies)
    print(f"\n{as_table(copies)}")
    if lost:
        raise ValueError(f"Nothing of {', '.join(lost)} is left after the repair: see above what is wrong there.")


def as_table(surveys: Sequence[Survey]) -> str:
    """Return a row for each folder, in columns."""
    rows = [COLUMNS, *(found.row() for found in surveys)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def is_grey(annotation: Annotation) -> bool:
    """Say whether an image that can be read has no colours, whatever else may be wrong with it."""
    try:
        image = read_file(annotation.image_path)
    except AnnotationError:
        return False
    return image.ndim != 3 or image.shape[-1] not in (3, 4) or bool((image[..., :3] == image[..., :1]).all())


def _range_of(shapes: Sequence[tuple[int, ...]]) -> str:
    sides = [sorted({shape[axis] for shape in shapes}) for axis in (0, 1)]
    texts = [f"{side[0]}" if len(side) == 1 else f"{side[0]}..{side[-1]}" for side in sides if side]
    return ", ".join(texts) or "-"
