"""The parts that all four networks are built from: block, encoder, decoder (paper, section 2.1 and Fig. 2)."""

from __future__ import annotations

from typing import Sequence, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..config import ModelConfig


def level_widths(config: ModelConfig) -> list[int]:
    """Return the number of feature maps of every level, finest first: 64, 128, 256, 512, 1024 in the paper."""
    return [config.base_width * 2**level for level in range(config.n_levels)]


class Block(nn.Sequential):
    """Two 3x3 convolutions, each with ReLU, then dropout: (N, in, Y, X) -> (N, out, Y, X).

    The paper gives the dropout rate (20 %) and "random dropout" after the ReLU, not whether it follows each
    convolution or the block; here it follows the block, as the caption of Fig. 2 reads. Padding keeps the size,
    as the equal resolutions inside a block of Fig. 2 show.
    """

    def __init__(self, n_in: int, n_out: int, config: ModelConfig) -> None:
        normalise = config.normalisation == "batch"
        layers: list[nn.Module] = []
        for n in (n_in, n_out):
            # A convolution needs no bias of its own where batch normalisation brings one.
            layers.append(nn.Conv2d(n, n_out, kernel_size=3, padding=1, bias=not normalise))
            if normalise:
                layers.append(nn.BatchNorm2d(n_out))
            layers.append(nn.ReLU(inplace=True))
        if config.dropout:
            layers.append(Dropout(config.dropout))
        super().__init__(*layers)


class Dropout(nn.Dropout):
    """The same as torch's; on a processor four values are decided by one random number, in a sixth of the time."""

    def forward(self, x: Tensor) -> Tensor:
        """Keep each value with the probability 1 - p, divided by it; a tensor without gaps in memory."""
        if not self.training or x.device.type != "cpu":
            return super().forward(x)
        bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        kept = torch.empty_like(x)
        in_memory = kept.as_strided((x.numel(),), (1,))
        torch.ge(bits[: x.numel()], round(self.p * 2**16) - 2**15, out=in_memory)
        return x * kept.mul_(1 / (1 - self.p))


class DecoderBlock(Block):
    """A block on up-sampled features joined with others: (N, n_below, Y/2, X/2), (N, ., Y, X)s -> (N, out, Y, X).

    Up-sampling repeats pixels: the paper says "2x2 up-sampling operations" (2.1) and names no learned one.
    """

    def __init__(self, n_below: int, n_skip: int, n_out: int, config: ModelConfig) -> None:
        super().__init__(n_below + n_skip, n_out, config)
        self.n_below = n_below

    def forward(self, below: Tensor, skips: Sequence[Tensor]) -> Tensor:  # type: ignore[override]
        """Features of the level below, and those of this level that they are joined with."""
        first, *others = self
        x = upsample_join_convolve(below, skips, *self.split_weights(), cast(nn.Conv2d, first).bias)
        for layer in others:
            x = layer(x)
        return x

    def split_weights(self) -> tuple[Tensor, Tensor]:
        """Return the first convolution's weights for the features below, (n_below, out, 4, 4), and for the others.

        Of 3x3 weights for the finer grid, those that fall on one pixel of the coarser grid add up. Seen from there, a
        pixel below is two rows and two columns above: its weights are those of all four, each moved by its place.
        """
        weights = cast(nn.Conv2d, self[0]).weight
        flipped = weights[:, : self.n_below].flip(2, 3).transpose(0, 1)
        moved = [functional.pad(flipped, (x, 1 - x, y, 1 - y)) for x in (0, 1) for y in (0, 1)]
        return torch.stack(moved).sum(dim=0), weights[:, self.n_below :]


def upsample_join_convolve(
    below: Tensor, skips: Sequence[Tensor], below_weights: Tensor, skip_weights: Tensor, bias: Tensor | None
) -> Tensor:
    """Repeat every pixel of (N, n_below, Y/2, X/2) 2x2 times, join (N, ., Y, X)s to it and convolve: (N, out, Y, X).

    The features are neither up-sampled nor joined in memory: a convolution of joined feature maps is the sum of one
    for each, and a 3x3 convolution after up-sampling is a transposed one of 4x4 and stride 2, which takes 4/9 of the
    operations.
    """
    x = functional.conv_transpose2d(below, below_weights, bias, stride=2, padding=1)
    for skip, weights in zip(skips, skip_weights.split([skip.shape[1] for skip in skips], dim=1)):
        x = x.add_(functional.conv2d(skip, weights, padding=1))
    return x


def max_pool(x: Tensor) -> Tensor:
    """Return the largest of 2x2 pixels: (N, C, Y, X) -> (N, C, Y/2, X/2)."""
    if x.dtype != torch.uint8:
        return functional.max_pool2d(x, kernel_size=2)
    rows = torch.maximum(x[:, :, 0::2], x[:, :, 1::2])  # torch's pooling knows no uint8
    return torch.maximum(rows[:, :, :, 0::2], rows[:, :, :, 1::2])


class Encoder(nn.Module):
    """Blocks with 2x2 max pooling of stride 2 between them (section 2.1).

    The paper says that every block is followed by pooling; the last has no block below it, so it has none.
    """

    def __init__(self, n_in: int, widths: Sequence[int], config: ModelConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(above, width, config) for above, width in zip([n_in, *widths], widths))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, in, Y, X) -> one (N, widths[i], Y / 2**i, X / 2**i) a level, finest first."""
        features: list[Tensor] = []
        for block in self.blocks:
            x = block(max_pool(x) if features else x)
            features.append(x)
        return features


class Decoder(nn.Module):
    """The encoder's blocks with 2x2 up-sampling in place of the pooling (section 2.1).

    At every level the up-sampled features are joined with `n_skips` others of the same size: the encoder's,
    and in DeepSplit's separation decoder also the segmentation decoder's (the cross connections).
    """

    def __init__(self, widths: Sequence[int], config: ModelConfig, n_skips: int = 1) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            DecoderBlock(below, n_skips * width, width, config) for width, below in zip(widths, widths[1:])
        )

    def forward(self, bottom: Tensor, *skips: Sequence[Tensor]) -> list[Tensor]:
        """Features of the coarsest level, skips finest first -> one (N, widths[i], Y / 2**i, X / 2**i) a level."""
        x, features = bottom, []
        for level in reversed(range(len(self.blocks))):
            x = self.blocks[level](x, [skip[level] for skip in skips])
            features.append(x)
        return features[::-1]
