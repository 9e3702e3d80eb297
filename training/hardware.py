"""Where a run computes, and with which numbers."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from deepsplit_core.architectures import UNet
from deepsplit_core.devices import choose_dtype

from .distributed import n_processes


def place(network: UNet, device: torch.device) -> UNet:
    """Move a network to a device, with its feature maps innermost (channels-last), which is faster there."""
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def device_of(network: UNet) -> torch.device:
    """Return the device that a network is on."""
    return next(network.parameters()).device


def to_device(planes: Tensor, device: torch.device) -> Tensor:
    """Move images (N, C, Y, X) to the device, channels-last, while the processor goes on."""
    return planes.to(device, memory_format=torch.channels_last, non_blocking=True)


def autocast(device: torch.device) -> AbstractContextManager:
    """Compute in bfloat16 where the device does so (`devices.choose_dtype`), else in float32; weights stay float32."""
    if choose_dtype(device) == torch.bfloat16:
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def n_loaders(device: torch.device) -> int:
    """Return how many processes prepare views.

    One keeps up with a network that runs on the same processor. A GPU takes 600 views a second and more, of which a
    core prepares 180: there it is one for each core, 8 at most, and one core is left to this process.
    """
    if device.type != "cuda":
        return 1
    return max(1, min(8, (os.cpu_count() or 1) // n_processes() - 1))
