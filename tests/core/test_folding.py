import pytest
import torch
from networks import random_network
from torch import nn

from deepsplit_core.architectures.blocks import DecoderBlock
from deepsplit_core.folding import fold, fold_normalisation


def with_statistics(network):
    """Give every normalisation statistics of its own: those of a new network change nothing."""
    generator = torch.Generator().manual_seed(1)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor, low, high in (
                (layer.running_mean, -0.5, 0.5),
                (layer.running_var, 0.5, 2.0),
                (layer.weight.data, 0.5, 2.0),
                (layer.bias.data, -0.5, 0.5),
            ):
                tensor.uniform_(low, high, generator=generator)
    return network


@pytest.mark.parametrize("architecture", ["unet", "deepsplit", "branch_net", "double_unet"])
def test_the_function_stays_the_same_and_nothing_is_left_to_fold(architecture):
    network = with_statistics(random_network(architecture, normalisation="batch"))
    images = torch.rand((2, 1, 16, 24), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = network(images)
        folded = fold(network)
        assert before.std() > 1e-3
        torch.testing.assert_close(folded(images), before, rtol=1e-4, atol=1e-5)
    assert not [layer for layer in folded.modules() if isinstance(layer, (nn.BatchNorm2d, DecoderBlock))]


def test_both_trunks_of_a_two_pass_network_are_folded():
    folded = fold(random_network(normalisation="batch", passes=2))
    assert not [layer for layer in folded.modules() if isinstance(layer, (nn.BatchNorm2d, DecoderBlock))]


def test_a_network_without_normalisation_stays_as_it_is():
    network = random_network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    after = fold_normalisation(network).state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items()) and after.keys() == before.keys()
