"""Steps: as by hand, and as one CUDA graph the same as one by one."""

import copy

import pytest
import torch
from networks import random_network

from training.learning.steps import EagerStep, make_step

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def losses_of(network, device, step_of, n_steps=8):
    """The losses of steps of one network on one batch, with another learning rate and seed in each."""
    network = copy.deepcopy(network).to(device)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(2, 1, 32, 32, generator=generator)
    targets = (torch.rand(2, 2, 32, 32, generator=generator) > 0.5).float()

    def loss_of(images, targets):
        logits = torch.nn.functional.dropout(network(images.to(device)), 0.2)
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, targets.to(device))

    take_step, losses = step_of(loss_of, optimiser, torch.device(device)), []
    for number in range(n_steps):
        torch.manual_seed(number)
        optimiser.param_groups[0]["lr"] = 1e-3 / (number + 1)
        losses.append(float(take_step(images, targets)))
    return losses, network.state_dict()


def one_by_one(loss_of, optimiser, device):
    return EagerStep(loss_of, optimiser)


def test_step_goes_down_the_gradient_of_its_own_batch_alone():
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    optimiser = torch.optim.SGD([weight], lr=0.25)
    take_step = make_step(
        lambda images, targets: ((images - targets) * weight).sum() ** 2, optimiser, torch.device("cpu")
    )
    one, two = torch.tensor([1.0]), torch.tensor([2.0])
    assert take_step(two, one) == 1.0  # before the step
    assert weight.item() == pytest.approx(0.5)  # 1 - 0.25 * 2
    assert take_step(two, one) == pytest.approx(0.25)
    assert weight.item() == pytest.approx(0.25)  # the first gradient is not added
    assert not take_step(one, two).requires_grad


@CUDA
@pytest.mark.parametrize("normalisation", ["none", "batch"])
def test_captured_steps_are_those_taken_one_by_one(normalisation):
    """Dropout has the seed of each step, the optimiser its learning rate, and batch normalisation its statistics."""
    network = random_network(normalisation=normalisation).train()
    expected, weights = losses_of(network, "cuda", one_by_one)
    losses, captured = losses_of(network, "cuda", make_step)
    assert losses == pytest.approx(expected, abs=1e-4)
    assert len(set(losses)) == len(losses)
    for name, tensor in weights.items():
        torch.testing.assert_close(captured[name], tensor, rtol=1e-2, atol=1e-3)
