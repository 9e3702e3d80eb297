"""What DeepSplit, Branch-Net and Double-U-Net share: a U-Net with a separation part (paper, section 2.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..config import ModelConfig
from .unet import UNet


class TwoTaskNet(UNet):
    """(N, 1, Y, X) float image -> (N, 2, Y, X) logits: segmentation, separation.

    A subclass sets `separation`, a module that takes the features of the trunk's encoder and of its decoder,
    each finest first, and returns separation logits (N, 1, Y, X).

    `segmentation`, where there is one, is a second trunk that gives the segmentation in place of the first
    (``config.passes`` 2): that of training stage 1, while the first was trained on with the separation (4.1).
    """

    n_outputs = 2
    separation: nn.Module
    segmentation: UNet | None

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.segmentation = UNet(config) if config.passes == 2 else None

    def forward(self, image: Tensor) -> Tensor:
        """(N, 1, Y, X) image -> (N, 2, Y, X) logits: segmentation, separation."""
        segmentation, encoded, decoded = self.trunk(image)
        if self.segmentation is not None:
            segmentation = self.segmentation(image)
        return torch.cat([segmentation, self.separation(encoded, decoded)], dim=1)
