"""Scores on annotated images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from tqdm import tqdm

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
