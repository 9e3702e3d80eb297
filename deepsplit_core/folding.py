"""The same function in fewer operations: normalisation folded into the convolutions, derived weights computed once."""

from __future__ import annotations

from typing import Sequence, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .architectures import UNet
from .architectures.blocks import Block, Decoder, DecoderBlock, upsample_join_convolve


def fold(network: UNet) -> UNet:
    """Fold all that can be folded, in place.

    Parameters
    ----------
    network : UNet
        In evaluation mode and in float32, in which products and sums of weights are rounded least.

    Returns
    -------
    UNet
        The network given; its tensors no longer fit a weights file.
    """
    return fold_upsampling(fold_image(fold_normalisation(network)))


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


def fold_image(network: UNet) -> UNet:
    """Replace the convolution that sees the image, in place: of every trunk, the first of the encoder's first block."""
    for block in network.modules():
        if isinstance(block, Block) and isinstance(block[0], nn.Conv2d) and block[0].in_channels == 1:
            block[0] = ImageConvolution(block[0].weight.detach(), cast(Tensor, block[0].bias).detach())
    return network


def fold_upsampling(network: UNet) -> UNet:
    """Compute the weights that a `DecoderBlock` derives from its own in every call once, in place."""
    for decoder in network.modules():
        if isinstance(decoder, Decoder):
            decoder.blocks = nn.ModuleList(FoldedDecoderBlock(cast(DecoderBlock, block)) for block in decoder.blocks)
    return network


class ImageConvolution(nn.Module):
    """A 3x3 convolution of an image: (N, 1, Y, X) -> (N, out, Y, X).

    It takes an empty map beside the image, as oneDNN's convolution of a single map is several times as slow.
    """

    def __init__(self, weights: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(functional.pad(weights, (0, 0, 0, 0, 0, 1)))
        self.bias = nn.Parameter(bias)

    def forward(self, image: Tensor) -> Tensor:
        """(N, 1, Y, X) -> (N, out, Y, X)."""
        maps = functional.pad(image, (0, 0, 0, 0, 0, 1)).contiguous(memory_format=torch.channels_last)
        return functional.conv2d(maps, self.weights, self.bias, padding=1)


class FoldedDecoderBlock(nn.Module):
    """A `DecoderBlock` with its derived weights, without normalisation."""

    def __init__(self, block: DecoderBlock) -> None:
        super().__init__()
        first, *others = block
        self.below, self.skips = (nn.Parameter(weights.detach()) for weights in block.split_weights())
        self.bias = cast(nn.Conv2d, first).bias
        self.others = nn.Sequential(*others)

    def forward(self, below: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """As `DecoderBlock`."""
        return self.others(upsample_join_convolve(below, skips, self.below, self.skips, self.bias))
