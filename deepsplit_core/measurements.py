"""What is measured of cells beside their shape: how certain they are, and how they touch and were cut."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .outlines import borders, count_sides, touches_image_border, touches_mask_border
from .segmentation import Segmentation


class CellMeasurements(NamedTuple):
    """One value for each cell, in the order of its numbers.

    Borders between cells are those of the cells with contact pixels given back. Discarded cells still have them, but
    for those below the smallest cell of the splitting, which are no cells.

    Attributes
    ----------
    mean_probability : (n,) float array, 0 to 1
        Of being cell, over the cell's pixels.
    contact_share : (n,) float array, 0 to 1
        Pixel sides that the cell shares with other cells, as a share of those of its outline.
    cut_length : (n,) float array
        Length of all its borders with other cells, in pixels: each of them is a cut, of the separation decoder or of
        the watershed, as without cuts they would be one piece.
    touches_border : (n,) int array
        1 if the cell touches the border of the image or of its mask, else 0.
    n_cuts : int
        Pairs of cells that share a border.
    """

    mean_probability: np.ndarray
    contact_share: np.ndarray
    cut_length: np.ndarray
    touches_border: np.ndarray
    n_cuts: int


def measure_cells(found: Segmentation) -> CellMeasurements:
    """Measure the cells of `found.labels`."""
    labels = found.labels
    is_cell = labels > 0
    sums = np.bincount(labels[is_cell], found.prediction.probabilities[0][is_cell])
    areas = np.bincount(labels[is_cell])

    pairs, lengths, _, n_sides = borders(found.touching)
    outline = count_sides(found.touching)
    shared, cut = (np.bincount(pairs.ravel(), np.repeat(v, 2), minlength=outline.size) for v in (n_sides, lengths))

    touches = touches_image_border(labels)
    if found.prediction.mask is not None:
        touches |= touches_mask_border(labels, found.prediction.mask)
    return CellMeasurements(
        mean_probability=sums[1:] / areas[1:],
        contact_share=shared[found.numbers] / outline[found.numbers],
        cut_length=cut[found.numbers].astype(float),  # where there is no border at all, `bincount` counts in integers
        touches_border=touches[1:].astype(int),
        n_cuts=len(pairs),
    )
