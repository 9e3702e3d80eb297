"""The weighted binary cross-entropy of both tasks (paper, 3.2 "Loss Function"); the weights come with the targets."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def weighted_cross_entropy(logits: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean of the pixels' binary cross-entropies, each counted with its weight; a scalar. All of one shape.

    0 where all weights are 0: a view may show nothing but pixels that nobody annotated.
    """
    losses = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (weights * losses).sum() / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)
