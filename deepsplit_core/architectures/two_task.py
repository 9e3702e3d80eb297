"""What DeepSplit, Branch-Net and Double-U-Net share: a U-Net with a separation part (paper, section 2.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .unet import UNet


class TwoTaskNet(UNet):
    """(N, 1, Y, X) float image -> (N, 2, Y, X) logits: segmentation, separation.

    A subclass sets `separation`, a module that takes the features of the trunk's encoder and of its decoder,
    each finest first, and returns separation logits (N, 1, Y, X).
    """

    n_outputs = 2
    separation: nn.Module

    def forward(self, image: Tensor) -> Tensor:
        """(N, 1, Y, X) image -> (N, 2, Y, X) logits: segmentation, separation."""
        segmentation, encoded, decoded = self.trunk(image)
        return torch.cat([segmentation, self.separation(encoded, decoded)], dim=1)
