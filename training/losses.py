"""Weighted binary cross-entropies of the two tasks (paper, 3.2 "Loss Function")."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

CELL_WEIGHT, CONTACT_WEIGHT, BACKGROUND_WEIGHT = 5.0, 22.6, 1.0


def separation_weights(seg_mask: Tensor, separation_mask: Tensor) -> Tensor:
    """5 on cells, 22.6 on contact pixels (also inside cells), 1 on the background; masks of any one shape."""
    weights = torch.full_like(seg_mask, BACKGROUND_WEIGHT)
    weights = torch.where(seg_mask > 0, torch.full_like(weights, CELL_WEIGHT), weights)
    return torch.where(separation_mask > 0, torch.full_like(weights, CONTACT_WEIGHT), weights)


def weighted_cross_entropy(logits: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean of the pixels' binary cross-entropies, each counted with its weight; a scalar. All of one shape."""
    losses = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (weights * losses).sum() / weights.sum()
