"""Cutting an image into overlapping tiles and putting the results together: geometry alone, in pixels.

A tile reads a halo beyond what it keeps, so that what it keeps was computed with its surroundings. Tiles start at
multiples of the network's pooling, so that all of them are pooled on one grid, the grid of the whole image. With a
halo as wide as the network's reach the stitched result is the whole image's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np

from .config import TilingConfig


@dataclass(frozen=True)
class Span:
    """One axis of a tile: it reads start..stop of the image and keeps keep_start..keep_stop."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int


@dataclass(frozen=True)
class Tile:
    """A rectangle that the network sees and the part of it that is kept."""

    y: Span
    x: Span

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Return the tile's pixels of a (Y, X) image; what lies beyond the image is mirrored."""
        inside = image[self.y.start : self.y.stop, self.x.start : self.x.stop]
        missing = [(0, span.stop - span.start - n) for span, n in zip((self.y, self.x), inside.shape)]
        return np.pad(inside, missing, mode="symmetric") if np.any(missing) else inside

    def paste(self, result: np.ndarray, target: np.ndarray) -> None:
        """Write what the tile keeps of its result (..., tile Y, tile X) into the target (..., Y, X)."""
        y, x = self.y, self.x
        target[..., y.keep_start : y.keep_stop, x.keep_start : x.keep_stop] = result[
            ..., y.keep_start - y.start : y.keep_stop - y.start, x.keep_start - x.start : x.keep_stop - x.start
        ]


def plan(shape: tuple[int, ...], config: TilingConfig, multiple: int) -> list[Tile]:
    """Cover an image with tiles of one size, row by row.

    Parameters
    ----------
    shape : (int, int)
        Y and X of the image.
    config : TilingConfig
    multiple : int
        Tiles start at, and have sides of, multiples of this.

    Returns
    -------
    list of Tile
        Every pixel is kept by exactly one. Tiles may reach beyond the image at its lower and right border.
    """
    for name in ("tile", "halo"):
        if getattr(config, name) % multiple:
            raise ValueError(
                f"TilingConfig.{name} is {getattr(config, name)}, but this network needs a multiple of {multiple}."
            )
    rows, columns = (_spans(n, config.tile, config.halo, multiple) for n in shape)
    return [Tile(row, column) for row in rows for column in columns]


def _spans(n: int, tile: int, halo: int, multiple: int) -> Sequence[Span]:
    if n <= tile:
        return [Span(0, _round_up(n, multiple), 0, n)]
    # The first and the last tile have a halo on one side only: n_tiles steps and two halos cover the axis.
    n_tiles = -(-(n - 2 * halo) // (tile - 2 * halo))
    step = _round_up(-(-(n - 2 * halo) // n_tiles), multiple)
    side, end = step + 2 * halo, _round_up(n, multiple)
    spans = []
    for i in range(n_tiles):
        # No tile reaches beyond what the whole image is padded to: there the network sees zeros in both cases.
        start = min(i * step, end - side)
        keep_start = i * step + halo if i else 0
        keep_stop = (i + 1) * step + halo if i < n_tiles - 1 else n
        if keep_start < n:
            spans.append(Span(start, start + side, keep_start, min(keep_stop, n)))
    return spans


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple
