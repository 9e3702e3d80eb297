"""U-Net as in section 2.1 of the paper, the trunk of all networks.

Ronneberger et al. 2015, doi:10.1007/978-3-319-24574-4_28
"""

from __future__ import annotations

from torch import Tensor, nn

from ..config import ModelConfig
from .blocks import Decoder, Encoder, level_widths


class UNet(nn.Module):
    """Segmentation alone: (N, 1, Y, X) float -> (N, 1, Y, X) logits.

    Y and X are multiples of ``config.multiple``. The networks with two tasks are U-Nets with a part named
    `separation` added, which reads what the trunk gives and never feeds back into it.
    """

    n_outputs = 1

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        widths = level_widths(config)
        self.multiple = config.multiple
        self.encoder = Encoder(1, widths, config)
        self.decoder = Decoder(widths, config)
        self.segmentation_head = nn.Conv2d(widths[0], 1, kernel_size=1)

    def trunk(self, image: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Return segmentation logits (N, 1, Y, X), the encoder's features and the decoder's, finest first."""
        n_y, n_x = image.shape[-2:]
        if n_y % self.multiple or n_x % self.multiple:
            fit = tuple(-(-n // self.multiple) * self.multiple for n in (n_y, n_x))
            raise ValueError(
                f"The network got an image of {n_y}x{n_x} pixels, but halves it down to {self.multiple} pixels: "
                f"pad it to {fit[0]}x{fit[1]}."
            )
        encoded = self.encoder(image)  # (N, w, Y, X), (N, 2w, Y/2, X/2), ... (N, 16w, Y/16, X/16)
        decoded = self.decoder(encoded[-1], encoded)  # (N, w, Y, X) ... (N, 8w, Y/8, X/8)
        return self.segmentation_head(decoded[0]), encoded, decoded

    def forward(self, image: Tensor) -> Tensor:
        """(N, 1, Y, X) image -> (N, 1, Y, X) segmentation logits."""
        return self.trunk(image)[0]
