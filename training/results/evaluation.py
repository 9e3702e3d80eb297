"""Scores on annotated images, and the choice of thresholds and lengths on the validation images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from deepsplit_core.architectures import UNet
from deepsplit_core.config import SegmentConfig, SplittingConfig
from deepsplit_core.metrics import Scores, evaluate_all
from deepsplit_core.segmentation import predict
from deepsplit_core.sizes import typical_diameter
from deepsplit_core.splitting import split
from deepsplit_core.weights import Card, Model, build_network

from ..data.annotations import Annotation

COLUMNS = ("dsc", "cds", "ap_0.5", "ap_0.6", "ap_0.7", "ap_0.8", "ap_0.9", "merges", "splits", "n_true", "n_predicted")


class Predicted(NamedTuple):
    """What a network says of an annotated image.

    Attributes
    ----------
    name : str
    probabilities : (2, Y, X) float array, 0 to 1
    labels : (Y, X) integer array
        The true ones.
    ignore : (Y, X) bool array or None
        Pixels that nobody annotated.
    scale : float
        Pixels of the image for each of the model's.
    """

    name: str
    probabilities: np.ndarray
    labels: np.ndarray
    ignore: np.ndarray | None = None
    scale: float = 1.0

    def split(self, config: SplittingConfig) -> np.ndarray:
        """Return the cells, (Y, X) int32, that settings in pixels of the model's images make of the probabilities."""
        return split(self.probabilities, config.scaled(self.scale)).labels


Named = TypeVar("Named", Annotation, Predicted)


def reference_model(path: Path, card: Card, tensors: dict[str, torch.Tensor]) -> Model:
    """Return the model that thresholds are chosen and scores are told with: float32, on the processor.

    The same everywhere, so that a card and a report of one file say the same, whichever device a person has.

    Parameters
    ----------
    path : Path
        What the tensors are from, for error messages.
    card : Card
    tensors : dict of Tensor
    """
    network = build_network(path, card, tensors).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Model(network, card, "", torch.device("cpu"), torch.float32)


def predict_all(model: Model, annotations: Sequence[Annotation], are_sizes_known: bool = False) -> list[Predicted]:
    """Run the network over annotated images as `deepsplit_core.segment` does.

    Parameters
    ----------
    model : Model
    annotations : sequence of Annotation
    are_sizes_known : bool
        No size is estimated with the thresholds of the card, which may not be chosen yet: the model sees images as
        they are or, if it sees cells at one size, brought to that from their true one.
    """
    predicted = []
    for annotation in tqdm(annotations, "predicting", leave=False, disable=None):
        image, labels, ignore = annotation.read()
        diameter = 0.0
        if are_sizes_known:
            true = typical_diameter(labels) if model.card.preprocessing.diameter else 0.0
            diameter = true or model.card.diameter
        config = SegmentConfig(diameter=diameter)
        found = predict(image, config, load=lambda *_: model)
        predicted.append(Predicted(annotation.name, found.probabilities, labels, ignore, found.scale))
    return predicted


def score(predicted: Sequence[Predicted], config: SplittingConfig) -> Scores:
    """Split all images with one configuration and add up their counts, without the pixels that nobody annotated."""
    return evaluate_all((image.split(config), image.labels, image.ignore) for image in predicted)


def score_parts(predicted: Sequence[Predicted], config: SplittingConfig) -> dict[str, Scores]:
    """Score what each part of the method brings: a U-Net's segmentation, the separation decoder, the watershed."""
    without_contact = [
        image._replace(probabilities=np.stack([image.probabilities[0], np.zeros_like(image.probabilities[0])]))
        for image in predicted
    ]
    intersected = dataclasses.replace(config, watershed=False)
    return {
        "segmentation alone": score(without_contact, intersected),
        "with the separation decoder": score(predicted, intersected),
        "and with the watershed": score(predicted, dataclasses.replace(config, watershed=True)),
    }


def compare(predicted: Sequence[Predicted], config: SplittingConfig) -> dict[str, dict[str, Any]]:
    """Score the parts of the method on every data set (the folder in an image's name) on its own."""
    return {
        folder: {part: scores.to_dict() for part, scores in score_parts(images, config).items()}
        for folder, images in sorted(by_folder(predicted).items())
    }


