"""Images that are there twice, under two names: what was learned from the one would be tested on the other."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from .annotations import Annotation

PAIRS_NAMED = 5
SHORT = 8  # hex digits, by which thousands of images are told apart


def digest(image: np.ndarray) -> bytes:
    """Return what copies of an image (Y, X) have in common, whatever the type of file and numbers: size and values."""
    return hashlib.sha256(repr(image.shape).encode() + image.astype(np.float32).tobytes()).digest()


def short_digest(annotation: Annotation) -> str:
    """Return by what a weights file knows an image that was learned."""
    return digest(annotation.read_image()).hex()[:SHORT]


def check_parts_differ(parts: Mapping[str, Sequence[Annotation]]) -> None:
    """Raise ValueError where an image lies in two parts, under two names: its scores would be too good."""
    first: dict[bytes, tuple[str, str]] = {}
    pairs = []
    for part, chosen in parts.items():
        for annotation in chosen:
            other_part, other = first.setdefault(digest(annotation.read_image()), (part, annotation.name))
            if other_part != part:
                pairs.append(f"{other} and {annotation.name} are one image, but would be for {other_part} and {part}")
    if pairs:
        more = f"; and {len(pairs) - PAIRS_NAMED} more pairs" if len(pairs) > PAIRS_NAMED else ""
        raise ValueError(
            f"{'; '.join(pairs[:PAIRS_NAMED])}{more}: what was learned would be tested. Remove one of each pair, or "
            "let `deepsplit-train prepare --data FOLDER ... --repair --output CLEAN`, with all folders at once, write "
            "clean folders without them."
        )
