"""The same function in fewer operations: normalisation and up-sampling folded into the convolutions beside them."""

from __future__ import annotations

from typing import Sequence, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .architectures import UNet
from .architectures.blocks import Block, Decoder, DecoderBlock


def fold(network: UNet) -> UNet:
    """Fold normalisation and up-sampling, in place.

    Parameters
    ----------
    network : UNet
        In evaluation mode and in float32, in which products and sums of weights are rounded least.

    Returns
    -------
    UNet
        The network given; its tensors no longer fit a weights file.
    """
    return fold_upsampling(fold_normalisation(network))


def fold_normalisation(network: UNet) -> UNet:
    """Fold every batch normalisation into the convolution before it, in place.

    In evaluation mode a normalisation multiplies each feature map by a number and adds another: the convolution's
    weights and bias can do that (Jacob et al. 2018, section 3.2, doi:10.1109/CVPR.2018.00286).
    """
    for block in network.modules():
        if isinstance(block, Block):
            layers = list(block)
            for i, (convolution, normalisation) in enumerate(zip(layers, layers[1:]), start=1):
                if isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d):
                    block[i - 1], block[i] = fuse_conv_bn_eval(convolution, normalisation), nn.Identity()
    return network


def fold_upsampling(network: UNet) -> UNet:
    """Fold every up-sampling into the convolution after it, in place."""
    for decoder in network.modules():
        if isinstance(decoder, Decoder):
            decoder.blocks = nn.ModuleList(FoldedDecoderBlock(cast(DecoderBlock, block)) for block in decoder.blocks)
    return network


class FoldedDecoderBlock(nn.Module):
    """A `DecoderBlock` whose first convolution reads the features below before they are up-sampled.

    A convolution of joined feature maps is the sum of one for each. Of repeated pixels, several of the nine weights
    fall on the same one: 3x3 on the finer grid is 2x2 on the coarser one for each of the four pixels that it becomes,
    which is a transposed convolution of 4x4 and stride 2. That takes 4/9 of the operations, and the features are
    neither up-sampled nor joined in memory.

    Parameters
    ----------
    block : DecoderBlock
        In evaluation mode, without normalisation.
    """

    def __init__(self, block: DecoderBlock) -> None:
        super().__init__()
        first, *others = block
        if not isinstance(first, nn.Conv2d) or first.bias is None:
            raise TypeError(f"A decoder block begins with {first}, not with a convolution that has a bias.")
        weights = first.weight.detach()
        self.below = nn.Parameter(_transposed(weights[:, : block.n_below]))
        self.skips = nn.Parameter(weights[:, block.n_below :])
        self.bias = first.bias
        self.others = nn.Sequential(*others)

    def forward(self, below: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """As `DecoderBlock`."""
        joined = skips[0] if len(skips) == 1 else torch.cat(list(skips), dim=1)
        x = functional.conv2d(joined, self.skips, self.bias, padding=1)
        return self.others(x.add_(functional.conv_transpose2d(below, self.below, stride=2, padding=1)))


def _transposed(weights: Tensor) -> Tensor:
    """Return the weights (in, out, 4, 4) of the transposed convolution for those of 3x3 after up-sampling.

    A pixel below is two rows and two columns above: its weights are those of all four, each moved by its place.
    """
    flipped = weights.flip(2, 3).transpose(0, 1)
    return sum(functional.pad(flipped, (x, 1 - x, y, 1 - y)) for x in (0, 1) for y in (0, 1))  # type: ignore[return-value]
