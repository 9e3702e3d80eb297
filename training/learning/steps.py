"""A step of the training: the loss of a batch, its gradients, and the optimiser, which changes the weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer

from .distributed import n_processes

OfBatch = Callable[[Tensor, Tensor], Tensor]
N_EAGER_STEPS = 3  # before the capture: libraries choose their kernels in the first ones


def make_step(loss_of: OfBatch, optimiser: Optimizer, device: torch.device) -> OfBatch:
    """Return what takes one step.

    Parameters
    ----------
    loss_of : callable
        Loss of images (N, 1, Y, X) and targets (N, 4, Y, X), float32 tensors of one size in all steps; a scalar.
    optimiser : Optimizer
        Of the weights that `loss_of` depends on.
    device : torch.device

    Returns
    -------
    callable
        Takes a step with images and targets, and returns the loss before it, without a gradient.
    """
    is_captured = device.type == "cuda" and n_processes() == 1
    return CapturedStep(loss_of, optimiser, device) if is_captured else EagerStep(loss_of, optimiser)


class EagerStep:
    """Operations run one by one, as Python comes to them."""

    def __init__(self, loss_of: OfBatch, optimiser: Optimizer) -> None:
        self.loss_of, self.optimiser = loss_of, optimiser

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        """Take a step."""
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.loss_of(images, targets)
        loss.backward()
        self.optimiser.step()
        return loss.detach()


class CapturedStep:
    """Loss and gradients are one CUDA graph: a GPU is done with these kernels sooner than Python launches them."""

    def __init__(self, loss_of: OfBatch, optimiser: Optimizer, device: torch.device) -> None:
        self.eager, self.device = EagerStep(loss_of, optimiser), device
        self.stream = torch.cuda.Stream(device)
        self.n_eager = 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        """Take a step."""
        if self.n_eager < N_EAGER_STEPS:
            self.n_eager += 1
            self.stream.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(self.stream):
                loss = self.eager(images, targets)
            torch.cuda.current_stream(self.device).wait_stream(self.stream)
            return loss
        if self.graph is None:
            self.graph = self._capture(images, targets)
        self.images.copy_(images, non_blocking=True)
        self.targets.copy_(targets, non_blocking=True)
        self.graph.replay()  # writes loss and gradients where they were at the capture
        self.eager.optimiser.step()
        return self.loss

    def _capture(self, images: Tensor, targets: Tensor) -> torch.cuda.CUDAGraph:
        self.images, self.targets = (part.to(self.device, copy=True) for part in (images, targets))
        self.eager.optimiser.zero_grad(set_to_none=True)  # the graph makes them, where each replay finds them
        graph = torch.cuda.CUDAGraph()
        # Another thread, which pins memory for the next views, calls CUDA meanwhile.
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            loss = self.eager.loss_of(self.images, self.targets)
            loss.backward()
        self.loss = loss.detach()
        return graph
