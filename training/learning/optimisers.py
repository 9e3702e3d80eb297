"""The optimisers of the paper (3.2 "Optimisation") by name, and their learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from torch import nn
from torch.optim import SGD, Adadelta, Adagrad, Adam, Optimizer

from .config import TrainConfig

# The paper gives no values beside the names: torch's defaults, and the usual momentum.
OPTIMISERS: dict[str, Callable[..., Optimizer]] = {
    "adam": Adam,
    "sgd": SGD,
    "momentum": lambda parameters, lr: SGD(parameters, lr=lr, momentum=0.9),
    "adagrad": Adagrad,
    "adadelta": Adadelta,
}


def make_optimiser(parameters: Iterable[nn.Parameter], config: TrainConfig) -> Optimizer:
    """Return the optimiser that the configuration names."""
    return OPTIMISERS[config.optimiser](parameters, lr=config.learning_rate)


def set_learning_rate(optimiser: Optimizer, step: int, n_steps: int, config: TrainConfig) -> None:
    """Set the learning rate of a step; on the cosine it falls to zero over the longest length of the stage."""
    share = 0.5 * (1 + math.cos(math.pi * step / n_steps)) if config.learning_rate_schedule == "cosine" else 1.0
    for group in optimiser.param_groups:
        group["lr"] = config.learning_rate * share
