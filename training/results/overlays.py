"""Test images of a report: what a person outlined and what was found, each cell in the colour of its verdict."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from skimage.segmentation import find_boundaries

from deepsplit_core.metrics import Overlap, overlap_of, without_ignored
from deepsplit_core.outlines import border_pixels
from deepsplit_core.preprocessing import to_grey

from ..learning.validation import fullest_window

# Verdicts are the index of their colour. The colours are those of Okabe and Ito, brighter, which the colour-blind
# tell apart.
RIGHT, WRONG, MERGED, IN_PIECES = range(4)
COLOURS = np.array([(0, 200, 140), (255, 80, 40), (250, 200, 0), (90, 190, 255)], np.uint8)
CUT_COLOUR, IGNORED_COLOUR = (255, 60, 255), (60, 70, 110)
LARGEST = 480  # pixels a side of what is shown: single pixels of outlines have to be seen


class Verdicts(NamedTuple):
    """What became of the annotated cells and of those found: (n,) int arrays, in ascending order of the labels."""

    truth: np.ndarray
    found: np.ndarray


def judge(overlap: Overlap) -> Verdicts:
    """Judge cells as the scores count them: right at an IoU above .5, merged and in pieces by halves that are covered.

    A large cell that swallowed a small one is right in the scores; it is a merge here, as a person should see it.
    What is neither right nor merged nor in pieces is wrong: an annotated cell was missed, a found one is none.
    """
    row, column, pixels = overlap.pixels.row, overlap.pixels.col, overlap.pixels.data
    truth, found = (np.full(len(areas), WRONG) for areas in (overlap.true_areas, overlap.predicted_areas))
    matched = overlap.iou() > 0.5
    truth[row[matched]], found[column[matched]] = RIGHT, RIGHT
    in_found, in_truth = pixels > 0.5 * overlap.true_areas[row], pixels > 0.5 * overlap.predicted_areas[column]
    merges = np.bincount(column[in_found], minlength=len(found)) > 1
    splits = np.bincount(row[in_truth], minlength=len(truth)) > 1
    truth[splits], found[column[in_truth & splits[row]]] = IN_PIECES, IN_PIECES
    truth[row[in_found & merges[column]]], found[merges] = MERGED, MERGED
    return Verdicts(truth, found)


class Panels(NamedTuple):
    """Three pictures of one part of an image, (Y, X, 3) uint8 each, and the part as two slices."""

    image: np.ndarray
    truth: np.ndarray
    found: np.ndarray
    part: tuple[slice, slice]


def draw(image: np.ndarray, truth: np.ndarray, found: np.ndarray, ignore: np.ndarray) -> Panels:
    """Draw the part of an image that has the most cells that are not right.

    Parameters
    ----------
    image : (Y, X) array
    truth, found : (Y, X) integer arrays
        Annotated cells, and cells found.
    ignore : (Y, X) bool array
        Pixels that nobody annotated.
    """
    truth, found = (without_ignored(labels, ignore) for labels in (truth, found))
    verdicts = [
        by_pixel(labels, verdict)
        for labels, verdict in zip((truth, found), judge(overlap_of(truth, found)), strict=True)
    ]
    of_truth, of_found = verdicts
    part = fullest_window((of_truth > RIGHT) | (of_found > RIGHT), LARGEST)
    enlarge = max(1, LARGEST // max(truth[part].shape))
    grey, shown_ignore, *planes = (
        plane[part].repeat(enlarge, axis=0).repeat(enlarge, axis=1)
        for plane in (to_grey(image), ignore, truth, found, *verdicts)
    )
    background = np.repeat(grey[..., None], 3, axis=-1)
    background[shown_ignore] = background[shown_ignore] // 2 + np.array(IGNORED_COLOUR, np.uint8)
    panels = [background]
    for labels, verdict in (planes[0::2], planes[1::2]):
        panel, outline = background.copy(), find_boundaries(labels, mode="inner")
        panel[outline] = COLOURS[verdict[outline]]
        panels.append(panel)
    panels[2][border_pixels(planes[1])] = CUT_COLOUR
    return Panels(panels[0], panels[1], panels[2], part)


def by_pixel(labels: np.ndarray, verdicts: np.ndarray) -> np.ndarray:
    """Return the verdict of each pixel's cell 1..n, and `RIGHT` on the background: (Y, X) int."""
    return np.append(RIGHT, verdicts)[labels]
