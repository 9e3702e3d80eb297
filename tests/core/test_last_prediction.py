"""The network runs again only where its answer could differ."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from networks import random_network, write_weights

from deepsplit_core import LastPrediction, SegmentConfig, WeightsError, predict

IMAGE = np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)
MASK = IMAGE < 0.9


@pytest.fixture
def runs():
    """A predict function that takes down each run of the network, and those runs."""
    taken = []

    def counting(image, config, mask=None):
        taken.append(config)
        return predict(image, config, mask)

    return counting, taken


@pytest.fixture
def config(tiny_weights):
    return SegmentConfig(model=str(tiny_weights), device="cpu")


@pytest.mark.parametrize(
    "change",
    [
        {"segmentation_threshold": 0.2, "separation_threshold": 0.9},
        {"watershed": False, "contact_to_cells": False, "longest_cut": 3.0},
        {"smallest_cell": 3.0, "largest_cell": 100.0, "largest_hole": 0.0},
        {"discard_border": True, "discard_mask_border": True},
    ],
)
def test_splitting_settings_run_no_network(runs, config, change):
    counting, taken = runs
    last = LastPrediction()
    first = last.predict(counting, IMAGE, config, None)
    assert last.predict(counting, IMAGE.copy(), dataclasses.replace(config, **change), None) is first
    assert len(taken) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"image": IMAGE.reshape(30, 20)},
        {"image": IMAGE.view(np.int32)},
        {"image": IMAGE + np.float32(1e-6) * (IMAGE == IMAGE[3, 4])},
        {"mask": None},
        {"mask": ~MASK},
        {"diameter": 20.0},
        {"device": "auto"},
        {"where": "an engine"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_thing_that_the_network_sees_runs_it_again(config, change):
    last, numbers = LastPrediction(), itertools.count(1)

    def ask(image=IMAGE, mask=MASK, where=None, **settings):
        return last.predict(lambda *_: next(numbers), image, dataclasses.replace(config, **settings), mask, where)

    assert (ask(), ask(), ask(**change), ask(**change), ask()) == (1, 1, 2, 2, 3)


def test_the_network_is_given_what_was_asked_for(config):
    assert LastPrediction().predict(lambda *asked: asked, IMAGE, config, MASK) == (IMAGE, config, MASK)


def test_a_file_that_was_replaced_is_another_model(runs, config):
    counting, taken = runs
    last = LastPrediction()
    last.predict(counting, IMAGE, config, None)
    write_weights(Path(config.model), random_network(seed=5))
    last.predict(counting, IMAGE, config, None)
    assert len(taken) == 2
    Path(config.model).unlink()
    with pytest.raises(WeightsError):
        last.predict(counting, IMAGE, config, None)


def test_a_failed_run_is_not_kept(config):
    last = LastPrediction()

    def failing(*_):
        raise RuntimeError("out of memory")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="out of memory"):
            last.predict(failing, IMAGE, config, None)
    assert last.predict(predict, IMAGE, config, None).probabilities.shape == (2, 20, 30)
