"""How well a network does on the validation images, after each epoch: the loss, and the cells after post-processing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from deepsplit_core.architectures import TwoTaskNet, UNet
from deepsplit_core.config import SplittingConfig
from deepsplit_core.metrics import Scores, evaluate
from deepsplit_core.splitting import split

from .config import TrainConfig
from .dataset import Sample
from .distributed import Item, joint, share_of
from .hardware import autocast, device_of, to_device
from .losses import mean_loss
from .schedule import Stage, loss_of, outputs


class Validation(NamedTuple):
    """Mean loss of the images in which anything was annotated, and the scores of all with their counts added."""

    loss: float
    scores: Scores


class Found(NamedTuple):
    """What a network makes of the middle of one image.

    Attributes
    ----------
    image : (Y, X) float32 array, 0 to 1
    truth, labels : (Y, X) integer arrays
    ignore : (Y, X) bool array
        Pixels that nobody annotated: no score counts them.
    probabilities : (2, Y, X) float32 array, 0 to 1
    loss : float
    """

    image: np.ndarray
    truth: np.ndarray
    labels: np.ndarray
    ignore: np.ndarray
    probabilities: np.ndarray
    loss: float


def validate(network: UNet, samples: Sequence[Sample], stage: Stage, config: TrainConfig) -> Validation:
    """Look at the validation images: at most `validation_images` of them, spread evenly over the list.

    Cells are split with the default settings: those of the weights file are chosen after the training.
    """
    results = []
    for sample in share_of(spread(samples, config.validation_images)):
        found = look_at(network, sample, stage, config)
        results.append((found.loss, evaluate(found.labels, found.truth, found.ignore)))
    losses, scores = zip(*joint(results), strict=True)
    return Validation(mean_loss(losses), sum(scores, Scores()))


@torch.no_grad()
def look_at(network: UNet, sample: Sample, stage: Stage, config: TrainConfig) -> Found:
    """Run the network over the middle of an image, and split the cells.

    The image is cut to twice the view's size at most, so that this takes little beside an epoch, and mirrored to a
    size that the network takes. Before there is a separation, the segmentation alone makes the cells.
    """
    network.eval()
    largest, multiple = 2 * config.view, network.multiple
    image, targets = (torch.from_numpy(middle(part.numpy(), largest, multiple))[None] for part in sample[:2])
    image, targets = to_device(image, device_of(network)), targets.to(device_of(network))
    segmentation, separation = outputs(network, image, stage)
    loss = float(loss_of(segmentation, separation, targets, stage))
    if stage.keeps_segmentation:
        with autocast(image.device):
            segmentation = cast(UNet, cast(TwoTaskNet, network).segmentation)(image)
    truth = middle(sample.labels[None], largest, 1)[0]
    found = probabilities(segmentation, separation, truth.shape)
    seen = image[0, 0, : truth.shape[0], : truth.shape[1]].cpu().numpy()
    ignore = middle(sample.targets[2:3].numpy(), largest, 1)[0] == 0
    return Found(seen, truth, split(found, SplittingConfig()).labels, ignore, found, loss)


def probabilities(segmentation: Tensor, separation: Tensor | None, shape: tuple[int, ...]) -> np.ndarray:
    """Return (2, Y, X) float32 of logits (1, 1, Y, X), cut to the pixels that the image has; no separation is 0."""
    planes = [segmentation, torch.full_like(segmentation, -torch.inf) if separation is None else separation]
    found = torch.sigmoid(torch.cat(planes, dim=1).float())[0].cpu().numpy()
    return found[:, : shape[0], : shape[1]]


def spread(items: Sequence[Item], n: int) -> list[Item]:
    """Return at most `n` samples or images, evenly spread over the list: all data sets have their share. 0: all."""
    n = min(n or len(items), len(items))
    return [items[(2 * i + 1) * len(items) // (2 * n)] for i in range(n)]


def middle(planes: np.ndarray, largest: int, multiple: int) -> np.ndarray:
    """Cut (C, Y, X) to at most `largest` pixels a side around the middle; mirror it to multiples of `multiple`."""
    cuts, pads = [], []
    for n in planes.shape[1:]:
        keep = min(largest, n)
        start = (n - keep) // 2
        cuts.append(slice(start, start + keep))
        pads.append((0, -keep % multiple))
    return np.pad(planes[:, cuts[0], cuts[1]], [(0, 0), *pads], mode="symmetric")
