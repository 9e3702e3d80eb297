"""The state of a run on disk: enough to go on where it stopped, and the weights of the best epoch so far."""

from __future__ import annotations

import dataclasses
import os
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from deepsplit_core.architectures import UNet
from deepsplit_core.images import with_replacement

from ..learning.config import TrainConfig, differences
from ..learning.distributed import is_first
from ..learning.schedule import stages_of
from .history import Row, is_best, rows_of

LENGTHS = ("segmentation_epochs", "separation_epochs")


class Position(NamedTuple):
    """Where a run stood when its last epoch was complete.

    Attributes
    ----------
    stage : str
    history : list of Row
    network, optimiser : dict
    change : str
        Of the lengths of its stages since, for people; empty if there is none.
    """

    stage: str
    history: list[Row]
    network: dict[str, Tensor]
    optimiser: dict[str, Any]
    change: str


class Checkpoint:
    """Writes and reads `checkpoint.pt` of a run folder, always whole; of several processes the first one writes."""

    def __init__(self, path: Path, config: TrainConfig) -> None:
        self.path = path
        self.config = config
        self._best: dict[str, Tensor] | None = None

    def save(self, network: UNet, optimiser: torch.optim.Optimizer, history: list[Row]) -> None:
        """Write the state after the epoch of the last row; if it is the best of its stage, its weights are kept."""
        stage = history[-1]["stage"]
        if self._best is None or is_best(history):
            self._best = {name: value.detach().to("cpu", copy=True) for name, value in network.state_dict().items()}
        if not is_first():
            return
        state = {
            "config": self.config.to_dict(),
            "stage": stage,
            "epoch": len(rows_of(history, stage)) - 1,
            "history": history,
            "network": network.state_dict(),
            "best": self._best,
            "optimiser": optimiser.state_dict(),
        }
        write_checkpoint(self.path, state)

    def read(self) -> Position:
        """Return where the run stood, and take over its best weights.

        Stages that are not complete may have another length now: nothing that was done would have been done otherwise,
        but that the learning rate fell towards another end.

        Raises
        ------
        ValueError
            There is no checkpoint, or it is of a run with another configuration.
        """
        state = read_checkpoint(self.path)
        saved, history = TrainConfig.from_dict(state["config"]), state["history"]
        as_long = dataclasses.replace(self.config, **{name: getattr(saved, name) for name in LENGTHS})
        if saved != as_long:
            raise ValueError(
                f"{self.path} is of a run with other settings ({differences(saved, as_long)}), so it cannot be "
                "resumed: give the same settings or another output folder."
            )
        for then, now in zip(stages_of(saved), stages_of(self.config), strict=True):
            n_done = len(rows_of(history, now.name))
            is_over = n_done == then.n_epochs or (n_done > 0 and state["stage"] != now.name)
            if now.n_epochs != then.n_epochs and (is_over or now.n_epochs <= n_done):
                raise ValueError(
                    f"{self.path} has done {n_done} of {then.n_epochs} epochs of {now.name!r}, which cannot have "
                    f"{now.n_epochs} now: a stage that is over keeps its length, any other needs more than it has done."
                )
        self._best = state["best"]
        change = differences(saved, self.config)
        return Position(state["stage"], history, state["network"], state["optimiser"], change)

    def load_best(self, network: UNet) -> None:
        """Put the weights of the best epoch into the network; the next save starts a new best."""
        if self._best is None:
            raise ValueError(f"No epoch of this run is complete yet, so {self.path} holds no best weights.")
        network.load_state_dict(self._best)
        self._best = None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint's tensors and plain values; nothing in it is executed (``weights_only=True``)."""
    if not path.is_file():
        raise ValueError(
            f"There is no {path}: no epoch of this run is complete yet (start it without --resume), or it is no run."
        )
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise ValueError(f"{path} is no checkpoint of a run, or it is damaged ({type(error).__name__}).") from error
    if not isinstance(state, dict) or not {"config", "history", "network"} <= set(state):
        raise ValueError(f"{path} is no checkpoint of a run.")
    return state


def remove_leftovers(run: Path) -> None:
    """Remove files that a killed run had begun to write; nobody but `with_replacement` makes files of such names."""
    for part in run.rglob(".*.part*"):
        part.unlink()


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint, complete or not at all."""

    def write(part: Path) -> None:
        # torch's own file writer says "unexpected pos" of a full disk; an open file says what it is.
        with part.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())  # on the disk before the old one is replaced: the power may go too

    with_replacement(path, write)
