"""The training loop, in the order in which it runs: stages, epochs, steps."""

from __future__ import annotations

import math
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from deepsplit_core.allocator import keep_memory
from deepsplit_core.architectures import UNet, build

from ..learning.config import TrainConfig
from ..learning.dataset import RandomBatches, Sample
from ..learning.distributed import Outputs, average_statistics, is_first, mean, random_seed, replicated, synchronised
from ..learning.finetune import load_start
from ..learning.hardware import device_of, n_loaders, place
from ..learning.losses import mean_loss
from ..learning.optimisers import make_optimiser, set_learning_rate
from ..learning.schedule import Stage, begin, outputs, set_training, stage_loss, stages_of, trained_parameters
from ..learning.steps import OfBatch, make_step
from ..learning.teacher import Teacher
from ..learning.validation import look_at, spread, validate
from .checkpoint import Checkpoint, remove_leftovers
from .history import describe, has_converged, make_row, rows_of, write_csv
from .pictures import write_picture
from .scalars import open_scalars, write_scalars
from .stopping import end_with_main_process, unstoppable


def train(
    training: Sequence[Sample],
    validation: Sequence[Sample],
    config: TrainConfig,
    run: Path,
    resume: bool,
    device: torch.device,
) -> UNet:
    """Train a network through all stages.

    Parameters
    ----------
    training, validation : sequence of Sample
    config : TrainConfig
    run : Path
        Folder for `checkpoint.pt`, `metrics.csv`, `pictures/` and `tensorboard/`.
    resume : bool
        Go on from the folder's checkpoint, to the same result as without the interruption.
    device : torch.device
        A run may be resumed on another one, with other rounding errors.

    Returns
    -------
    UNet
        With the weights of the best epoch of the last stage, see `history.is_best`.
    """
    if device.type == "cpu":
        keep_memory(2**31 - 1)
    torch.manual_seed(config.seed)
    network = place(synchronised(build(config.network), device), device)
    checkpoint = Checkpoint(run / "checkpoint.pt", config)
    position = checkpoint.read() if resume else None
    if not position:
        load_start(network, config)
    history = position.history if position else []
    if is_first():
        remove_leftovers(run)
        write_csv(run / "metrics.csv", history)  # a run may be killed between its checkpoint and this file
    stages = stages_of(config)
    teacher = Teacher(config, device) if config.teacher else None
    with open_scalars(run, len(history)) if is_first() else nullcontext() as scalars:
        for number, stage in enumerate(stages):
            if position and position.stage in [later.name for later in stages[number + 1 :]]:
                continue
            begin(network, stage, config)
            optimiser = make_optimiser(trained_parameters(network, stage), config)
            if position and position.stage == stage.name:
                network.load_state_dict(position.network)
                optimiser.load_state_dict(position.optimiser)
            first_epoch = len(rows_of(history, stage.name))
            forward = replicated(network, partial(outputs, stage=stage))
            loss_of_views = partial(view_loss, network, stage, forward, teacher)
            take_step = make_step(loss_of_views, optimiser, device_of(network))
            batches = RandomBatches(training, config, number)
            with unstoppable():
                views = load_views(batches, first_epoch, stage.n_epochs, config, network)
            with progress_bar(stage, first_epoch, config) as bar:
                for epoch in range(first_epoch, stage.n_epochs):
                    if has_converged(rows_of(history, stage.name), config.patience):
                        tqdm.write(f"{stage.name} converged: no better validation loss for {config.patience} epochs")
                        break
                    start = time.perf_counter()
                    loss = train_epoch(network, take_step, optimiser, views, bar, stage, epoch, config)
                    held_out = validate(network, validation, stage, config)
                    history.append(make_row(stage.name, epoch + 1, loss, *held_out, time.perf_counter() - start))
                    with unstoppable():
                        checkpoint.save(network, optimiser, history)
                        if is_first():
                            write_csv(run / "metrics.csv", history)
                            write_scalars(scalars, history)
                    if is_first() and is_picture_due(epoch, stage, config):
                        found = look_at(network, spread(validation, 1)[0], stage, config)
                        write_picture(run / "pictures" / f"{stage.name}_{epoch + 1:04d}.png", found)
                    tqdm.write(describe(history[-1], stage.n_epochs))
            # The next stage builds on, and the export takes, the best epoch of the stage.
            checkpoint.load_best(network)
    return network.eval()


def progress_bar(stage: Stage, first_epoch: int, config: TrainConfig) -> tqdm:
    """Return a bar over the steps of a stage, which shows the time left; none where nobody watches."""
    # None: none if the output is no terminal.
    n_before, n_steps = first_epoch * config.epoch_steps, stage.n_epochs * config.epoch_steps
    return tqdm(desc=stage.name, total=n_steps, initial=n_before, leave=False, disable=None if is_first() else True)


def is_picture_due(epoch: int, stage: Stage, config: TrainConfig) -> bool:
    """Say whether a picture is written after an epoch, counted from 0."""
    is_last = epoch + 1 == stage.n_epochs
    return config.picture_epochs > 0 and (is_last or (epoch + 1) % config.picture_epochs == 0)


def load_views(
    batches: RandomBatches, first_epoch: int, n_epochs: int, config: TrainConfig, network: UNet
) -> Iterator[tuple[Tensor, Tensor]]:
    """Return the batches from an epoch on; other processes prepare them, in their order, while this one computes."""
    steps = range(first_epoch * config.epoch_steps, n_epochs * config.epoch_steps)
    # Linux has a limit of open files, and other ways to start a process open two for each image.
    fork = multiprocessing.get_context("fork") if sys.platform == "linux" else None
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=steps,
        num_workers=n_loaders(device_of(network)),
        worker_init_fn=end_with_main_process,
        multiprocessing_context=fork,
        pin_memory=device_of(network).type == "cuda",  # memory that a GPU reads by itself
    )
    return iter(loader) if steps else iter(())


def view_loss(
    network: UNet,
    stage: Stage,
    forward: Callable[[Tensor], Outputs],
    teacher: Teacher | None,
    images: Tensor,
    targets: Tensor,
) -> Tensor:
    """Return the stage's loss of a batch of views, whose targets are in part what a teacher finds, if there is one."""
    targets = teacher.teach(images, targets) if teacher else targets
    return stage_loss(network, images, targets, stage, forward)


def train_epoch(
    network: UNet,
    take_step: OfBatch,
    optimiser: torch.optim.Optimizer,
    views: Iterator[tuple[Tensor, Tensor]],
    bar: tqdm,
    stage: Stage,
    epoch: int,
    config: TrainConfig,
) -> float:
    """Take the steps of one epoch and return their mean loss."""
    set_training(network, stage)
    losses = []
    for step in range(epoch * config.epoch_steps, (epoch + 1) * config.epoch_steps):
        with unstoppable():
            images, targets = next(views)
            set_learning_rate(optimiser, step, stage.n_epochs * config.epoch_steps, config)
            # Dropout of a resumed run is that of an uninterrupted one.
            torch.manual_seed(random_seed(config.seed + step))
            losses.append(float(mean(take_step(images, targets))))
            if not math.isfinite(losses[-1]):
                raise ValueError(
                    f"The loss of {stage.name}, step {step + 1}, is {losses[-1]}: the training ran away. "
                    "Start a new run with a lower learning_rate."
                )
            bar.update()
            bar.set_postfix(loss=f"{mean_loss(losses):.4f}", refresh=False)
    average_statistics(network)
    return mean_loss(losses)
