"""A run that starts from trained weights instead of random ones."""

from __future__ import annotations

from deepsplit_core.architectures import UNet
from deepsplit_core.quantisation import is_statistic
from deepsplit_core.weights import build_network, path_of, read

from .config import TrainConfig


def load_start(network: UNet, config: TrainConfig) -> None:
    """Put the weights that the run starts from into its network, if it does.

    A file with two passes holds a second trunk, the result of its stage 1. It is left out: the separation part was
    trained on the network's own trunk. So are the statistics of activations, which training changes.
    """
    if not config.start_from:
        return
    path = path_of(config.start_from)
    card, tensors = read(path)
    trained = build_network(path, card, tensors).state_dict()
    left_out = {name for name in trained if name.startswith("segmentation.") or is_statistic(name)}
    network.load_state_dict({name: tensor for name, tensor in trained.items() if name not in left_out})
