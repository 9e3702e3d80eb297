"""Views per second of the training loop beside those of a plain one, and the share of time it waits for its views.

    .venv/bin/python -m benchmarks.train_speed [--rounds 5] [--steps 8]

Both train the network of the preset "standard" on the same drawn batches: the loop as `train` runs it (channels-last,
bfloat16 where the processor has it, views from a process of their own), and torch's defaults (float32,
channels first, batches ready in memory; see plain.py). Rounds of the two take turns, so that other work on the machine
hits both.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from deepsplit_core.architectures import build
from deepsplit_core.devices import choose_device, choose_dtype, describe
from training.learning.config import TrainConfig
from training.learning.dataset import RandomBatches, Sample
from training.learning.hardware import device_of, place
from training.learning.optimisers import make_optimiser
from training.learning.schedule import Stage, begin, loss_of, set_training, stage_loss, stages_of, trained_parameters
from training.learning.steps import make_step
from training.run.loop import load_views
from training.run.settings import read_config

from .plain import plain_decoders


def measure(n_rounds: int = 5, n_steps: int = 8) -> dict[str, float | str]:
    """Time rounds of both loops and return medians: views per second, their ratio, and the share of waiting."""
    config = read_config("standard")
    samples, stage = draw_samples(config), stages_of(config)[0]
    views = load_views(RandomBatches(samples, config, 0), 0, stage.n_epochs, config, build(config.network))
    held = [next(views) for _ in range(n_steps)]
    ours, plain = OurLoop(config, stage, views), PlainLoop(config, stage, held)
    ours.run(2)  # the first steps reserve memory and choose kernels
    plain.run(2)
    ours.waited = 0.0
    rounds = [(ours.run(n_steps), plain.run(n_steps)) for _ in range(n_rounds)]
    rates = config.batch * n_steps / np.array(rounds)
    device, dtype = describe(torch.device("cpu"), choose_dtype(torch.device("cpu")))
    return {
        "views_per_s": round(float(np.median(rates[:, 0])), 2),
        "plain_float32_views_per_s": round(float(np.median(rates[:, 1])), 2),
        "ratio": round(float(np.median(rates[:, 0] / rates[:, 1])), 2),
        "share_of_waiting": round(ours.waited / sum(ours_seconds for ours_seconds, _ in rounds), 4),
        "device": device,
        "dtype": dtype,
        "threads": torch.get_num_threads(),
    }


def draw_samples(config: TrainConfig) -> list[Sample]:
    """Return images of the size of BBBC039 with random content: the time does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    shape = (520, 696)
    return [
        Sample(
            torch.rand((1, *shape), generator=generator),
            (torch.rand((4, *shape), generator=generator) > 0.5).float(),
            np.zeros(shape, np.int32),
        )
        for _ in range(8)
    ]


class OurLoop:
    """The steps of `loop.train_epoch`, with a clock around the wait for views."""

    def __init__(self, config: TrainConfig, stage: Stage, views: Iterator[tuple[Tensor, Tensor]]) -> None:
        self.views, self.waited = views, 0.0
        self.network = place(build(config.network), choose_device("cpu"))
        begin(self.network, stage, config)
        set_training(self.network, stage)
        optimiser = make_optimiser(trained_parameters(self.network, stage), config)
        self.take_step = make_step(partial(stage_loss, self.network, stage=stage), optimiser, device_of(self.network))

    def run(self, n_steps: int) -> float:
        """Take steps and return the seconds that they took."""
        start = time.perf_counter()
        for _ in range(n_steps):
            asked = time.perf_counter()
            images, targets = next(self.views)
            self.waited += time.perf_counter() - asked
            float(self.take_step(images, targets))
        return time.perf_counter() - start


class PlainLoop:
    """The same network and loss as torch runs them by default, on batches that are there."""

    def __init__(self, config: TrainConfig, stage: Stage, batches: list[tuple[Tensor, Tensor]]) -> None:
        self.stage, self.batches = stage, batches
        self.network = build(config.network)
        begin(self.network, stage, config)
        set_training(self.network, stage)
        self.optimiser = torch.optim.Adam(trained_parameters(self.network, stage), lr=config.learning_rate)

    def run(self, n_steps: int) -> float:
        """Take steps and return the seconds that they took."""
        start = time.perf_counter()
        for images, targets in self.batches[:n_steps]:
            with plain_decoders():
                loss = loss_of(self.network.trunk(images)[0], None, targets, self.stage)
            float(loss.detach())
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()
        return time.perf_counter() - start


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    options = parser.parse_args()
    print(json.dumps(measure(options.rounds, options.steps), indent=1))
