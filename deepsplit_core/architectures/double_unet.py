"""Double-U-Net: a U-Net followed by a second, smaller one for separation (paper, sections 2.3 and 4.1, Fig. A.2)."""

from __future__ import annotations

from typing import Sequence

from torch import Tensor, nn

from ..config import ModelConfig
from .blocks import Decoder, Encoder, level_widths
from .two_task import TwoTaskNet


class SecondUNet(nn.Module):
    """A U-Net on the last features of the first one's decoder.

    The paper says "smaller" and no size: here it has the same width and at most three levels instead of five.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        widths = level_widths(config)[:3]
        self.encoder = Encoder(widths[0], widths, config)
        self.decoder = Decoder(widths, config)
        self.head = nn.Conv2d(widths[0], 1, kernel_size=1)

    def forward(self, encoded: Sequence[Tensor], decoded: Sequence[Tensor]) -> Tensor:
        """Features of the first U-Net, finest first -> separation logits (N, 1, Y, X)."""
        again = self.encoder(decoded[0])
        return self.head(self.decoder(again[-1], again)[0])


class DoubleUNet(TwoTaskNet):
    """(N, 1, Y, X) image -> (N, 2, Y, X) logits."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.separation = SecondUNet(config)
