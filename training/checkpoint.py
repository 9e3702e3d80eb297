"""The state of a run on disk: enough to go on where it stopped, and the weights of the best epoch so far."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, NamedTuple

import torch

from deepsplit_core.architectures import UNet
from deepsplit_core.images import with_replacement

from .config import TrainConfig


class Position(NamedTuple):
    """Where a run stood when its last epoch was complete."""

    stage: str
    epoch: int
    best_loss: float
    optimiser: dict[str, Any]


class Checkpoint:
    """Writes and reads `checkpoint.pt` of a run folder, always whole."""

    def __init__(self, path: Path, config: TrainConfig) -> None:
        self.path = path
        self.config = config
        self._best: dict[str, torch.Tensor] | None = None

    def save(
        self, network: UNet, optimiser: torch.optim.Optimizer, stage: str, epoch: int, best_loss: float, is_best: bool
    ) -> None:
        """Write the state after an epoch. `is_best`: its weights are also the best of the stage."""
        if is_best or self._best is None:
            self._best = {name: value.clone() for name, value in network.state_dict().items()}
        state = {
            "config": self.config.to_dict(),
            "stage": stage,
            "epoch": epoch,
            "best_loss": best_loss,
            "network": network.state_dict(),
            "best": self._best,
            "optimiser": optimiser.state_dict(),
        }
        with_replacement(self.path, lambda part: torch.save(state, part))

    def load(self, network: UNet) -> Position:
        """Put the saved weights into the network and return where the run stood.

        Raises
        ------
        ValueError
            There is no checkpoint, or it is of a run with another configuration.
        """
        state = read_checkpoint(self.path)
        saved = TrainConfig.from_dict(state["config"])
        if saved != self.config:
            raise ValueError(
                f"{self.path} is of a run with other settings ({saved}), so it cannot be resumed with these "
                f"({self.config}): give the same settings or another output folder."
            )
        network.load_state_dict(state["network"])
        self._best = state["best"]
        return Position(state["stage"], state["epoch"], state["best_loss"], state["optimiser"])

    def load_best(self, network: UNet) -> None:
        """Put the weights of the best epoch into the network; the next save starts a new best."""
        if self._best is None:
            raise ValueError(f"No epoch of this run is complete yet, so {self.path} holds no best weights.")
        network.load_state_dict(self._best)
        self._best = None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint's tensors and plain values; nothing in it is executed (``weights_only=True``)."""
    if not path.is_file():
        raise ValueError(f"There is no checkpoint {path}: start the run without --resume.")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise ValueError(f"{path} is no checkpoint of a run, or it is damaged ({type(error).__name__}).") from error
    return state
