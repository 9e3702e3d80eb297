"""In test mode a change of splitting shows without the network; in a run nothing is kept."""

import numpy as np
import pytest
from cellprofiler_core.image import Image

import deepsplit_core

SHAPE = (40, 60)


def draw():
    image = np.zeros(SHAPE, np.float32)
    image[5:15, 5:15] = image[5:15, 17:27] = image[30:40, 45:55] = 1
    image[5:15, 15:17] = 0.6
    image[20:25, 30:35] = 0.32  # a cell with a probability of 0.69
    return image


@pytest.fixture
def runs(monkeypatch):
    """The images that the network has seen."""
    seen, original = [], deepsplit_core.predict

    def counting(image, config, mask=None):
        seen.append(image)
        return original(image, config, mask)

    monkeypatch.setattr(deepsplit_core, "predict", counting)
    return seen


def count(workspace):
    return workspace.object_set.get_objects("Nuclei").count


@pytest.mark.parametrize(
    ("changes", "n_before", "n_after"),
    [
        ({"use_model_thresholds": False, "separation_threshold": 1.0, "watershed": False}, 4, 3),
        ({"use_model_thresholds": False, "segmentation_threshold": 0.9}, 4, 3),
        ({"smallest_diameter": 30.0}, 4, 0),
        ({"largest_diameter": 5.0}, 4, 0),
        ({"discard_border": True, "wants_clumps": True, "wants_probabilities": True}, 4, 3),
        ({"fill_holes": False, "contact_to_cells": False, "longest_cut": 2.0}, 4, 4),
    ],
)
def test_splitting_settings_do_not_run_the_network(run_on, runs, changes, n_before, n_after):
    first = run_on(draw(), test_mode=True)
    assert count(first) == n_before
    for name, value in changes.items():
        getattr(first.module, name).value = value
    again = run_on(draw(), test_mode=True, module=first.module)
    assert count(again) == n_after
    assert len(runs) == 1
    fresh = run_on(draw(), **changes)  # the same as a run from the beginning
    for labels in ("segmented", "small_removed_segmented", "unedited_segmented"):
        kept, made = (getattr(w.object_set.get_objects("Nuclei"), labels) for w in (again, fresh))
        assert np.array_equal(kept, made)


def test_seeds_do_not_run_the_network(run_on, runs):
    first = run_on(draw(), test_mode=True)
    first.module.use_seeds.value, first.module.seeds_name.value = True, "Seeds"
    seeds = np.zeros(SHAPE, np.int32)
    seeds[10, 8] = 1
    assert count(run_on(draw(), test_mode=True, module=first.module, seeds=seeds)) == 1
    assert len(runs) == 1


@pytest.mark.parametrize("change", ["image", "mask", "diameter", "device", "weights"])
def test_what_the_network_sees_runs_it(run_on, runs, wired_weights, change):
    first = run_on(draw(), test_mode=True)
    image = draw()
    if change == "image":
        image[35, 5] = 0.5
    if change == "mask":
        image = Image(image, mask=image < 2)
    if change == "diameter":
        first.module.diameter.value = 12.0
    if change == "device":
        first.module.device.value = "CPU"
    if change == "weights":
        from networks import random_network, write_weights

        write_weights(wired_weights, random_network())
    run_on(image, test_mode=True, module=first.module)
    assert len(runs) == 2


def test_another_python_is_asked(run_on, runs):
    """Else it would seem to work, and fail in the run."""
    first = run_on(draw(), test_mode=True)
    first.module.where.value = "Another Python environment"
    with pytest.raises(FileNotFoundError, match="No Python environment is selected"):
        run_on(draw(), test_mode=True, module=first.module)


def test_a_run_keeps_nothing(run_on, runs):
    first = run_on(draw())
    run_on(draw(), module=first.module)
    assert len(runs) == 2


def test_later_modules_cannot_change_what_is_kept(run_on, runs):
    first = run_on(draw(), test_mode=True, wants_probabilities=True)
    first.image_set.get_image("CellProbability").pixel_data[:] = 0
    assert count(run_on(draw(), test_mode=True, module=first.module)) == 4
    assert len(runs) == 1
