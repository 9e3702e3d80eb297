"""The forms in which annotations are kept, all turned into one: labels (Y, X), 0 = background, 1..n = one cell each."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from deepsplit_core.images import IMAGE_SUFFIXES, read_image
from deepsplit_core.splitting import consecutive, give_back, label_segments

from .problems import EMPTY_MASK, LOST, NOT_A_MASK, NOT_LABELS, OVERLAP, SIZES, UNREADABLE, AnnotationError


class Labels(NamedTuple):
    """Labels (Y, X) int32, and what is doubtful about the files that they come from: (kind, detail) each."""

    labels: np.ndarray
    doubts: list[tuple[str, str]]


def read_file(path: Path, is_labels: bool = False) -> np.ndarray:
    """Read an image file as `read_image` does; one that cannot be read is a fault with a name."""
    try:
        return read_image(path, is_labels)
    except (OSError, ValueError) as error:
        raise AnnotationError(UNREADABLE, str(error)) from error


def from_label_image(path: Path) -> Labels:
    """Read whole numbers (Y, X) of which each is one cell."""
    return Labels(as_labels(read_file(path, is_labels=True), path), [])


def as_labels(labels: np.ndarray, path: Path) -> np.ndarray:
    """Return label values of any integer type as int32; they are renumbered only where they would not fit."""
    if labels.dtype.kind not in "bui":
        raise AnnotationError(NOT_LABELS, f"{path} holds {labels.dtype} values, but labels are integers.")
    if labels.ndim == 3 and 1 in labels.shape:  # one plane of a stack, or one channel
        labels = labels.squeeze(labels.shape.index(1))
    if labels.ndim != 2:
        raise AnnotationError(
            NOT_LABELS,
            f"{path} is of shape {labels.shape}, but labels are one whole number for each pixel, (Y, X): write "
            "the numbers of the cells, not a picture of them.",
        )
    if labels.min(initial=0) < 0:
        raise AnnotationError(NOT_LABELS, f"{path} holds {labels.min()}, but 0 is background and cells count from 1.")
    if labels.max(initial=0) > max(labels.size, 1 << 16):  # colour codes, say: lists by label would be huge
        values, index = np.unique(labels, return_inverse=True)
        return (index.reshape(labels.shape) + (values[0] > 0)).astype(np.int32)
    return labels.astype(np.int32)


def from_object_masks(folder: Path) -> Labels:
    """Read a folder with one mask for each cell.

    Pixels in several masks go to the smallest of them: a small cell upon a large one stays whole.
    """
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
    if not paths:
        raise AnnotationError(NOT_LABELS, f"{folder} holds no mask, but one TIFF or PNG for each cell is needed.")
    masks = [read_mask(path) for path in paths]
    for path, mask in zip(paths, masks, strict=True):
        if mask.shape != masks[0].shape:
            raise AnnotationError(
                SIZES,
                f"{path} is of shape {mask.shape}, but {paths[0].name} is of shape {masks[0].shape}: all masks of an "
                "image are of the image's size.",
            )
    doubts = [(EMPTY_MASK, path.name) for path, mask in zip(paths, masks, strict=True) if not mask.any()]
    labels, n_masks = np.zeros(masks[0].shape, np.int32), np.zeros(masks[0].shape, np.int32)
    for number in sorted(range(len(masks)), key=lambda i: -int(masks[i].sum())):
        labels[masks[number]] = number + 1
        n_masks += masks[number]
    if n_masks.max() > 1:
        shown = set(np.unique(labels).tolist())
        hidden = [p.name for i, p in enumerate(paths) if i + 1 not in shown and masks[i].any()]
        detail = f"{int((n_masks > 1).sum())} pixels" + (f"; nothing is left of {', '.join(hidden)}" if hidden else "")
        doubts.append((OVERLAP, detail))
    return Labels(consecutive(labels), doubts)


def from_reference_masks(segmentation: Path, separation: Path) -> Labels:
    """Turn the paper's two masks (Fig. 1) into cells: the pieces between the contact lines, which they get back."""
    seg_mask, separation_mask = read_mask(segmentation), read_mask(separation)
    if seg_mask.shape != separation_mask.shape:
        raise AnnotationError(
            SIZES,
            f"{separation} is of shape {separation_mask.shape}, but its segmentation mask is of shape "
            f"{seg_mask.shape}: both are given for every pixel of the image.",
        )
    labels = give_back(label_segments(seg_mask & ~separation_mask), seg_mask & separation_mask)
    n_lost = int((seg_mask & (labels == 0)).sum())
    return Labels(consecutive(labels), [(LOST, f"{n_lost} pixels")] if n_lost else [])


def read_mask(path: Path) -> np.ndarray:
    """Read a mask, 0 = outside, one other value = inside: (Y, X) bool."""
    mask = read_plane(path)
    values = np.unique(mask)
    if values.size > 2 or (values.size == 2 and values[0] != 0):
        raise AnnotationError(
            NOT_A_MASK,
            f"{path} holds {values.size} values ({values[0]} to {values[-1]}), but a mask has two: 0 outside, one "
            "other value inside.",
        )
    return mask > 0


def read_plane(path: Path) -> np.ndarray:
    """Read the values of a mask: (Y, X) of any type. Channels of a colour file must be equal."""
    mask = read_file(path, is_labels=True)
    if mask.ndim == 3 and mask.shape[-1] in (3, 4):
        if (mask[..., :3] != mask[..., :1]).any():
            raise AnnotationError(NOT_A_MASK, f"{path} is in colour, but a mask has two values: inside and outside.")
        mask = mask[..., 0]
    if mask.ndim != 2:
        raise AnnotationError(NOT_A_MASK, f"{path} is of shape {mask.shape}, but a mask (Y, X) is needed.")
    return mask
