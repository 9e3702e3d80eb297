"""One run in several processes, started by ``torchrun --nproc-per-node N -m training train ...``.

Each process draws its share of every batch, and DistributedDataParallel averages the gradients: a step is that of
one process with the whole batch, but for the order of sums. Batch normalisation takes its statistics over the whole
batch on CUDA (SyncBatchNorm). The CPU's backend has no such thing: there each process normalises by its own share,
and the running statistics are averaged after every epoch. The first process writes the run folder.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from deepsplit_core.architectures import UNet
from deepsplit_core.devices import choose_device

Item = TypeVar("Item")
Outputs = tuple[Tensor, Tensor | None]


@contextmanager
def joined(name: str) -> Iterator[torch.device]:
    """Join the processes that torchrun has started, if it has, and give the device that this one computes on.

    Parameters
    ----------
    name : str
        See `devices.choose_device`. Of several processes on CUDA each takes the device of its own number.
    """
    device = choose_device(name)
    if n_processes() == 1:
        yield device
        return
    if device.type == "cuda" and name in ("auto", "cuda"):
        device = choose_device(f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(device)
    elif device.type != "cpu":
        raise ValueError(f"--device {name} is one device: torchrun's processes need 'auto', 'cuda' or 'cpu'.")
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        with open(os.devnull, "w") as nowhere, redirect_stdout(sys.stdout if is_first() else nowhere):
            yield device
    finally:
        distributed.destroy_process_group()


def n_processes() -> int:
    """Return how many processes torchrun has started for this run; 1 without it."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def _rank() -> int:
    return int(os.environ["RANK"]) if n_processes() > 1 else 0


def is_first() -> bool:
    """Say whether this process writes the run folder and speaks to people."""
    return _rank() == 0


def program() -> str:
    """Return what a person types to start this run, before the arguments."""
    if n_processes() == 1:
        return "deepsplit-train" if Path(sys.argv[0]).stem == "deepsplit-train" else "python -m training"
    return f"torchrun --nproc-per-node {os.environ['LOCAL_WORLD_SIZE']} -m training"


def check_batch(n_views: int) -> None:
    """Raise ValueError where the processes cannot have equal shares of a batch."""
    if n_views % n_processes():
        raise ValueError(
            f"batch is {n_views}, which {n_processes()} processes cannot share evenly: "
            f"set a multiple of {n_processes()}, or start another number of processes."
        )


def share_of(items: Sequence[Item]) -> Sequence[Item]:
    """Return what this process does of the work of all."""
    return items[_rank() :: n_processes()]


def joint(items: list[Item]) -> list[Item]:
    """Return the results of all processes for their shares, in the order of the work."""
    if n_processes() == 1:
        return items
    parts: list[list[Item]] = [[] for _ in range(n_processes())]
    distributed.all_gather_object(parts, items)
    return [parts[i % len(parts)][i // len(parts)] for i in range(sum(map(len, parts)))]


def mean(values: Tensor) -> Tensor:
    """Return the mean over the processes; without a gradient where there are several."""
    if n_processes() == 1:
        return values
    total = values.detach().clone()
    distributed.all_reduce(total)
    return total / n_processes()


def random_seed(seed: int) -> int:
    """Return the seed of this process: they drop out different features."""
    return seed * n_processes() + _rank()


def synchronised(network: UNet, device: torch.device) -> UNet:
    """Return the network with batch normalisation over the batches of all processes, where the device has it."""
    if n_processes() > 1 and device.type == "cuda":
        return cast(UNet, nn.SyncBatchNorm.convert_sync_batchnorm(network))
    return network


def average_statistics(network: UNet) -> None:
    """Set the running statistics of batch normalisation to their means over the processes."""
    for statistics in network.buffers():
        if statistics.is_floating_point():
            statistics.copy_(mean(statistics))


class _Computation(nn.Module):
    def __init__(self, network: UNet, compute: Callable[[UNet, Tensor], Outputs]) -> None:
        super().__init__()
        self.network, self.compute = network, compute

    def forward(self, images: Tensor) -> Outputs:
        return self.compute(self.network, images)


def replicated(network: UNet, compute: Callable[[UNet, Tensor], Outputs]) -> Callable[[Tensor], Outputs]:
    """Return ``compute(network, images)`` as a function of the images, whose gradients are those of all processes."""
    if n_processes() == 1:
        return partial(compute, network)
    return DistributedDataParallel(_Computation(network, compute), broadcast_buffers=False)
