"""What can be wrong with an annotated image: every kind has a name, is counted, and says what a repair does."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

NO_LABELS = "image without labels"
NO_IMAGE = "labels without an image"
NO_IMAGE_OF_IGNORE = "ignore mask without an image"
TWICE = "several files of one name"
UNREADABLE = "file that cannot be read"
COLOUR = "colour image"
NOT_GREY = "image that is not grey and 2-D"
NOT_FINITE = "image with NaN or infinity"
CONSTANT = "image of one grey value"
NOT_LABELS = "labels that are no label image"
NOT_A_MASK = "mask that is no mask"
SIZES = "sizes that differ"
ALL_IGNORED = "image without annotated pixels"

EMPTY = "image without cells"
PIECES = "label in several pieces"
BINARY = "labels of one number, as a mask has"
NOT_READ = "file of another kind or folder in images/, which is not read"
OVERLAP = "masks that overlap"
EMPTY_MASK = "mask without pixels"
COPY = "image that is there twice"
LOST = "contact that reaches no cell"

# Training refuses images with a fault. The text says what a repair does.
FAULTS = {
    NO_LABELS: "left out",
    NO_IMAGE: "left out",
    NO_IMAGE_OF_IGNORE: "left out",
    TWICE: "left out, all of them",
    UNREADABLE: "left out",
    COLOUR: "made grey by luminance if all images of the folder are in colour, else left out",
    NOT_GREY: "left out",
    NOT_FINITE: "left out",
    CONSTANT: "left out",
    NOT_LABELS: "read where they are whole numbers or equal channels, else left out",
    NOT_A_MASK: "left out",
    SIZES: "left out",
    ALL_IGNORED: "left out",
}
# Training takes images with a doubt as they are: a person should look at them.
DOUBTS = {
    NOT_READ: "left out: save it as TIFF or PNG, in images/ itself",
    EMPTY: "left out: most likely nobody annotated it",
    PIECES: "pieces become cells, crumbs background",
    BINARY: "as label in several pieces",
    OVERLAP: "common pixels go to the smallest mask",
    EMPTY_MASK: "no cell comes of it",
    COPY: "left out, all but the first",
    LOST: "becomes background",
}


class Problem(NamedTuple):
    """One thing that is wrong, of which image, and more about it."""

    kind: str
    name: str
    detail: str = ""


class AnnotationError(ValueError):
    """A part of an annotated image cannot be used; `kind` is one of FAULTS."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def faults_in(problems: Iterable[Problem]) -> list[Problem]:
    """Return the problems with which an image cannot be used."""
    return [problem for problem in problems if problem.kind in FAULTS]


def describe(problems: Iterable[Problem]) -> list[str]:
    """Return a line for each kind of problem, or of repair: how many, and every one by its name.

    What is said of several, alike but for their names, is said once.
    """
    by_kind: dict[str, dict[str, list[str]]] = {}
    for kind, name, detail in problems:
        by_kind.setdefault(kind, {}).setdefault(name, []).append(detail)
    lines = []
    for kind, by_name in by_kind.items():
        alike: dict[str, list[str]] = {}
        for name, details in by_name.items():
            alike.setdefault(_without_name("; ".join(filter(None, details)), name), []).append(name)
        groups = []
        for text, names in alike.items():
            own = f"each: {text}" if len(names) > 1 else "; ".join(filter(None, by_name[names[0]]))
            groups.append(", ".join(names) + (f" ({own})" if text else ""))
        lines.append(f"{sum(map(len, by_name.values()))} x {kind}: {', '.join(groups)}")
    return lines


def _without_name(text: str, name: str) -> str:
    """Put NAME for the name of an image's own files."""
    stem = re.escape(name.rsplit("/", 1)[-1])
    return re.sub(rf"(?<![^\s/\\]){stem}(?=(_labels)?[./\\])", "NAME", text)
