"""The weighted binary cross-entropy of both tasks (paper, 3.2 "Loss Function"); the weights come with the targets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def weighted_cross_entropy(logits: Tensor, target: Tensor, weights: Tensor, total: Tensor | None = None) -> Tensor:
    """Mean of the pixels' binary cross-entropies, each counted with its weight; a scalar. All of one shape.

    0 where all weights are 0: a view may show nothing but pixels that nobody annotated.

    Parameters
    ----------
    logits, target, weights : tensors
    total : scalar tensor, optional
        What the weights add up to, where they are a part of a batch that several processes share.
    """
    losses = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    total = weights.sum() if total is None else total
    return (weights * losses).sum() / total.clamp(min=torch.finfo(weights.dtype).tiny)


def mean_loss(losses: Sequence[float]) -> float:
    """Return the mean over batches or images in which anything was annotated: the loss of any other is 0 exactly."""
    counted = [loss for loss in losses if loss != 0]
    return sum(counted) / max(len(counted), 1)
