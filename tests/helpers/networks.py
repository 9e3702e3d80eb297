"""Small networks: of random weights, and one that is wired by hand so that its answer is known."""

import math

import torch

from deepsplit_core.architectures import HEAD_STD, build
from deepsplit_core.config import ModelConfig, PreprocessingConfig, SplittingConfig
from deepsplit_core.weights import Card, write

CONTACT_GREY = 0.6


def random_network(architecture="deepsplit", seed=0, **config):
    """A narrow network in evaluation mode, whose probabilities differ as a trained one's do; the same for one seed."""
    torch.manual_seed(seed)
    settings = {"base_width": 2, "n_levels": 3, "dropout": 0.0, **config}
    network = build(ModelConfig(architecture, **settings)).eval()
    for name, layer in network.named_modules():
        if name.endswith("head"):
            layer.weight.data *= math.sqrt(2 / layer.in_channels) / HEAD_STD
    return network


def wired_network():
    """DeepSplit that calls grey values above 0.3 cell, and those within 0.1 of 0.6 contact between cells.

    Only paths of single pixels have weights, so that every pixel's answer depends on that pixel alone.
    """
    network = random_network(base_width=2)
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        first, second = _convolutions(network.encoder.blocks[0])
        first.weight[0, 0, 1, 1] = second.weight[0, 0, 1, 1] = 1  # map 0 of the finest level: the image itself
        first, second = _convolutions(network.decoder.blocks[0])
        first.weight[0, 4, 1, 1] = second.weight[0, 0, 1, 1] = 1  # 4 maps from below, then the encoder's 2
        network.segmentation_head.weight[0, 0] = 40
        network.segmentation_head.bias[0] = -40 * 0.3
        first, second = _convolutions(network.separation.decoder.blocks[0])
        for i, sign in enumerate((1, -1)):  # max(0, grey - 0.6) and max(0, 0.6 - grey)
            first.weight[i, 4, 1, 1] = sign
            first.bias[i] = -sign * CONTACT_GREY
            second.weight[i, i, 1, 1] = 1
            network.separation.head.weight[0, i] = -80
        network.separation.head.bias[0] = 80 * 0.1
    return network


def _convolutions(block):
    return [layer for layer in block if isinstance(layer, torch.nn.Conv2d)]


def card_of(network, config=None, **values):
    """A card for a network of `random_network` or `wired_network`."""
    defaults = {
        "name": "tiny",
        "description": "Made for the tests",
        "network": config or ModelConfig("deepsplit", base_width=2, n_levels=3, dropout=0.0),
        "preprocessing": PreprocessingConfig("percentile", low=0, high=100),
        "splitting": SplittingConfig(smallest_cell=5, largest_hole=10, longest_cut=4, seed_distance=3),
        "diameter": 20.0,
    }
    return Card(**{**defaults, **values})


def write_weights(path, network, card=None):
    """Write a weights file and return its path."""
    write(path, card or card_of(network), network.state_dict())
    return path
