"""The cumulative schedule: first segmentation, then separation (paper, 4.1), and the loop over steps."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from deepsplit_core.architectures import TwoTaskNet, UNet, build

from .checkpoint import Checkpoint
from .config import TrainConfig
from .dataset import RandomBatches, Sample
from .losses import weighted_cross_entropy

STAGES = ("segmentation", "separation")


def train(
    training: Sequence[Sample], validation: Sequence[Sample], config: TrainConfig, run: Path, resume: bool
) -> UNet:
    """Train a network through both stages.

    Parameters
    ----------
    training, validation : sequence of Sample
    config : TrainConfig
    run : Path
        Folder for `checkpoint.pt` and `metrics.csv`.
    resume : bool
        Go on from the folder's checkpoint.

    Returns
    -------
    UNet
        With the weights of the epoch of stage 2 whose validation loss was least.
    """
    torch.manual_seed(config.seed)
    network = build(config.network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    checkpoint = Checkpoint(run / "checkpoint.pt", config)
    stages = STAGES if network.n_outputs == 2 else STAGES[:1]
    position = checkpoint.load(network) if resume else None
    for number, stage in enumerate(stages):
        if position and number < stages.index(position.stage):
            continue
        optimiser = torch.optim.Adam(trained_parameters(network, stage, config), lr=config.learning_rate)
        batches = RandomBatches(training, config, number)
        first_epoch, best = 0, math.inf
        if position and position.stage == stage:
            optimiser.load_state_dict(position.optimiser)
            first_epoch, best = position.epoch + 1, position.best_loss
        n_epochs = getattr(config, f"{stage}_epochs")
        for epoch in range(first_epoch, n_epochs):
            start = time.perf_counter()
            loss = train_epoch(network, optimiser, batches, stage, epoch, n_epochs, config)
            held_out = validation_loss(network, validation, stage, config)
            seconds = time.perf_counter() - start
            checkpoint.save(network, optimiser, stage, epoch, min(best, held_out), is_best=held_out < best)
            best = min(best, held_out)
            append_row(run / "metrics.csv", stage, epoch + 1, loss, held_out, seconds)
            tqdm.write(f"{stage} {epoch + 1}/{n_epochs}: loss {loss:.4f}, validation {held_out:.4f}, {seconds:.0f} s")
        # Stage 2 builds on, and the export takes, the best epoch of the stage.
        checkpoint.load_best(network)
    return network.eval()


def train_epoch(
    network: UNet,
    optimiser: torch.optim.Optimizer,
    batches: RandomBatches,
    stage: str,
    epoch: int,
    n_epochs: int,
    config: TrainConfig,
) -> float:
    """Take the steps of one epoch and return their mean loss."""
    set_training(network, stage, config)
    steps = range(epoch * config.epoch_steps, (epoch + 1) * config.epoch_steps)
    # One process prepares views while this one computes.
    loader = DataLoader(batches, batch_size=None, sampler=steps, num_workers=1)
    total = 0.0
    for step, (images, targets) in zip(steps, tqdm(loader, stage, leave=False, disable=None), strict=True):
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * _cosine(step, n_epochs * config.epoch_steps)
        torch.manual_seed(config.seed + step)  # dropout of a resumed run is that of an uninterrupted one
        loss = stage_loss(network, images, targets, stage, config)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        total += float(loss.detach())
    return total / len(steps)


def trained_parameters(network: UNet, stage: str, config: TrainConfig) -> list[torch.nn.Parameter]:
    """Return what the stage's optimiser may change: without the separation part in stage 1, it alone if frozen in 2."""
    if stage == "segmentation":
        return [p for name, p in network.named_parameters() if not name.startswith("separation.")]
    return list((_separation(network) if config.freeze_trunk else network).parameters())


def set_training(network: UNet, stage: str, config: TrainConfig) -> None:
    """Put the parts that the stage trains into training mode; a frozen trunk stays in evaluation mode."""
    network.train()
    if stage == "separation" and config.freeze_trunk:
        network.eval()
        _separation(network).train()


def stage_loss(network: UNet, images: Tensor, targets: Tensor, stage: str, config: TrainConfig) -> Tensor:
    """Return the stage's loss, a scalar.

    Parameters
    ----------
    network : UNet
    images : (N, 1, Y, X) float32 tensor
    targets : (N, 4, Y, X) float32 tensor
        Segmentation mask, separation mask, weights of the segmentation loss, weights of the separation loss.
    stage : {"segmentation", "separation"}
        The separation loss has the weight 0 in the first: that part is not even computed.
    config : TrainConfig
    """
    images = images.to(memory_format=torch.channels_last)
    seg_mask, separation_mask, weight_map, separation_weights = (part[:, None] for part in targets.unbind(dim=1))
    if stage == "segmentation":
        logits, _, _ = network.trunk(images)
        return weighted_cross_entropy(logits, seg_mask, weight_map)
    with torch.set_grad_enabled(torch.is_grad_enabled() and not config.freeze_trunk):
        logits, encoded, decoded = network.trunk(images)
    separation = _separation(network)(encoded, decoded)
    loss = weighted_cross_entropy(separation, separation_mask, separation_weights)
    if not config.freeze_trunk:
        loss = loss + config.segmentation_loss_weight * weighted_cross_entropy(logits, seg_mask, weight_map)
    return loss


@torch.no_grad()
def validation_loss(network: UNet, samples: Sequence[Sample], stage: str, config: TrainConfig) -> float:
    """Mean loss over the middles of the validation images, unchanged but for mirroring to the view's size at least."""
    network.eval()
    losses = []
    for sample in samples:
        parts = [torch.from_numpy(_middle(part.numpy(), 2 * config.view, network.multiple)) for part in sample[:2]]
        losses.append(float(stage_loss(network, parts[0][None], parts[1][None], stage, config)))
    return sum(losses) / len(losses)


def _middle(planes: np.ndarray, largest: int, multiple: int) -> np.ndarray:
    """Cut (C, Y, X) to at most `largest` pixels a side around the middle, in multiples of `multiple`."""
    sides = []
    for n in planes.shape[1:]:
        keep = max(multiple, min(largest, n) // multiple * multiple)
        start = max(0, (n - keep) // 2)
        sides.append((slice(start, start + keep), max(0, keep - n)))
    (y, pad_y), (x, pad_x) = sides
    return np.pad(planes[:, y, x], [(0, 0), (0, pad_y), (0, pad_x)], mode="symmetric")


def append_row(path: Path, stage: str, epoch: int, loss: float, validation: float, seconds: float) -> None:
    """Add an epoch to the run's CSV file, with a header if the file is new."""
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if is_new:
            writer.writerow(["stage", "epoch", "loss", "validation_loss", "seconds"])
        writer.writerow([stage, epoch, loss, validation, round(seconds, 1)])


def _separation(network: UNet) -> nn.Module:
    return cast(TwoTaskNet, network).separation


def _cosine(step: int, n_steps: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * step / n_steps))
