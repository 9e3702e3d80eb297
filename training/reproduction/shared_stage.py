"""The systems of the paper's tables are trained from one stage 1, and with equally many steps each (paper, 4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from deepsplit_core.architectures import UNet, build

from ..learning.config import TrainConfig
from ..learning.dataset import Sample
from ..run.checkpoint import read_checkpoint, write_checkpoint
from ..run.history import Row
from ..run.loop import train
from ..run.provenance import check_same_data, write_provenance
from ..run.stopping import unstoppable
from .folds import Parts
from .systems import System

STAGE_1 = "stage-1"  # the name of its run


class Fold(NamedTuple):
    """One division of a set's images, and what all systems are trained with on it.

    Attributes
    ----------
    runs : Path
        Folder of the run folders.
    config : TrainConfig
        Of all systems; architecture and schedule are theirs.
    parts : dict of list of Annotation
    training, validation : list of Sample
    device : torch.device
    arguments : sequence of str
        Of the command, for `config.json` of each run.
    """

    runs: Path
    config: TrainConfig
    parts: Parts
    training: list[Sample]
    validation: list[Sample]
    device: torch.device
    arguments: Sequence[str]


def train_system(system: System, fold: Fold) -> tuple[list[UNet], list[Row]]:
    """Train a system, or go on with it, or read it if it is finished; all have the same number of steps.

    The paper's stage 1 is a U-Net (4.1): it is trained once, and every system but the simultaneous ones goes on from
    it. The U-Net does so with further steps of stage 1.

    Returns
    -------
    networks : list of UNet
        One, or one for segmentation and one whose output is the separation. Of stage 1 the best epoch, which the
        others build on; of what comes after it, the last one.
    history : list of dict
        The rows of all its epochs, those of the shared stage 1 among them.
    """
    network = dataclasses.replace(fold.config.network, architecture=system.architecture)
    config = dataclasses.replace(fold.config, network=network, schedule=system.schedule)
    if system.schedule == "simultaneous":
        return train_run(system.name, config, fold)
    plain = dataclasses.replace(config, network=dataclasses.replace(network, architecture="unet"))
    networks, history = train_run(STAGE_1, plain, fold)
    if system.name == "two-unets":
        second = dataclasses.replace(plain, segmentation_epochs=plain.separation_epochs)
        more, rows = train_run("separation-unet", second, for_separation(fold))
        return networks + more, history + [{**row, "stage": "separation"} for row in rows]
    if system.name == "unet":
        n_epochs = plain.segmentation_epochs + plain.separation_epochs
        config = dataclasses.replace(plain, segmentation_epochs=n_epochs)
    return train_run(system.name, config, fold, begun=STAGE_1)


def for_separation(fold: Fold) -> Fold:
    """Exchange the targets and weights of the two tasks, so that a U-Net learns the separation as its only task."""
    training, validation = (
        [sample._replace(targets=sample.targets[[1, 0, 3, 2]]) for sample in samples]
        for samples in (fold.training, fold.validation)
    )
    return fold._replace(training=training, validation=validation)


def train_run(name: str, config: TrainConfig, fold: Fold, begun: str = "") -> tuple[list[UNet], list[Row]]:
    """Train one network in its run folder, from the start or from where it stopped.

    Parameters
    ----------
    name : str
        Of the run's folder.
    config : TrainConfig
    fold : Fold
    begun : str
        Name of a finished run of the fold, of stage 1 alone, that this one goes on from.
    """
    run = fold.runs / name
    is_begun = (run / "checkpoint.pt").exists()
    if is_begun:
        check_same_data(run / "config.json", fold.parts)
    else:
        run.mkdir(parents=True, exist_ok=True)
        write_provenance(run / "config.json", config, fold.parts, fold.arguments, fold.device)
        if begun:
            take_over(fold.runs / begun / "checkpoint.pt", run / "checkpoint.pt", config)
    resume = is_begun or bool(begun)
    network = train(fold.training, fold.validation, config, run, resume, fold.device)
    last = read_checkpoint(run / "checkpoint.pt")
    if name != STAGE_1:
        # The best epoch of few validation images is chance, and would favour what it is chosen by.
        network.load_state_dict(last["network"])
    return [network], last["history"]


def take_over(finished: Path, checkpoint: Path, config: TrainConfig) -> None:
    """Write the checkpoint of a run that has done stage 1 as the finished one of a U-Net did, to the last bit.

    What the U-Net does not have, a separation part, gets the random weights of the run's seed.
    """
    state = read_checkpoint(finished)
    torch.manual_seed(config.seed)
    random = build(config.network).state_dict()
    for part in ("network", "best"):
        state[part] = {**random, **state[part]}
    state["config"] = config.to_dict()
    with unstoppable():
        write_checkpoint(checkpoint, state)
