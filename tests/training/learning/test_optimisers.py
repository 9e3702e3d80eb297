"""Optimisers by name, and the learning rate over a stage."""

import dataclasses

import pytest
import torch

from training.learning.optimisers import OPTIMISERS, make_optimiser, set_learning_rate


def two_steps(config, name, gradients=(2.0, 0.0)):
    """Where a parameter that starts at 1 stands after steps with these gradients."""
    parameter = torch.nn.Parameter(torch.ones(1))
    optimiser = make_optimiser([parameter], dataclasses.replace(config, optimiser=name, learning_rate=0.1))
    for gradient in gradients:
        parameter.grad = torch.full((1,), gradient)
        optimiser.step()
    return parameter.item()


def test_sgd_follows_the_gradient(config):
    assert two_steps(config, "sgd") == pytest.approx(1 - 0.1 * 2)


def test_momentum_goes_on_without_a_gradient(config):
    assert two_steps(config, "momentum") == pytest.approx(1 - 0.1 * 2 - 0.1 * 0.9 * 2)


def test_adam_takes_steps_of_the_learning_rate(config):
    assert two_steps(config, "adam", [2.0]) == pytest.approx(1 - 0.1, abs=1e-6)
    assert two_steps(config, "adam", [0.001]) == pytest.approx(1 - 0.1, abs=1e-3)


def test_adagrad_divides_by_the_root_of_all_squares(config):
    assert two_steps(config, "adagrad", [2.0, 1.0]) == pytest.approx(1 - 0.1 - 0.1 / 5**0.5, abs=1e-6)


def test_adadelta_takes_its_step_from_its_own_history(config):
    step = (1e-6 / (0.1 * 2.0**2 + 1e-6)) ** 0.5 * 2  # rho 0.9, epsilon 1e-6
    assert two_steps(config, "adadelta", [2.0]) == pytest.approx(1 - 0.1 * step, abs=1e-6)


def test_default_is_adam_and_an_unknown_name_is_refused(config):
    assert type(config)().optimiser == "adam"
    with pytest.raises(ValueError, match="optimiser is 'lion', but it must be one of .*'adadelta'"):
        dataclasses.replace(config, optimiser="lion")
    for name in OPTIMISERS:
        dataclasses.replace(config, optimiser=name)


def rates(config, n_steps=10):
    optimiser = make_optimiser([torch.nn.Parameter(torch.ones(1))], config)
    found = []
    for step in range(n_steps):
        set_learning_rate(optimiser, step, n_steps, config)
        found.append(optimiser.param_groups[0]["lr"] / config.learning_rate)
    return found


def test_cosine_falls_to_zero(config):
    found = rates(config)
    assert found[0] == 1
    assert found[5] == pytest.approx(0.5)
    assert found == sorted(found, reverse=True)
    assert 0 < found[9] < 0.03


def test_constant_stays(config):
    assert rates(dataclasses.replace(config, learning_rate_schedule="constant")) == [1] * 10
    with pytest.raises(ValueError, match="learning_rate_schedule is 'step'"):
        dataclasses.replace(config, learning_rate_schedule="step")


def test_patience_is_checked(config):
    with pytest.raises(ValueError, match="patience is -1, but it must be at least 0"):
        dataclasses.replace(config, patience=-1)
