"""Branch-Net: a U-Net with three further blocks for separation at its end (paper, sections 2.3 and 4.1, Fig. A.1)."""

from __future__ import annotations

from typing import Sequence

from torch import Tensor, nn

from ..config import ModelConfig
from .blocks import Block
from .two_task import TwoTaskNet


class SeparationBranch(nn.Module):
    """Three blocks at full resolution, which see the last features of the segmentation decoder.

    The paper names "3 additional convolutional blocks" at the end of the decoder and no width: here they keep
    the width of the level where they start.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.base_width
        self.blocks = nn.Sequential(*(Block(width, width, config) for _ in range(3)))
        self.head = nn.Conv2d(width, 1, kernel_size=1)

    def forward(self, encoded: Sequence[Tensor], decoded: Sequence[Tensor]) -> Tensor:
        """Features of the trunk, finest first -> separation logits (N, 1, Y, X)."""
        return self.head(self.blocks(decoded[0]))


class BranchNet(TwoTaskNet):
    """(N, 1, Y, X) image -> (N, 2, Y, X) logits."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.separation = SeparationBranch(config)
