"""The losses, against values worked out by hand."""

import math

import pytest
import torch

from training.learning.losses import mean_loss, weighted_cross_entropy


def test_value_by_hand():
    # -log sigmoid(0) = log 2; -log(1 - sigmoid(log 3)) = -log(1/4) = log 4.
    logits = torch.tensor([0.0, math.log(3)])
    loss = weighted_cross_entropy(logits, torch.tensor([1.0, 0.0]), torch.tensor([1.0, 3.0]))
    assert loss.item() == pytest.approx((1 * math.log(2) + 3 * math.log(4)) / 4)


def test_equal_weights_give_the_plain_mean():
    logits, target = torch.randn(3, 1, 5, 5), (torch.rand(3, 1, 5, 5) > 0.5).float()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, target)
    for weight in (1.0, 22.6):
        found = weighted_cross_entropy(logits, target, torch.full_like(target, weight))
        torch.testing.assert_close(found, expected)


def test_pixels_of_weight_0_do_not_count():
    weights = torch.tensor([1.0, 0.0])
    one = weighted_cross_entropy(torch.tensor([0.3, 50.0]), torch.tensor([1.0, 0.0]), weights)
    other = weighted_cross_entropy(torch.tensor([0.3, -9.0]), torch.tensor([1.0, 0.0]), weights)
    assert one == other


def test_view_in_which_nothing_counts_costs_nothing():
    """Not NaN, which would end up in every weight of the network."""
    logits = torch.randn(3, 3, requires_grad=True)
    loss = weighted_cross_entropy(logits, torch.ones(3, 3), torch.zeros(3, 3))
    loss.backward()
    assert loss == 0
    assert (logits.grad == 0).all()


def test_perfect_prediction_costs_nothing_and_the_opposite_much():
    target = torch.tensor([0.0, 1.0])
    logits = torch.tensor([-100.0, 100.0])
    assert weighted_cross_entropy(logits, target, torch.ones(2)) < 1e-6
    assert weighted_cross_entropy(-logits, target, torch.ones(2)) == pytest.approx(100)


def test_gradient():
    logits = torch.randn(2, 1, 3, 3, dtype=torch.double, requires_grad=True)
    target = (torch.rand(2, 1, 3, 3) > 0.5).double()
    weights = torch.rand(2, 1, 3, 3, dtype=torch.double) + 0.1
    assert torch.autograd.gradcheck(lambda x: weighted_cross_entropy(x, target, weights), logits)


def test_share_of_a_batch_is_counted_with_the_weights_of_all():
    logits, target, weights = torch.randn(6), (torch.rand(6) > 0.5).float(), torch.rand(6)
    parts = [slice(0, 1), slice(1, 6)]
    shares = [weighted_cross_entropy(logits[p], target[p], weights[p], weights.sum()) for p in parts]
    torch.testing.assert_close(sum(shares), weighted_cross_entropy(logits, target, weights))


def test_mean_is_over_what_was_annotated():
    assert mean_loss([0.4, 0.0, 0.2]) == pytest.approx(0.3)
    assert mean_loss([0.0]) == 0
    assert math.isnan(mean_loss([0.4, math.nan]))  # never hidden
