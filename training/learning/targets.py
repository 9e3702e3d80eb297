"""What the two decoders learn, from instance labels: masks and weight maps (paper, Fig. 1 and 3.2 "Loss Function")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from deepsplit_core.config import Config

# Of the separation loss (paper, 3.2).
CELL_WEIGHT, CONTACT_WEIGHT, BACKGROUND_WEIGHT = 5.0, 22.6, 1.0


@dataclass(frozen=True)
class TargetConfig(Config):
    """Lengths in pixels.

    Parameters
    ----------
    contact_width : float
        Pixels of a cell up to this far from another cell are contact. A cell so thin or small that it would be
        contact all over keeps those of its pixels that are farther than half of its farthest.
    contact_reach : float
        Background pixels are contact where their distances to the nearest two cells add up to this at most:
        the widest gap across which two cells are adjacent.
    class_balance : bool
        Weight the foreground so that it counts as much as the background with its gap weights (w_c of eq. 1).
    gap_weight, gap_sigma : float
        w_0 and sigma of eq. 1. The paper gives no values; the defaults are Ronneberger's.
    gap_distance : {"sum", "squares"}
        The exponent of eq. 1: "sum" has (d1 + d2)^2 as in Ronneberger 2015, whose formula the paper says it
        follows; "squares" has d1^2 + d2^2 as the paper prints it.
    """

    contact_width: float = 2.0
    contact_reach: float = 4.0
    class_balance: bool = True
    gap_weight: float = 10.0
    gap_sigma: float = 5.0
    gap_distance: str = "sum"

    def __post_init__(self) -> None:
        for field in ("contact_width", "contact_reach", "gap_weight"):
            self._require(getattr(self, field) >= 0, field, "at least 0")
        self._require(self.gap_sigma > 0, "gap_sigma", "above 0")
        self._require(self.gap_distance in ("sum", "squares"), "gap_distance", "'sum' or 'squares'")


class Targets(NamedTuple):
    """Four (Y, X) arrays: two bool masks, and the float32 weights of the two losses; 0 = unknown, not learned from."""

    seg_mask: np.ndarray
    separation_mask: np.ndarray
    weight_map: np.ndarray
    separation_weights: np.ndarray


def make_targets(labels: np.ndarray, config: TargetConfig, ignore: np.ndarray | None = None) -> Targets:
    """Derive masks and weights from labels that abut or have a gap between them.

    Parameters
    ----------
    labels : (Y, X) integer array
        0 = background, every other value one cell.
    config : TargetConfig
    ignore : (Y, X) bool array, optional
        Pixels that nobody annotated: their weights are 0. There may be cells in it, so that pixels which would then
        be contact have the weight 0 in the separation loss, too.
    """
    ignore = np.zeros(labels.shape, bool) if ignore is None else ignore
    # Beyond four sigma the second term of eq. 1 is below w_0 / 2,900.
    reach = max(4 * config.gap_sigma, config.contact_width, config.contact_reach)
    nearest, second = nearest_two_distances(labels, reach)
    seg_mask = labels > 0
    separation_mask = _contact_zone(seg_mask, nearest, second, config) & ~_cores(labels, second, config)
    separation_weights = np.where(seg_mask, CELL_WEIGHT, BACKGROUND_WEIGHT).astype(np.float32)
    separation_weights[separation_mask] = CONTACT_WEIGHT
    if ignore.any():
        to_ignored = ndimage.distance_transform_edt(~ignore)
        is_unknown = _contact_zone(seg_mask, nearest, to_ignored, config) & ~separation_mask
        separation_weights[ignore | is_unknown] = 0
    weight_map = _weight_map(seg_mask, nearest, second, ignore, config)
    return Targets(seg_mask, separation_mask, weight_map, separation_weights)


def _contact_zone(seg_mask: np.ndarray, nearest: np.ndarray, other: np.ndarray, config: TargetConfig) -> np.ndarray:
    """Mark pixels between two cells from the distances to them; a cell's own pixels are 0 from the nearest."""
    return np.where(seg_mask, other <= config.contact_width, nearest + other <= config.contact_reach)


def nearest_two_distances(labels: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Distances from every pixel to the nearest and to the second nearest cell.

    Parameters
    ----------
    labels : (Y, X) integer array
    reach : float
        Distances are looked for up to this many pixels.

    Returns
    -------
    nearest, second : (Y, X) float32 arrays
        In pixels, between pixel centres; 0 inside the cell, infinity beyond the reach.
    """
    nearest = np.full(labels.shape, np.inf, np.float32)
    second = nearest.copy()
    pad = int(np.ceil(reach))
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        # One cell is seen in its own window, so that the work grows with the cells' area, not with cells x image.
        window = tuple(slice(max(0, side.start - pad), side.stop + pad) for side in box)
        distance = ndimage.distance_transform_edt(labels[window] != label).astype(np.float32)
        distance[distance > reach] = np.inf
        second[window] = np.minimum(second[window], np.maximum(nearest[window], distance))
        nearest[window] = np.minimum(nearest[window], distance)
    return nearest, second


def _cores(labels: np.ndarray, second: np.ndarray, config: TargetConfig) -> np.ndarray:
    """Mark what stays of cells that the zone would take whole, so that the intersection has a piece of every cell."""
    farthest = np.zeros(int(labels.max(initial=0)) + 1, np.float32)
    np.maximum.at(farthest, labels.ravel(), second.ravel())
    is_taken = farthest <= config.contact_width
    is_taken[0] = False
    return is_taken[labels] & (second > farthest[labels] / 2)


def _weight_map(
    seg_mask: np.ndarray, nearest: np.ndarray, second: np.ndarray, ignore: np.ndarray, config: TargetConfig
) -> np.ndarray:
    """Eq. 1: w_c on the foreground, 1 on the background, and w_0 exp(...) on background between two cells."""
    squared = (nearest + second) ** 2 if config.gap_distance == "sum" else nearest**2 + second**2
    gap = config.gap_weight * np.exp(-squared / (2 * config.gap_sigma**2))
    weights = np.where(ignore, 0, np.where(seg_mask, 1, 1 + gap))
    foreground, of_background = seg_mask & ~ignore, weights[~seg_mask].sum()
    if config.class_balance and foreground.any() and of_background:
        # Of a confluent sheet all background is gap: without its weights the network would find no cell there.
        weights[foreground] = of_background / foreground.sum()
    return weights.astype(np.float32)
