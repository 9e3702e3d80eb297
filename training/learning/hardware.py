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
    """Move a network to a device, in `memory_format` of it."""
    return network.to(device, memory_format=memory_format(device))  # type: ignore[call-overload]


def memory_format(device: torch.device) -> torch.memory_format:
    """Return channels-last, which is faster, but on Apple's graphics.

    There the gradients of batch normalisation are wrong with it (github.com/pytorch/pytorch/issues/175189).
    """
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def device_of(network: UNet) -> torch.device:
    """Return the device that a network is on."""
    return next(network.parameters()).device


def to_device(images: Tensor, targets: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Move a batch, (N, C, Y, X) each, to the device, images in its `memory_format`; to NVIDIA's without waiting.

    Apple's would then read what this process may have freed meanwhile (github.com/pytorch/pytorch/issues/139550).
    """
    is_free = device.type == "cuda"  # this process goes on meanwhile
    images = images.to(device, memory_format=memory_format(device), non_blocking=is_free)
    return images, targets.to(device, non_blocking=is_free)


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
