"""DeepSplit: one encoder, a segmentation decoder and a separation decoder (paper, sections 2 and 2.2, Fig. 2)."""

from __future__ import annotations

from typing import Sequence

from torch import Tensor, nn

from ..config import ModelConfig
from .blocks import Decoder, level_widths
from .two_task import TwoTaskNet


class SeparationDecoder(nn.Module):
    """A decoder configured as the segmentation decoder (2.2), with cross connections from all its levels."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        widths = level_widths(config)
        self.decoder = Decoder(widths, config, n_skips=2)
        self.head = nn.Conv2d(widths[0], 1, kernel_size=1)

    def forward(self, encoded: Sequence[Tensor], decoded: Sequence[Tensor]) -> Tensor:
        """Features of the trunk, finest first -> separation logits (N, 1, Y, X)."""
        return self.head(self.decoder(encoded[-1], encoded, decoded)[0])


class DeepSplit(TwoTaskNet):
    """The paper's main network: (N, 1, Y, X) image -> (N, 2, Y, X) logits."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.separation = SeparationDecoder(config)
