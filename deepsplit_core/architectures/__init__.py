"""The four networks of the paper (section 2), built from a `ModelConfig`."""

from __future__ import annotations

from torch import nn

from ..config import ModelConfig
from .branch_net import BranchNet
from .deepsplit import DeepSplit
from .double_unet import DoubleUNet
from .two_task import TwoTaskNet
from .unet import UNet

__all__ = ["ARCHITECTURES", "HEAD_STD", "BranchNet", "DeepSplit", "DoubleUNet", "TwoTaskNet", "UNet", "build"]

ARCHITECTURES = {"unet": UNet, "deepsplit": DeepSplit, "branch_net": BranchNet, "double_unet": DoubleUNet}

HEAD_STD = 0.01  # of the weights with which the last convolution of a task starts


def build(config: ModelConfig) -> UNet:
    """Return a new network with random weights, He-normal as in Ronneberger 2015 (the paper says "randomly").

    The last convolution of a task starts near 0, so that its first probabilities are near .5: a separation decoder
    begins on the features of a trained trunk, which are large where nothing is normalised, and the first steps from
    large logits leave a decoder whose units are 0 for every image.
    """
    network = ARCHITECTURES[config.architecture](config)
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            if name.endswith("head"):
                nn.init.normal_(module.weight, std=HEAD_STD)
            else:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
