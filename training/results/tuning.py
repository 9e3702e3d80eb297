"""The choice of thresholds and lengths on the validation images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
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


# How far two settings have to be apart in mean AP to be told apart by one image. Measured on models that need no tuning
# and on such that do (docs/experiments.md, "Of size and thresholds").
DOUBT = 0.04


def tune(
    predicted: Sequence[Predicted],
    diameter: float,
    data_sets: Sequence[str] = (),
    tolerance: float = 0.0,
) -> tuple[SplittingConfig, float]:
    """Choose thresholds and lengths on validation images, one setting after the other, twice.

    Of the values that are as good as the best one, within a tolerance, the nearest to the `usual` one is taken (the
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
    values: dict[SplittingConfig, float] = {}
    chosen = start = usual(diameter)
    for _ in range(2):
        before = chosen
        for name, candidates in CANDIDATES.items():
            settings = [max(least.get(name, 0.0), round(candidate * units.get(name, 1), 2)) for candidate in candidates]
            tried = [chosen, *(SplittingConfig.from_dict({**chosen.to_dict(), name: setting}) for setting in settings)]
            for config in tried:
                if config not in values:
                    values[config] = score_sets(predicted, config, data_sets)
            chosen = nearest(tried, values, name, start, tolerance)
        if chosen == before:
            break
    return chosen, values[chosen]


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


def nearest(
    tried: Sequence[SplittingConfig],
    values: Mapping[SplittingConfig, float],
    name: str,
    start: SplittingConfig,
    tolerance: float,
) -> SplittingConfig:
    """Return the configuration that is nearest to the start in one setting, of those that are as good as the best.

    Parameters
    ----------
    tried : sequence of SplittingConfig
        They differ in that setting alone, and one of them was chosen before.
    values : mapping of SplittingConfig to float
        Mean AP of all that was scored so far: tolerances do not add up.
    name : str
        Of the setting.
    start : SplittingConfig
    tolerance : float
        By how much less mean AP is as good.
    """
    least = max(values.values()) - tolerance

    def far_and_bad(config: SplittingConfig) -> tuple[float, float]:
        # Rounded, as .8 and .6 are equally far from .7 but for the last digits.
        return round(abs(getattr(config, name) - getattr(start, name)), 6), -values[config]

    return min((config for config in tried if values[config] >= least), key=far_and_bad)


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
    values: dict[SplittingConfig, float] = {}
    model = model._replace(network=Remembering(model.network))  # type: ignore[arg-type]  # all that `predict` asks for
    start = splitting
    for name, thresholds in (("segmentation_threshold", THRESHOLDS[1:6]), ("separation_threshold", THRESHOLDS[3:])):
        tried = [
            SplittingConfig.from_dict({**splitting.to_dict(), name: threshold})
            for threshold in sorted({*thresholds, getattr(splitting, name)})
        ]
        for config in tried:
            if config not in values:
                card = dataclasses.replace(model.card, splitting=config)
                values[config] = score_sets(predict_all(model._replace(card=card), annotations), config, data_sets)
        splitting = nearest(tried, values, name, start, tolerance)
    return splitting, values[splitting]


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
