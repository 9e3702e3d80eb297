"""The four networks of the paper (section 2), built from a `ModelConfig`."""

from __future__ import annotations

from torch import nn

from ..config import ModelConfig
from .branch_net import BranchNet
from .deepsplit import DeepSplit
from .double_unet import DoubleUNet
from .two_task import TwoTaskNet
from .unet import UNet

__all__ = ["ARCHITECTURES", "BranchNet", "DeepSplit", "DoubleUNet", "TwoTaskNet", "UNet", "build"]

ARCHITECTURES = {"unet": UNet, "deepsplit": DeepSplit, "branch_net": BranchNet, "double_unet": DoubleUNet}


def build(config: ModelConfig) -> UNet:
    """Return a new network with random weights, He-normal as in Ronneberger 2015 (the paper says "randomly")."""
    network = ARCHITECTURES[config.architecture](config)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