def by_folder(images: Sequence[Named]) -> dict[str, list[Named]]:
    """Return the images of each data set."""
    folders: dict[str, list[Named]] = {}
    for image in images:
        folders.setdefault(image.name.split("/")[0], []).append(image)
    return folders


def folders_of(data_set: str) -> list[str]:
    """Return the folders that a data set of a card may be named after: "drawn24, drawn48"."""
    return [data_set, *(name.strip() for name in data_set.split(",") if name.strip() != data_set)]


def as_table(comparison: dict[str, dict[str, Any]]) -> str:
    """Return a comparison as a Markdown table."""
    lines = ["| | | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 2) + "|"]
    for folder, parts in comparison.items():
        for part, scores in parts.items():
            lines.append(f"| {folder} | {part} | " + " | ".join(score_cells(scores)) + " |")
    return "\n".join(lines)


def score_cells(scores: Mapping[str, Any]) -> list[str]:
    """Return scores as texts, in the order of `COLUMNS`."""
    return [f"{scores[name]:.3f}" if isinstance(scores[name], float) else f"{scores[name]:,}" for name in COLUMNS]


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


def tune(
    predicted: Sequence[Predicted], diameter: float, data_sets: Sequence[str] = ()
) -> tuple[SplittingConfig, float]:
    """Choose thresholds and lengths on validation images, one setting after the other, twice.

    Parameters
    ----------
    predicted : sequence of Predicted
        Of validation images, never of test images.
    diameter : float
        Median cell diameter in pixels.
    data_sets : sequence of str
        Names of data sets, each a folder's or several folders' ("drawn24, drawn48"). Other folders are one each.

    Returns
    -------
    SplittingConfig
    float
        Its mean AP over IoU .5 to .9, which is what is made greatest: it asks for cells that are apart and for
        outlines that are exact. Every data set counts alike, however many cells it has, and in it every folder.
    """
    area = np.pi / 4 * diameter**2
    units = {"smallest_cell": area, "seed_distance": diameter, "longest_cut": diameter}
    chosen = SplittingConfig(
        separation_threshold=0.7,
        smallest_cell=round(0.07 * area, 2),
        largest_hole=round(0.25 * area, 2),
        seed_distance=max(1.0, round(0.3 * diameter, 2)),
        longest_cut=round(0.3 * diameter, 2),
    )
    values = {chosen: score_sets(predicted, chosen, data_sets)}
    least = {"seed_distance": 1.0}
    for _ in range(2):
        before = chosen
        for name, candidates in CANDIDATES.items():
            for candidate in candidates:
                setting = max(least.get(name, 0.0), round(candidate * units.get(name, 1), 2))
                tried = SplittingConfig.from_dict({**chosen.to_dict(), name: setting})
                if tried not in values:
                    values[tried] = score_sets(predicted, tried, data_sets)
                if values[tried] > values[chosen]:
                    chosen = tried
        if chosen == before:
            break
    return chosen, values[chosen]


def tune_for_sizes_found(
    model: Model, annotations: Sequence[Annotation], splitting: SplittingConfig, data_sets: Sequence[str] = ()
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
        As `tune` chose it.
    data_sets : sequence of str
        As in `tune`.

    Returns
    -------
    SplittingConfig
    float
        Its mean AP over IoU .5 to .9, with the sizes found.
    """
    values: dict[SplittingConfig, float] = {}
    model = model._replace(network=Remembering(model.network))  # type: ignore[arg-type]  # all that `predict` asks for
    for name, thresholds in (("segmentation_threshold", THRESHOLDS[1:6]), ("separation_threshold", THRESHOLDS[3:])):
        for threshold in sorted({*thresholds, getattr(splitting, name)}):
            tried = SplittingConfig.from_dict({**splitting.to_dict(), name: threshold})
            if tried not in values:
                card = dataclasses.replace(model.card, splitting=tried)
                values[tried] = score_sets(predict_all(model._replace(card=card), annotations), tried, data_sets)
        splitting = max(values, key=values.__getitem__)
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
    aps: dict[str, list[float]] = {}
    for folder, images in by_folder(predicted).items():
        # Of a set without cells AP is 1, or 0 from the first false one on, which would count as much as another set.
        if any(image.labels.any() for image in images):
            data_set = next((name for name in data_sets if folder in folders_of(name)), folder)
            aps.setdefault(data_set, []).append(float(np.mean(score(images, config).ap)))
    return float(np.mean([np.mean(values) for values in aps.values()]))
