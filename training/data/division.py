"""Which images are learned from, chosen by and tested on: 80, 10 and 10 % of each folder (paper, 3.1)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .annotations import Annotation, list_folder
from .checks import check_cells, checked_annotations
from .copies import check_parts_differ

PARTS = ("train", "validation", "test")
FEWEST = 3  # images of a folder, or pictures, that can be divided


def divide(folders: list[Path], seed: int, picture: str = "") -> dict[str, list[Annotation]]:
    """Divide every folder's images on its own, and join the parts of all folders.

    One or two images (or pictures, see `pictures_of`) beside another folder's are all learned from: corrected ones,
    say, that came later. A picture whose images lie in two folders is two pictures.
    """
    what = "pictures" if picture else "images"
    parts: dict[str, list[Annotation]] = {"train": [], "validation": [], "test": []}
    for folder in folders:
        annotations = checked_annotations(folder)
        pictures = pictures_of(annotations, picture)
        if picture:
            print(f"{folder}: {len(annotations)} images of {len(pictures)} pictures", flush=True)
        if len(pictures) < FEWEST and len(folders) > 1:
            print(f"{folder}: fewer than {FEWEST} {what}, which are all learned from", flush=True)
            parts["train"] += annotations
            continue
        for part, chosen in split_annotations(annotations, seed, picture).items():
            parts[part] += chosen
    if not parts["test"]:
        raise ValueError(
            f"None of {', '.join(map(str, folders))} has {FEWEST} {what}, so that none would be left to choose by and "
            "to test on: put them into one folder, or label more."
        )
    check_cells(parts)
    check_parts_differ(parts)
    return parts


def read_split(run: Path) -> dict[str, list[Annotation]]:
    """Return the division of the images that a run was made with."""
    path = run / "split.json"
    if not path.is_file():
        raise ValueError(f"{run} is no folder of a run: it has no split.json.")
    split = read_names(path)
    if lost := [folder for folder in split["folders"] if not Path(folder).is_dir()]:
        raise ValueError(
            f"{run} was made with images in {', '.join(lost)}, where no folder is now: put it back or, if it has "
            f'another path with the same last folder, write that in place of it under "folders" in {path}.'
        )
    found = {a.name: a for folder in split["folders"] for a in list_folder(Path(folder))[0]}  # others may be new
    parts = {part: split[part] for part in PARTS}
    gone = sorted({name for chosen in parts.values() for name in chosen} - set(found))
    if gone:
        raise ValueError(f"{run} was made with images that are gone from {split['folders']}, or incomplete: {gone}.")
    return {part: [found[name] for name in chosen] for part, chosen in parts.items()}


def read_names(path: Path) -> dict[str, list[str]]:
    """Return what `split.json` of a run says, which people may edit: its folders, and names of images by part."""
    try:
        split: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON file ({error}): mend it. In a path, \\ is written \\\\.") from error
    if not isinstance(split, dict) or set(split) != {"folders", *PARTS}:
        raise ValueError(f"{path} must be a JSON object with folders, {', '.join(PARTS)}, and nothing else: mend it.")
    return split


def split_annotations(annotations: Sequence[Annotation], seed: int, picture: str = "") -> dict[str, list[Annotation]]:
    """Divide the images of one folder into training, validation and test images.

    Validation and test get 10 % each, as in the paper (3.1), but at least one image. Pictures stay whole: where none
    has so few images, it is all those of the smallest.

    Parameters
    ----------
    annotations : sequence of Annotation
    seed : int
        The division depends on it, on the sorted file names and on `picture` alone.
    picture : str
        As in `pictures_of`.
    """
    ordered = sorted(annotations, key=lambda annotation: annotation.name)
    pictures = pictures_of(ordered, picture)
    if len(pictures) < FEWEST and picture:
        raise ValueError(
            f"{ordered[0].name.rsplit('/', 1)[0]}: {len(ordered)} images are of {len(pictures)} pictures by "
            f"'{picture}' ({', '.join(pictures)}), which cannot be divided into training, validation and test, "
            f"{FEWEST} are the least. Annotate images of others, or leave --set picture out."
        )
    if len(pictures) < FEWEST:
        raise ValueError(
            f"{', '.join(a.name for a in ordered)}: {len(ordered)} annotated images cannot be divided into training, "
            f"validation and test, {FEWEST} are the least. Annotate more or, if it is one large image, cut it into "
            "pieces that do not overlap; scores are then too good, as the test image is one of the same picture."
        )
    keys = list(pictures)
    left = [pictures[keys[i]] for i in np.random.default_rng(seed).permutation(len(keys))]
    tenth = max(1, round(len(ordered) / 10))
    parts: dict[str, list[Annotation]] = {"train": [], "validation": [], "test": []}
    for part, n_later in (("test", 2), ("validation", 1)):  # each of the later parts gets one picture at least
        while len(left) > n_later:
            chosen = next((images for images in left if len(parts[part]) + len(images) <= tenth), None)
            if chosen is None and not parts[part]:
                chosen = min(left, key=len)
            if chosen is None:
                break
            left.remove(chosen)
            parts[part] += chosen
    parts["train"] = [annotation for images in left for annotation in images]
    return {part: sorted(chosen, key=lambda annotation: annotation.name) for part, chosen in parts.items()}


def pictures_of(annotations: Sequence[Annotation], picture: str) -> dict[str, list[Annotation]]:
    """Return the images of a folder by the picture, or movie, that they are pieces, or frames, of.

    Parameters
    ----------
    annotations : sequence of Annotation
    picture : str
        A regular expression. Images for whose file name, without ending, it finds the same are of one picture; if it
        has groups, what these match counts alone. Empty: every image is a picture of its own.

    Raises
    ------
    ValueError
        It finds nothing in the name of an image.
    """
    pictures: dict[str, list[Annotation]] = {}
    for annotation in annotations:
        name = annotation.name.rsplit("/", 1)[-1]
        found = re.search(picture, name) if picture else None
        texts = (found.groups() or (found.group(),)) if found else ()
        if picture and not any(texts):
            raise ValueError(
                f"picture is '{picture}', but it finds nothing in {annotation.name}: give a regular expression that "
                "finds the picture, or movie, in the name of every image."
            )
        pictures.setdefault(" ".join(text or "" for text in texts) if picture else name, []).append(annotation)
    return pictures
