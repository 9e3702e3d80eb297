"""How well a network does on the validation images, after each epoch: the loss, and the cells after post-processing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from scipy import ndimage
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
    """What a network makes of a part of one image.

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
    """Run the network over the part of an image with the most cells, and split the cells.

    The image is cut to twice the view's size at most, so that this takes little beside an epoch, and mirrored to a
    size that the network takes. Before there is a separation, the segmentation alone makes the cells.
    """
    network.eval()
    ignore = sample.targets[2].numpy() == 0
    is_cell = (sample.labels > 0) & ~ignore
    window = fullest_window(is_cell if is_cell.any() else ~ignore, 2 * config.view)
    image, targets = (
        torch.from_numpy(mirrored(part.numpy()[(slice(None), *window)], network.multiple))[None] for part in sample[:2]
    )
    image, targets = to_device(image, targets, device_of(network))
    segmentation, separation = outputs(network, image, stage)
    loss = float(loss_of(segmentation, separation, targets, stage))
    if stage.keeps_segmentation:
        with autocast(image.device):
            segmentation = cast(UNet, cast(TwoTaskNet, network).segmentation)(image)
    truth = sample.labels[window]
    found = probabilities(segmentation, separation, truth.shape)
    seen = image[0, 0, : truth.shape[0], : truth.shape[1]].cpu().numpy()
    return Found(seen, truth, split(found, SplittingConfig()).labels, ignore[window], found, loss)


def probabilities(segmentation: Tensor, separation: Tensor | None, shape: tuple[int, ...]) -> np.ndarray:
    """Return (2, Y, X) float32 of logits (1, 1, Y, X), cut to the pixels that the image has; no separation is 0."""
    planes = [segmentation, torch.full_like(segmentation, -torch.inf) if separation is None else separation]
    found = torch.sigmoid(torch.cat(planes, dim=1).float())[0].cpu().numpy()
    return found[:, : shape[0], : shape[1]]


def spread(items: Sequence[Item], n: int) -> list[Item]:
    """Return at most `n` samples or images, evenly spread over the list: all data sets have their share. 0: all."""
    n = min(n or len(items), len(items))
    return [items[(2 * i + 1) * len(items) // (2 * n)] for i in range(n)]


def fullest_window(mask: np.ndarray, largest: int) -> tuple[slice, slice]:
    """Return the window of at most `largest` pixels a side with the most pixels of a (Y, X) bool array.

    Of several it is the one nearest to the middle.
    """
    sides = [min(largest, n) for n in mask.shape]
    if mask.all():
        start_y, start_x = ((n - side) // 2 for n, side in zip(mask.shape, sides, strict=True))
        return slice(start_y, start_y + sides[0]), slice(start_x, start_x + sides[1])
    share = ndimage.uniform_filter(mask.astype(np.float64), sides, mode="constant")
    # Where the window is inside of the image; the filter's value stands at its middle.
    share = share[tuple(slice(side // 2, n - side + side // 2 + 1) for side, n in zip(sides, mask.shape, strict=True))]
    fullest = np.argwhere(share > share.max() - 0.5 / np.prod(sides))
    y, x = fullest[np.argmin(((fullest - (np.array(share.shape) - 1) / 2) ** 2).sum(axis=1))]
    return slice(int(y), int(y) + sides[0]), slice(int(x), int(x) + sides[1])


def mirrored(planes: np.ndarray, multiple: int) -> np.ndarray:
    """Mirror (C, Y, X) at its lower and right border, to multiples of `multiple`."""
    return np.pad(planes, [(0, 0), *((0, -n % multiple) for n in planes.shape[1:])], mode="symmetric")
