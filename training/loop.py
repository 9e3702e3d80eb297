"""The cumulative schedule: first segmentation, then separation (paper, 4.1), and the loop over steps."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from deepsplit_core.architectures import TwoTaskNet, UNet, build

from .checkpoint import Checkpoint, remove_leftovers
from .config import TrainConfig
from .dataset import RandomBatches, Sample
from .history import rows_of, write_csv
from .losses import separation_weights, weighted_cross_entropy
from .stopping import ignore_signals

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
        Go on from the folder's checkpoint, to the same result as without the interruption.

    Returns
    -------
    UNet
        With the weights of the epoch of stage 2 whose validation loss was least.
    """
    remove_leftovers(run)
    torch.manual_seed(config.seed)
    network = build(config.network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    checkpoint = Checkpoint(run / "checkpoint.pt", config)
    stages = STAGES if network.n_outputs == 2 else STAGES[:1]
    position = checkpoint.read() if resume else None
    history = position.history if position else []
    write_csv(run / "metrics.csv", history)  # a run may be killed between its checkpoint and this file
    for number, stage in enumerate(stages):
        if position and number < stages.index(position.stage):
            continue
        optimiser = torch.optim.Adam(trained_parameters(network, stage, config), lr=config.learning_rate)
        if position and position.stage == stage:
            network.load_state_dict(position.network)
            optimiser.load_state_dict(position.optimiser)
        first_epoch, n_epochs = len(rows_of(history, stage)), getattr(config, f"{stage}_epochs")
        views = load_views(RandomBatches(training, config, number), first_epoch, n_epochs, config)
        n_steps = n_epochs * config.epoch_steps
        bar = tqdm(desc=stage, total=n_steps, initial=first_epoch * config.epoch_steps, leave=False, disable=None)
        for epoch in range(first_epoch, n_epochs):
            start = time.perf_counter()
            loss = train_epoch(network, optimiser, views, bar, stage, epoch, n_epochs, config)
            held_out = validation_loss(network, validation, stage, config)
            seconds = time.perf_counter() - start
            history.append(
                {"stage": stage, "epoch": epoch + 1, "loss": loss, "validation_loss": held_out, "seconds": seconds}
            )
            checkpoint.save(network, optimiser, history)
            write_csv(run / "metrics.csv", history)
            tqdm.write(f"{stage} {epoch + 1}/{n_epochs}: loss {loss:.4f}, validation {held_out:.4f}, {seconds:.0f} s")
        bar.close()
        # Stage 2 builds on, and the export takes, the best epoch of the stage.
        checkpoint.load_best(network)
    return network.eval()


def load_views(
    batches: RandomBatches, first_epoch: int, n_epochs: int, config: TrainConfig
) -> Iterator[tuple[Tensor, Tensor]]:
    """Return the batches from an epoch on; another process prepares them while this one computes."""
    steps = range(first_epoch * config.epoch_steps, n_epochs * config.epoch_steps)
    loader = DataLoader(batches, batch_size=None, sampler=steps, num_workers=1, worker_init_fn=ignore_signals)
    return iter(loader) if steps else iter(())


def train_epoch(
    network: UNet,
    optimiser: torch.optim.Optimizer,
    views: Iterator[tuple[Tensor, Tensor]],
    bar: tqdm,
    stage: str,
    epoch: int,
    n_epochs: int,
    config: TrainConfig,
) -> float:
    """Take the steps of one epoch and return their mean loss."""
    set_training(network, stage, config)
    steps = range(epoch * config.epoch_steps, (epoch + 1) * config.epoch_steps)
    total = 0.0
    for n_taken, step in enumerate(steps, start=1):
        images, targets = next(views)
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * _cosine(step, n_epochs * config.epoch_steps)
        torch.manual_seed(config.seed + step)  # dropout of a resumed run is that of an uninterrupted one
        loss = stage_loss(network, images, targets, stage, config)
        if not torch.isfinite(loss):
            raise ValueError(
                f"The loss of {stage}, step {step + 1}, is {float(loss)}: the training ran away. The run folder holds "
                "the epoch before; start a new run with a lower learning_rate."
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        total += float(loss.detach())
        bar.update()
        bar.set_postfix(loss=f"{total / n_taken:.4f}", refresh=False)
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
    targets : (N, 3, Y, X) float32 tensor
        Segmentation mask, separation mask, weights of the segmentation loss.
    stage : {"segmentation", "separation"}
        The separation loss has the weight 0 in the first: that part is not even computed.
    config : TrainConfig
    """
    images = images.to(memory_format=torch.channels_last)
    seg_mask, separation_mask, weight_map = (part[:, None] for part in targets.unbind(dim=1))
    if stage == "segmentation":
        logits, _, _ = network.trunk(images)
        return weighted_cross_entropy(logits, seg_mask, weight_map)
    with torch.set_grad_enabled(torch.is_grad_enabled() and not config.freeze_trunk):
        logits, encoded, decoded = network.trunk(images)
    separation = _separation(network)(encoded, decoded)
    loss = weighted_cross_entropy(separation, separation_mask, separation_weights(seg_mask, separation_mask))
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


def _separation(network: UNet) -> nn.Module:
    return cast(TwoTaskNet, network).separation


def _cosine(step: int, n_steps: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * step / n_steps))
