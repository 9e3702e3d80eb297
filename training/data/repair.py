"""What can be mended about an annotated image is mended, the rest is left out; every deed is named."""

from __future__ import annotations

import numpy as np

from deepsplit_core.preprocessing import is_constant
from deepsplit_core.splitting import consecutive

from .annotations import Annotated, Annotation
from .checks import pieces_of
from .label_forms import Labels, as_labels, read_file
from .problems import (
    ALL_IGNORED,
    COLOUR,
    CONSTANT,
    DOUBTS,
    EMPTY,
    NOT_LABELS,
    PIECES,
    AnnotationError,
    Problem,
)

LUMINANCE = (0.2125, 0.7154, 0.0721)  # of red, green and blue (ITU-R BT.709), as in scikit-image's rgb2gray
# A piece with a smaller share of the pixels of its cell's largest one is a slip of the pen. Of a mask, whose largest
# piece may be a clump of many cells, the middle one counts in its place.
CRUMB = 0.1


def mend(annotation: Annotation, all_in_colour: bool) -> tuple[Annotated | None, list[Problem]]:
    """Read an annotated image and mend it.

    Parameters
    ----------
    annotation : Annotation
    all_in_colour : bool
        Every image of the folder is in colour, so that luminance is the same thing in all of them. One colour image
        among grey ones is most likely no micrograph.

    Returns
    -------
    Annotated or None
        None: it is left out.
    deeds : list of Problem
        What was done, with the image's name.
    """
    name = annotation.name
    try:
        image, deeds = _mended_image(annotation, all_in_colour)
        (labels, doubts), more = _mended_labels(annotation)
        annotation.check_size(labels, image.shape)
        ignore = annotation.read_ignore(image.shape)
    except AnnotationError as error:
        return None, [Problem(f"left out, {error.kind}", name, str(error))]
    for kind, is_so in ((CONSTANT, is_constant(image)), (ALL_IGNORED, ignore.all()), (EMPTY, not labels.any())):
        if is_so:
            return None, [Problem(f"left out, {kind}", name)]
    deeds += more + [f"{kind} ({detail}): {DOUBTS[kind]}" for kind, detail in doubts]
    labels, n_new, n_crumbs = part_pieces(labels)
    if n_new or n_crumbs:
        deeds.append(f"{PIECES}: {n_new} pieces became cells, {n_crumbs} crumbs became background")
    return Annotated(image, labels, ignore), [Problem("mended", name, deed) for deed in deeds]


def part_pieces(labels: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Make every piece of a cell a cell of its own, and crumbs background.

    Returns
    -------
    labels : (Y, X) int32 array
        The same if there is nothing to do, else renumbered 1..n.
    n_new, n_crumbs : int
        Pieces that became cells, and that became background.
    """
    pieces, cell_of_piece, areas = pieces_of(labels)
    largest = np.zeros(int(cell_of_piece.max(initial=0)) + 1, areas.dtype)
    np.maximum.at(largest, cell_of_piece, areas)
    if np.count_nonzero(largest) == 1:
        largest[largest > 0] = int(np.median(areas[1:]))
    is_crumb = areas < CRUMB * largest[cell_of_piece]
    n_crumbs = int(is_crumb.sum())
    n_new = areas.size - 1 - n_crumbs - int(np.count_nonzero(largest))
    if not (n_new or n_crumbs):
        return labels, 0, 0
    return consecutive(np.where(is_crumb[pieces], 0, pieces)), n_new, n_crumbs


def _mended_image(annotation: Annotation, all_in_colour: bool) -> tuple[np.ndarray, list[str]]:
    try:
        return annotation.read_image(), []
    except AnnotationError as error:
        if error.kind != COLOUR:
            raise
        colours = read_file(annotation.image_path)[..., :3]
        if not all_in_colour:
            raise AnnotationError(COLOUR, f"{error} Other images of the folder are grey.") from error
        # As floats: rounded to 8 bits, a blue stain would keep 18 grey values.
        return (colours @ np.array(LUMINANCE)).astype(np.float32), [f"{COLOUR}: grey by luminance"]


def _mended_labels(annotation: Annotation) -> tuple[Labels, list[str]]:
    try:
        return annotation.read_labels(), []
    except AnnotationError as error:
        path = annotation.labels_path
        if error.kind != NOT_LABELS or path.is_dir():
            raise
        stored = read_file(path, is_labels=True)
        deed = ""
        if stored.ndim == 3 and stored.shape[-1] in (3, 4) and (stored[..., :3] == stored[..., :1]).all():
            stored, deed = stored[..., 0], "labels with equal channels: one was taken"
        if stored.dtype.kind == "f" and np.isfinite(stored).all() and (stored == np.round(stored)).all():
            stored, deed = stored.astype(np.int64), "labels stored as floats: whole numbers were taken"
        if not deed:
            raise
        return Labels(as_labels(stored, path), []), [deed]
