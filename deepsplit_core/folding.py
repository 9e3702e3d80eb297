"""Batch normalisation folded into the convolutions: the same function with one pass less over every feature map."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .architectures import UNet
from .architectures.blocks import Block


def fold_normalisation(network: UNet) -> UNet:
    """Fold every batch normalisation into the convolution before it, in place.

    In evaluation mode a normalisation multiplies each feature map by a number and adds another: the convolution's
    weights and bias can do that (Jacob et al. 2018, section 3.2, doi:10.1109/CVPR.2018.00286).

    Parameters
    ----------
    network : UNet
        In evaluation mode and in float32, in which the products are rounded least.

    Returns
    -------
    UNet
        The network given; its tensors no longer fit a weights file.
    """
    for block in network.modules():
        if isinstance(block, Block):
            layers = list(block)
            for i, (convolution, normalisation) in enumerate(zip(layers, layers[1:]), start=1):
                if isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d):
                    block[i - 1], block[i] = fuse_conv_bn_eval(convolution, normalisation), nn.Identity()
    return network
