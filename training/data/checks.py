"""Every annotated image of a folder is read and looked at before a run starts: all that is wrong is said at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from skimage import measure

from deepsplit_core.preprocessing import is_constant

from .annotations import HOW_TO_REPAIR, Annotated, Annotation, list_folder
from .problems import ALL_IGNORED, BINARY, CONSTANT, EMPTY, PIECES, AnnotationError, Problem, describe, faults_in


def checked_annotations(folder: Path) -> list[Annotation]:
    """List the annotated images of a folder if all of them can be used; doubts are counted on the screen.

    Raises
    ------
    ValueError
        Names every file that cannot be used.
    """
    annotations, problems = list_folder(folder)
    for annotation in annotations:
        problems += examine(annotation)[1]
    faults = faults_in(problems)
    if faults:
        raise ValueError(f"{folder}: {'; '.join(describe(faults))}. {HOW_TO_REPAIR}")
    kinds = [problem.kind for problem in problems]
    if kinds.count(BINARY) > 1 and kinds.count(BINARY) + kinds.count(EMPTY) == len(annotations):
        raise ValueError(
            f"{folder}: all labels of an image have one number, as masks have, so that nothing tells touching cells "
            "apart. Give label images (1..n = one cell each), one mask for each cell (labels/NAME/*.png), or two "
            "masks (segmentation/ and separation/). Where no cells touch, `deepsplit-train prepare --data FOLDER "
            "--repair --output CLEAN` numbers them."
        )
    for kind in sorted(set(kinds)):
        print(f"{folder}: {kinds.count(kind)} x {kind}; `deepsplit-train prepare --data FOLDER` names them", flush=True)
    return annotations


def check_cells(parts: Mapping[str, Sequence[Annotation]]) -> None:
    """Raise ValueError where there is no cell to learn from, to choose by or to test on.

    A network that finds none would get perfect scores there. A folder of empty fields beside others is no mistake, so
    that the parts of all folders are looked at together.
    """

    def has_cells(annotations: Sequence[Annotation]) -> bool:
        return any((labels[~ignore] > 0).any() for _, labels, ignore in (a.read() for a in annotations))

    without = [part for part, annotations in parts.items() if not has_cells(annotations)]
    if not without:
        return
    folders = sorted({annotation.name.split("/")[0] for chosen in parts.values() for annotation in chosen})
    if len(without) < len(parts):
        raise ValueError(
            f"Of the images of {', '.join(folders)} those for {' and '.join(without)} have no labelled cell: label "
            "more images, or divide them in another way (--set seed=N)."
        )
    raise ValueError(
        f"No image of {', '.join(folders)} has a labelled cell: are these the labels? They are 0 outside of cells and "
        "1..n inside. Give the folder in which the cells are labelled, or label them."
    )


def examine(annotation: Annotation) -> tuple[Annotated | None, list[Problem]]:
    """Read an annotated image and say all that is wrong with it; nothing comes back if it cannot be used."""
    problems = []
    image = labels = ignore = None
    try:
        image = annotation.read_image()
        if is_constant(image):
            problems.append(Problem(CONSTANT, annotation.name))
    except AnnotationError as error:
        problems.append(Problem(error.kind, annotation.name, str(error)))
    try:
        labels, doubts = annotation.read_labels()
        problems += [Problem(kind, annotation.name, detail) for kind, detail in doubts + doubts_about(labels)]
        if image is not None:
            annotation.check_size(labels, image.shape)
    except AnnotationError as error:
        problems.append(Problem(error.kind, annotation.name, str(error)))
    try:
        if image is not None:
            ignore = annotation.read_ignore(image.shape)
            if ignore.all():
                problems.append(Problem(ALL_IGNORED, annotation.name))
    except AnnotationError as error:
        problems.append(Problem(error.kind, annotation.name, str(error)))
    if image is None or labels is None or ignore is None or faults_in(problems):
        return None, problems
    return Annotated(image, labels, ignore), problems


def doubts_about(labels: np.ndarray) -> list[tuple[str, str]]:
    """Find what a person should look at in labels (Y, X): (kind, detail) each."""
    if not labels.any():
        return [(EMPTY, "")]
    _, cell_of_piece, _ = pieces_of(labels)
    numbers, n_pieces = np.unique(cell_of_piece[1:], return_counts=True)
    # A single cell may well have the number 1, in one piece.
    is_mask = numbers.size == 1 and (numbers[0] > 1 or n_pieces[0] > 1)
    binary = [(BINARY, f"{numbers[0]} everywhere")] if is_mask else []
    return binary + [(PIECES, f"label {n}: {k} pieces") for n, k in zip(numbers, n_pieces, strict=True) if k > 1]


def pieces_of(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give each connected piece of a cell a number; pixels that meet at a corner are connected.

    Returns
    -------
    pieces : (Y, X) int array
        0 = background, 1..n = one piece each.
    cell_of_piece, areas : (n + 1,) int arrays
        The label of each piece, and its pixels; those of the background are 0.
    """
    pieces = measure.label(labels, background=0, connectivity=2)
    areas = np.bincount(pieces.ravel())
    areas[0] = 0
    cell_of_piece = np.zeros(areas.size, labels.dtype)
    cell_of_piece[pieces.ravel()] = labels.ravel()
    return pieces, cell_of_piece, areas
