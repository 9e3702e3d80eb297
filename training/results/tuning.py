"""The choice of thresholds and lengths on the validation images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from hashlib import sha256

import numpy as np
import torch
from torch import nn

from deepsplit_core.architectures import UNet
from deepsplit_core.config import SplittingConfig
from deepsplit_core.weights import Model

from ..data.annotations import Annotation
from .evaluation import Named, Predicted, by_folder, folders_of, predict_all, score

# What is tried for each setting, in the order in which they are chosen. Lengths and areas in units of the median
# cell: its diameter, its area.
THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
CANDIDATES: dict[str, tuple[float, ...]] = {
    "separation_threshold": THRESHOLDS,
    "segmentation_threshold": THRESHOLDS[:-1],
    "smallest_cell": (0.02, 0.04, 0.07, 0.1, 0.15, 0.2),
    "seed_distance": (0.2, 0.3, 0.4, 0.5),
    "longest_cut": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8),
    "neck": (0.5, 0.6, 0.7, 0.8, 0.9),
}


# By how much the mean AP of two settings may differ by chance on one image. Measured on models that need no tuning and
# on such that do (docs/experiments.md, "Of size and thresholds").
DOUBT = 0.02


def tune(
    predicted: Sequence[Predicted],
    diameter: float,
    data_sets: Sequence[str] = (),
    tolerance: float = 0.0,
) -> tuple[SplittingConfig, float]:
    """Choose thresholds and lengths on validation images, one setting after the other, twice.

    Then each goes back towards the `usual` one, as far as the result is as good within a tolerance (the
    one-standard-error rule; Breiman et al. 1984, Classification and Regression Trees, 3.4.3).

    Parameters
    ----------
    predicted : sequence of Predicted
        Of validation images, never of test images.
    diameter : float
        Median cell diameter in pixels.
    data_sets : sequence of str
        Names of data sets, each a folder's or several folders' ("drawn24, drawn48"). Other folders are one each.
    tolerance : float
        By how much less mean AP is as good: `doubt_of` these images, or 0 for the greatest.

    Returns
    -------
    SplittingConfig
    float
        Its mean AP over IoU .5 to .9, which is what is made greatest: it asks for cells that are apart and for
        outlines that are exact. Every data set counts alike, however many cells it has, and in it every folder.
    """
    area = np.pi / 4 * diameter**2
    units = {"smallest_cell": area, "seed_distance": diameter, "longest_cut": diameter}
    least = {"seed_distance": 1.0}
    candidates = {
        name: [max(least.get(name, 0.0), round(value * units.get(name, 1), 2)) for value in values]
        for name, values in CANDIDATES.items()
    }

    @cache
    def value(config: SplittingConfig) -> float:
        return score_sets(predicted, config, data_sets)

    chosen = start = usual(diameter)
    for _ in range(2):
        before = chosen
        for name, settings in candidates.items():
            chosen = max([chosen, *variants(chosen, name, settings)], key=value)
        if chosen == before:
            break
    if tolerance:
        chosen = towards(start, chosen, candidates, value, tolerance)
    return chosen, value(chosen)


def usual(diameter: float) -> SplittingConfig:
    """Return thresholds and lengths to begin with, for cells of a median diameter in pixels."""
    area = np.pi / 4 * diameter**2
    return SplittingConfig(
        separation_threshold=0.7,
        smallest_cell=round(0.07 * area, 2),
        largest_hole=round(0.25 * area, 2),
        seed_distance=max(1.0, round(0.3 * diameter, 2)),
        longest_cut=round(0.3 * diameter, 2),
    )


def variants(config: SplittingConfig, name: str, settings: Iterable[float]) -> list[SplittingConfig]:
    """Return configurations that differ from one in one setting."""
    return [SplittingConfig.from_dict({**config.to_dict(), name: setting}) for setting in settings]


def towards(
    start: SplittingConfig,
    best: SplittingConfig,
    candidates: Mapping[str, Sequence[float]],
    value: Callable[[SplittingConfig], float],
    tolerance: float,
) -> SplittingConfig:
    """Go back from the best configuration towards the start, one setting after the other, as far as it is as good.

    Parameters
    ----------
    start, best : SplittingConfig
    candidates : mapping of str to sequence of float
        What may be taken for each setting. The last is the first to go back.
    value : function
        Mean AP of a configuration.
    tolerance : float
        By how much less than that of the best is as good, in all.
    """
    least, chosen = value(best) - tolerance, best
    for name, settings in reversed(list(candidates.items())):
        usual, now = getattr(start, name), getattr(chosen, name)
        # Rounded, as .6 and .8 are equally far from .7 but for the last digits.
        by_distance = sorted({*settings, usual, now}, key=lambda s: (round(abs(s - usual), 6), abs(s - now)))
        chosen = next(config for config in variants(chosen, name, by_distance) if value(config) >= least)
    return chosen


def doubt_of(predicted: Sequence[Predicted], data_sets: Sequence[str] = ()) -> float:
    """Return by how much mean AP (`score_sets`) of two settings may differ by chance: `DOUBT`, less with more images.

    It falls with the square root of the number of images with cells, as if of one folder: of several sets, one of few
    images counts as much as one of many, and leaves more doubt.
    """
    numbers = [
        [n for images in folders if (n := sum(bool(image.labels.any()) for image in images))]
        for folders in sets_of(predicted, data_sets).values()
    ]
    numbers = [of_set for of_set in numbers if of_set]
    variance = np.mean([np.mean([1 / n for n in of_set]) / len(of_set) for of_set in numbers]) / len(numbers)
    return float(DOUBT * np.sqrt(variance))


def tune_for_sizes_found(
    model: Model,
    annotations: Sequence[Annotation],
    splitting: SplittingConfig,
    data_sets: Sequence[str] = (),
    tolerance: float = 0.0,
) -> tuple[SplittingConfig, float]:
    """Choose both thresholds again, for a model that estimates the size of the cells: with what it finds.

    `tune` knows the true sizes. What a first look takes for cell decides which size is found, and a threshold that
    leaves holes in cells that are seen too large makes many small cells of them; one that leaves small cells merged
    makes few large ones.

    Parameters
    ----------
    model : Model
    annotations : sequence of Annotation
        Of validation images, never of test images.
    splitting : SplittingConfig
        As `tune` chose it: of what is as good, the nearest to it is taken.
    data_sets : sequence of str
    tolerance : float
        As in `tune`.

    Returns
    -------
    SplittingConfig
    float
        Its mean AP over IoU .5 to .9, with the sizes found.
    """
    model = model._replace(network=Remembering(model.network))  # type: ignore[arg-type]  # all that `predict` asks for

    @cache
    def value(config: SplittingConfig) -> float:
        card = dataclasses.replace(model.card, splitting=config)
        return score_sets(predict_all(model._replace(card=card), annotations), config, data_sets)

    candidates = {
        name: sorted({*thresholds, getattr(splitting, name)})
        for name, thresholds in (("segmentation_threshold", THRESHOLDS[1:6]), ("separation_threshold", THRESHOLDS[3:]))
    }
    chosen = splitting
    for name, thresholds in candidates.items():
        chosen = max([chosen, *variants(chosen, name, thresholds)], key=value)
    if tolerance:
        chosen = towards(splitting, chosen, candidates, value, tolerance)
    return chosen, value(chosen)


MOST_KEPT = 1 << 30  # bytes


class Remembering(nn.Module):
    """A network that is run once for images that are equal, as every threshold's first looks are."""

    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network, self.multiple, self.n_outputs = network, network.multiple, network.n_outputs
        self.said: dict[bytes, torch.Tensor] = {}
        self.kept = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the network's logits (N, n_outputs, Y, X) of images (N, 1, Y, X) on the processor."""
        key = repr(images.shape).encode() + sha256(images.numpy().tobytes()).digest()
        if key in self.said:
            return self.said[key]
        logits: torch.Tensor = self.network(images)
        # Later looks are at sizes of their own, mostly. What comes first is kept.
        if self.kept + logits.nbytes <= MOST_KEPT:
            self.said[key] = logits
            self.kept += logits.nbytes
        return logits


def score_sets(predicted: Sequence[Predicted], config: SplittingConfig, data_sets: Sequence[str]) -> float:
    """Return the mean AP over IoU .5 to .9 of the data sets with cells, as `tune` takes them."""
    means = []
    for folders in sets_of(predicted, data_sets).values():
        # Of a folder without cells AP is 1, or 0 from the first false one on, which would count as much as another's.
        with_cells = [images for images in folders if any(image.labels.any() for image in images)]
        if with_cells:
            means.append(np.mean([np.mean(score(images, config).ap) for images in with_cells]))
    return float(np.mean(means))


def sets_of(images: Sequence[Named], data_sets: Sequence[str]) -> dict[str, list[list[Named]]]:
    """Return the images of each data set, folder by folder."""
    sets: dict[str, list[list[Named]]] = {}
    for folder, found in by_folder(images).items():
        data_set = next((name for name in data_sets if folder in folders_of(name)), folder)
        sets.setdefault(data_set, []).append(found)
    return sets
