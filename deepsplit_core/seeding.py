"""Cells that grow from seeds, nuclei for instance: one for each, as CellProfiler's IdentifySecondaryObjects does."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .outlines import touches_image_border, touches_mask_border

# Separation probabilities in steps of a tenth: what differs by less is no ridge, and the nearer seed gets the pixel.
STEPS = 10


class Seeds(NamedTuple):
    """Where cells are known to be.

    Attributes
    ----------
    labels : (Y, X) int32 array
        0 = no seed, 1..n = one cell each. Numbers above n are seeds that were discarded: their cells keep their
        pixels from the others, and are discarded as well.
    n : int
    """

    labels: np.ndarray
    n: int


def combine_seeds(labels: np.ndarray, all_labels: np.ndarray, mask: np.ndarray | None = None) -> Seeds:
    """Add to the seeds that were kept those that were discarded and touch the border of the image or of its mask.

    They are nuclei of cells that reach into the image. Seeds discarded for another reason (their size) are no seeds.

    Parameters
    ----------
    labels, all_labels : (Y, X) int array
        The seeds that were kept, and all that were found; the numbers need not agree.
    mask : (Y, X) bool array, optional
        Of the image in which the seeds grow.

    Raises
    ------
    ValueError
        A number is larger than the image has pixels (and than 65,536).
    """
    n = int(labels.max(initial=0))
    largest = max(n, int(all_labels.max(initial=0)))
    # What is counted for each number takes memory, and both are numbered after each other, in 32 bits.
    limit = min(max(labels.size, 2**16), 2**30 - 1)
    if largest > limit:
        raise ValueError(
            f"The largest number of a seed is {largest}, expected at most {limit} in an image of this size: number "
            "them anew (`skimage.segmentation.relabel_sequential`)."
        )
    mask = None if mask is None else np.asarray(mask, bool)
    all_labels = all_labels.astype(np.int32)  # CellProfiler's may have 8 bits
    is_other = touches_image_border(all_labels)
    if mask is not None:
        is_other |= touches_mask_border(all_labels, mask)
    is_other[all_labels[labels > 0]] = False
    is_other[0] = False
    return Seeds(np.where(is_other[all_labels], all_labels + n, labels).astype(np.int32), n)


def grow_seeds(seeds: np.ndarray, foreground: np.ndarray, separation: np.ndarray) -> np.ndarray:
    """Spread seeds over the foreground, and meet where the separation probability is highest.

    Parameters
    ----------
    seeds : (Y, X) int32 array
    foreground : (Y, X) bool array
    separation : (Y, X) float array, 0 to 1

    Returns
    -------
    (Y, X) int32 array
        A cell for each seed, with the seed's number; it holds the seed, also where that is not foreground, and is as
        connected as the seed. Foreground that no seed reaches is background.
    """
    # Imported here: scikit-image takes a second to load.
    from skimage.segmentation import watershed

    if not seeds.any():
        return np.zeros(seeds.shape, np.int32)
    ridges = np.rint(separation.astype(np.float32) * STEPS).astype(np.uint8)
    return watershed(ridges, seeds, mask=foreground | (seeds > 0)).astype(np.int32)
