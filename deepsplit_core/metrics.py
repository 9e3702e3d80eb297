"""How well labelled cells agree with annotated ones: DSC, CDS (paper, 3.3 and eq. 2), AP, merges and splits.

Where nobody annotated, nothing can be right or wrong: `evaluate` takes a mask of such pixels and leaves them out.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Iterable, NamedTuple, Sequence

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from .bands import centres, runs

AP_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)

# The paper matches cells "by comparing their position and area" (3.3) and gives no numbers. Here two cells match
# whose centroids are at most half the true cell's radius apart (the radius of a disc of its area) and whose areas
# differ by a factor of two at most.
POSITION_TOLERANCE = 0.5
AREA_TOLERANCE = 2.0


class Overlap(NamedTuple):
    """Common pixels of the cells of two labellings, background left out.

    Attributes
    ----------
    pixels : (n_true, n_predicted) sparse array of int
    true_areas, predicted_areas : (n,) int arrays
    """

    pixels: sparse.coo_matrix
    true_areas: np.ndarray
    predicted_areas: np.ndarray

    def iou(self) -> np.ndarray:
        """Intersection over union of each pair that shares pixels, in the order of ``pixels.data``."""
        union = self.true_areas[self.pixels.row] + self.predicted_areas[self.pixels.col] - self.pixels.data
        return self.pixels.data / union


@dataclass(frozen=True)
class Scores:
    """Counts of one image or of several together; the scores are properties of the counts.

    Counts of several images are added before the scores are computed, so that a cell counts the same in each image.

    Attributes
    ----------
    n_true, n_predicted : int
        Cells.
    true_positives : tuple of int
        One-to-one matches at an IoU of at least .5, .6, .7, .8, .9.
    matched_above_half : int
        Matches at an IoU above 0.5, which are one-to-one by themselves.
    matched_by_position : int
        One-to-one matches by position and area, the paper's reading.
    merges, splits : int
        Predicted cells that cover more than half of each of several true cells; true cells that cover more than
        half of each of several predicted ones.
    common_pixels, true_pixels, predicted_pixels : int
        Foreground pixels in both, in the truth, in the prediction.
    """

    n_true: int = 0
    n_predicted: int = 0
    true_positives: tuple[int, ...] = (0,) * len(AP_THRESHOLDS)
    matched_above_half: int = 0
    matched_by_position: int = 0
    merges: int = 0
    splits: int = 0
    common_pixels: int = 0
    true_pixels: int = 0
    predicted_pixels: int = 0

    def __add__(self, other: Scores) -> Scores:
        """Add the counts of two sets of images."""
        sums: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            one, two = getattr(self, field.name), getattr(other, field.name)
            sums[field.name] = tuple(a + b for a, b in zip(one, two)) if isinstance(one, tuple) else one + two
        return Scores(**sums)

    @property
    def dsc(self) -> float:
        """Dice similarity coefficient of the foreground pixels, 0 to 1; 1 where both are empty."""
        return _ratio(2 * self.common_pixels, self.true_pixels + self.predicted_pixels)

    @property
    def cds(self) -> float:
        """Cell detection score 2 TP / (2 TP + FP + FN) with matches at IoU > 0.5 (eq. 2), 0 to 1."""
        return _ratio(2 * self.matched_above_half, self.n_true + self.n_predicted)

    @property
    def cds_by_position(self) -> float:
        """The same with matches by position and area."""
        return _ratio(2 * self.matched_by_position, self.n_true + self.n_predicted)

    @property
    def ap(self) -> tuple[float, ...]:
        """Average precision TP / (TP + FP + FN) at IoU .5, .6, .7, .8, .9."""
        return tuple(_ratio(tp, self.n_true + self.n_predicted - tp) for tp in self.true_positives)

    def to_dict(self) -> dict[str, float]:
        """Return scores and counts under the names that reports and cards use."""
        result: dict[str, float] = {"dsc": self.dsc, "cds": self.cds, "cds_by_position": self.cds_by_position}
        result.update({f"ap_{threshold}": value for threshold, value in zip(AP_THRESHOLDS, self.ap)})
        counts = ("merges", "splits", "n_true", "n_predicted")
        return {**{k: round(v, 4) for k, v in result.items()}, **{name: getattr(self, name) for name in counts}}


def evaluate(predicted: np.ndarray, truth: np.ndarray, ignore: np.ndarray | None = None) -> Scores:
    """Compare two labellings of one image.

    Parameters
    ----------
    predicted, truth : (Y, X) arrays of whole numbers
        0 = background, every other value one cell.
    ignore : (Y, X) bool array, optional
        Pixels that nobody annotated. Cells of either labelling with more than half of their pixels in it are left
        out whole; the others are compared by their pixels outside of it. No ignored pixel counts in any score.

    Raises
    ------
    ValueError
        The shapes differ, or the values are no whole numbers.
    """
    if predicted.ndim != 2 or truth.ndim != 2:
        raise ValueError(
            f"The prediction has the shape {predicted.shape}, the truth {truth.shape}: label images (Y, X) are needed."
        )
    if predicted.shape != truth.shape:
        raise ValueError(
            f"The prediction has the shape {predicted.shape}, the truth {truth.shape}: they must be of one image."
        )
    for name, labels in (("prediction", predicted), ("truth", truth)):
        if labels.dtype.kind not in "bui" and not (np.isfinite(labels) & (labels == np.round(labels))).all():
            raise ValueError(
                f"The {name} holds {labels.dtype} values that are no whole numbers: a label image is needed, in which "
                "each cell has a number of its own."
            )
    if ignore is not None:
        ignore = np.asarray(ignore, bool)
        if ignore.shape != truth.shape:
            raise ValueError(
                f"The mask of ignored pixels has the shape {ignore.shape}, the truth {truth.shape}: they must be of "
                "one image."
            )
        truth, predicted = without_ignored(truth, ignore), without_ignored(predicted, ignore)
    else:
        truth, predicted = numbered(truth), numbered(predicted)
    overlap = overlap_of(truth, predicted)
    iou = overlap.iou()
    covered_truth = overlap.pixels.data > 0.5 * overlap.true_areas[overlap.pixels.row]
    covered_prediction = overlap.pixels.data > 0.5 * overlap.predicted_areas[overlap.pixels.col]
    return Scores(
        n_true=overlap.true_areas.size,
        n_predicted=overlap.predicted_areas.size,
        true_positives=tuple(_n_matches(overlap, iou >= threshold) for threshold in AP_THRESHOLDS),
        matched_above_half=int(np.count_nonzero(iou > 0.5)),
        matched_by_position=_n_matches(overlap, _same_position_and_area(overlap, truth, predicted)),
        merges=int(np.count_nonzero(np.bincount(overlap.pixels.col[covered_truth]) > 1)),
        splits=int(np.count_nonzero(np.bincount(overlap.pixels.row[covered_prediction]) > 1)),
        common_pixels=int(np.count_nonzero((truth != 0) & (predicted != 0))),
        true_pixels=int(np.count_nonzero(truth)),
        predicted_pixels=int(np.count_nonzero(predicted)),
    )


def evaluate_all(images: Iterable[Sequence[Any]]) -> Scores:
    """Compare (predicted, truth) or (predicted, truth, ignore) of several images; their counts are added."""
    return sum((evaluate(*image) for image in images), Scores())


def numbered(labels: np.ndarray) -> np.ndarray:
    """Return labels with the numbers 1..n, in the ascending order of their values: (Y, X) int; 0 stays background."""
    if labels.dtype.kind in "ui" and labels.size and labels.min() >= 0 and labels.max() <= labels.size:
        is_cell = np.zeros(int(labels.max()) + 1, bool)  # in place of sorting all pixels
        is_cell[labels] = True
        is_cell[0] = False
    else:
        values, index = np.unique(labels, return_inverse=True)
        is_cell, labels = values != 0, index.reshape(labels.shape)
    return np.where(is_cell, np.cumsum(is_cell), 0)[labels]


def without_ignored(labels: np.ndarray, ignore: np.ndarray) -> np.ndarray:
    """Return `numbered` labels without ignored pixels, and without cells with more than half of their pixels there."""
    labels = numbered(labels)
    areas = np.bincount(labels.ravel())
    is_left_out = 2 * np.bincount(labels[ignore], minlength=areas.size) > areas
    return numbered(np.where(ignore | is_left_out[labels], 0, labels))


def overlap_of(truth: np.ndarray, predicted: np.ndarray) -> Overlap:
    """Count the common pixels of each true and each predicted cell, of labels 1..n that are all there (`numbered`)."""
    shape = int(truth.max(initial=0)) + 1, int(predicted.max(initial=0)) + 1
    pairs, _, lengths = runs(truth * shape[1] + predicted)
    table = sparse.coo_matrix((lengths, np.divmod(pairs, shape[1])), shape=shape).tocsr()
    true_areas, predicted_areas = (np.asarray(table.sum(axis=axis)).ravel()[1:] for axis in (1, 0))
    return Overlap(table[1:, 1:].tocoo(), true_areas, predicted_areas)


def _n_matches(overlap: Overlap, is_candidate: np.ndarray) -> int:
    """Count the most one-to-one matches among candidate pairs, given in the order of ``overlap.pixels``."""
    row, column = overlap.pixels.row[is_candidate], overlap.pixels.col[is_candidate]
    if row.size == 0:
        return 0
    graph = sparse.csr_matrix((np.ones(row.size), (row, column)), shape=overlap.pixels.shape)
    return int(np.count_nonzero(csgraph.maximum_bipartite_matching(graph, perm_type="column") >= 0))


def _same_position_and_area(overlap: Overlap, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    true_area = overlap.true_areas[overlap.pixels.row]
    predicted_area = overlap.predicted_areas[overlap.pixels.col]
    apart = centres(truth)[overlap.pixels.row] - centres(predicted)[overlap.pixels.col]
    radius = np.sqrt(true_area / np.pi)
    is_near = np.hypot(apart[:, 0], apart[:, 1]) <= POSITION_TOLERANCE * radius
    ratio = predicted_area / true_area
    return is_near & (ratio <= AREA_TOLERANCE) & (ratio >= 1 / AREA_TOLERANCE)


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else 1.0
