"""The choice of thresholds and lengths, on drawn predictions."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from drawing import contact, discs, grid_of_pairs, perfect_probabilities
from networks import card_of, wired_network

from deepsplit_core.config import PreprocessingConfig, SplittingConfig
from deepsplit_core.weights import Model
from training.data.annotations import Annotation, find_annotations
from training.results import tuning
from training.results.evaluation import Predicted, predict_all, score
from training.results.tuning import (
    Remembering,
    doubt_of,
    score_sets,
    towards,
    tune,
    tune_for_sizes_found,
    usual,
)

PAIR = discs((40, 60), [(20, 18, 12), (20, 40, 12)])
VALIDATION = [Annotation("drawn/pair", Path("image.tif"), Path("labels.tif"))]


def predicted(name="drawn/pair", labels=PAIR, probabilities=None):
    return Predicted(name, perfect_probabilities(labels) if probabilities is None else probabilities, labels)


def test_tuning_finds_thresholds_that_part_the_cells():
    """The contact is faint (0.35) and so is the halo around the cells (0.45): 0.5 for both would fail."""
    probabilities = np.where(PAIR > 0, 0.9, 0.0).astype(np.float32)
    halo = np.roll(PAIR > 0, 3, axis=0) & (PAIR == 0)
    probabilities[halo] = 0.75
    faint = np.where(contact(PAIR), 0.35, 0.0).astype(np.float32)
    image = predicted(probabilities=np.stack([probabilities, faint]))
    chosen, mean_ap = tune([image], diameter=24)
    assert mean_ap == 1
    assert score([image], chosen).ap == (1,) * 5
    assert chosen.separation_threshold < 0.35
    assert chosen.segmentation_threshold > 0.75


def test_tuning_scores_no_setting_twice(monkeypatch):
    tried, original = [], tuning.score
    monkeypatch.setattr(tuning, "score", lambda images, config: tried.append(config) or original(images, config))
    tune([predicted()], diameter=24)
    assert len(set(tried)) == len(tried) > 30


def test_a_false_cell_in_an_empty_field_does_not_choose_the_thresholds():
    """The cell of one image is as faint as noise in an empty one of another set: finding it is worth the false cell."""
    faint = perfect_probabilities(PAIR) * np.array([0.55, 1])[:, None, None].astype(np.float32)
    image = predicted(probabilities=faint)
    empty = image._replace(name="fields/a", labels=np.zeros_like(PAIR))
    chosen, mean_ap = tune([image, empty], diameter=24)
    assert mean_ap == 1 and chosen.segmentation_threshold <= 0.55


def test_tuning_counts_data_sets_alike():
    """Nine images of one set without a cell that could be found, one of another: the mean of the two sets is 1/2."""
    blind = np.zeros((2, *PAIR.shape), np.float32)
    images = [*(predicted(f"many/{i}", probabilities=blind) for i in range(9)), predicted("one/pair")]
    assert tune(images, diameter=24)[1] == 0.5


def test_folders_of_one_data_set_count_as_one():
    """Three folders without a cell that could be found, one where both are: 1/4, but 1/2 if the three are one set."""
    blind = np.zeros((2, *PAIR.shape), np.float32)
    images = [*(predicted(f"drawn{i}/a", probabilities=blind) for i in (1, 2, 12)), predicted("one/pair")]
    assert tune(images, diameter=24)[1] == 0.25
    assert tune(images, diameter=24, data_sets=["drawn1, drawn2, drawn12", "one"])[1] == 0.5
    assert tune(images, diameter=24, data_sets=["drawn1, drawn12"])[1] == pytest.approx(1 / 3)


@pytest.mark.parametrize("diameter", [2, 4, 24, 150])
def test_tuning_at_any_diameter(diameter):
    """However wrong it is, there are settings that keep both cells and cut neither."""
    _, mean_ap = tune([predicted()], diameter)
    assert mean_ap == 1


def test_both_thresholds_are_chosen_with_the_sizes_that_they_find(monkeypatch):
    """Above .4, and above .6 for the separation, the size found is so wrong that the network misses a cell each."""

    def seen(model, annotations):
        assert annotations == VALIDATION
        tried = model.card.splitting
        missed = (tried.segmentation_threshold > 0.4, tried.separation_threshold > 0.6)
        found = np.where(np.isin(PAIR, np.flatnonzero(missed) + 1), 0, PAIR)
        return [predicted(probabilities=perfect_probabilities(found))]

    monkeypatch.setattr(tuning, "predict_all", seen)
    card = card_of(wired_network(), splitting=SplittingConfig(separation_threshold=0.9, longest_cut=3.0))
    model = Model(wired_network(), card, "", torch.device("cpu"), torch.float32)
    splitting, mean_ap = tune_for_sizes_found(model, VALIDATION, card.splitting)
    assert splitting.segmentation_threshold <= 0.4 and splitting.separation_threshold <= 0.6
    assert splitting.longest_cut == 3 and mean_ap == 1


def test_a_threshold_that_was_chosen_before_is_tried_too(monkeypatch):
    """With .2, `tune` may have chosen one beyond those that are tried here."""

    def seen(model, annotations):
        is_right = model.card.splitting.segmentation_threshold <= 0.25
        return [predicted(probabilities=perfect_probabilities(PAIR) * is_right)]

    monkeypatch.setattr(tuning, "predict_all", seen)
    card = card_of(wired_network(), splitting=SplittingConfig(segmentation_threshold=0.2))
    model = Model(wired_network(), card, "", torch.device("cpu"), torch.float32)
    assert tune_for_sizes_found(model, VALIDATION, card.splitting)[0].segmentation_threshold == 0.2


def test_thresholds_for_sizes_found_run_the_network_once_for_each_size(data):
    """Ten pairs of thresholds are tried, and scored as without a memory."""
    network = wired_network()
    card = card_of(network, preprocessing=PreprocessingConfig("percentile", 0, 100, diameter=14.0), diameter=14.0)
    model = Model(network, card, "", torch.device("cpu"), torch.float32)
    seen = []
    network.register_forward_hook(lambda network, images, logits: seen.append(images[0].numpy().tobytes()))
    annotations = find_annotations(data)[:2]
    splitting, mean_ap = tune_for_sizes_found(model, annotations, card.splitting)
    assert len(set(seen)) == len(seen) >= 2
    card = dataclasses.replace(card, splitting=splitting)
    scores = score(predict_all(model._replace(card=card), annotations), splitting)
    assert mean_ap == pytest.approx(np.mean(scores.ap))


def test_a_remembering_network_knows_images_apart():
    network = wired_network()
    remembering = Remembering(network)
    images = [torch.rand(1, 1, 32, 16), torch.rand(1, 1, 32, 16)]
    images.append(images[0].reshape(1, 1, 16, 32))
    for image in [*images, *images]:
        with torch.no_grad():
            assert torch.equal(remembering(image), network(image))


def test_a_remembering_network_keeps_no_more_than_it_may(monkeypatch):
    network = wired_network()
    images = [torch.rand(1, 1, 32, 16) for _ in range(3)]
    with torch.no_grad():
        monkeypatch.setattr(tuning, "MOST_KEPT", 2 * network(images[0]).nbytes)
        remembering = Remembering(network)
        for image in [*images, *images]:
            assert torch.equal(remembering(image), network(image))
    assert len(remembering.said) == 2


def faint_contact(n_images):
    """Images of six pairs each, of which one has a faint contact (.35): a mean AP of .80 with the usual threshold."""
    circles, shape = grid_of_pairs(2, 3)
    pairs = discs(shape, circles)
    probabilities = perfect_probabilities(pairs)
    probabilities[1, :48, :48] *= 0.35
    return [predicted(f"drawn/{i}", pairs, probabilities) for i in range(n_images)]


def test_what_few_images_cannot_tell_stays_as_usual(monkeypatch):
    """A lower threshold finds a pair more of six, which one image may do by chance, but hardly nine."""
    monkeypatch.setattr(tuning, "DOUBT", 0.3)
    one, nine = faint_contact(1), faint_contact(9)
    gain = 1 - score_sets(one, usual(20), [])
    assert 0.1 < gain < 0.3
    assert tune(one, 20)[0].separation_threshold < 0.35
    assert tune(one, 20, tolerance=doubt_of(one)) == (usual(20), 1 - gain)
    # The nearest that is as good, and nothing else is changed.
    assert tune(nine, 20, tolerance=doubt_of(nine)) == (
        dataclasses.replace(usual(20), separation_threshold=0.3),
        pytest.approx(1),
    )


def test_the_nearest_that_is_as_good_is_taken():
    """Of two that are equally far from the usual one, that which is nearer to the best."""
    aps = {0.5: 0.58, 0.6: 0.57, 0.7: 0.5, 0.8: 0.58, 0.9: 0.6}
    start = SplittingConfig(neck=0.7)
    best = dataclasses.replace(start, neck=0.9)
    for tolerance, neck in ((0, 0.9), (0.01, 0.9), (0.025, 0.8), (0.05, 0.8), (0.11, 0.7)):
        chosen = towards(start, best, {"neck": list(aps)}, lambda config: aps[config.neck], tolerance)
        assert chosen == dataclasses.replace(start, neck=neck)


def test_tolerances_do_not_add_up():
    """Each of two settings brings .03: the last goes back for a tolerance of .04, both for .07."""
    start = SplittingConfig(neck=0.7, longest_cut=3.0)
    best = SplittingConfig(neck=0.9, longest_cut=5.0)
    candidates = {"neck": [0.7, 0.9], "longest_cut": [3.0, 5.0]}

    def value(config):
        return 0.5 + 0.03 * (config.neck > 0.8) + 0.03 * (config.longest_cut > 4)

    assert towards(start, best, candidates, value, 0.02) == best
    assert towards(start, best, candidates, value, 0.04) == dataclasses.replace(best, longest_cut=3.0)
    assert towards(start, best, candidates, value, 0.07) == start


def test_images_of_a_small_set_leave_more_doubt():
    """One set of n images is as sure as n; with a set of one image beside, half of the mean hangs on it: under 4."""
    empty = np.zeros_like(PAIR)

    def number(sets=(), **counts):
        images = [predicted(f"{folder}/{i}") for folder, n in counts.items() for i in range(n)]
        doubts = [
            doubt_of(images + more, sets) for more in ([], [predicted("a/empty", empty), predicted("e/1", empty)])
        ]
        assert doubts[0] == doubts[1]  # an image without cells tells nothing
        return (tuning.DOUBT / doubts[0]) ** 2

    assert number(a=7) == pytest.approx(7)
    assert number(a=3, b=3) == pytest.approx(6)
    assert number(a=99, b=1) == pytest.approx(4 / (1 + 1 / 99))
    assert number(["a, b"], a=5, b=5, c=1) == pytest.approx(4 / (1 + 1 / 10))


def test_a_threshold_for_sizes_found_is_changed_for_what_is_no_chance_alone(monkeypatch):
    """The usual .5 is right for all pairs but one of six; .3 for all."""

    def seen(model, annotations):
        images = faint_contact(1)
        if model.card.splitting.segmentation_threshold < 0.4:
            return [predicted(labels=images[0].labels)]
        return images

    monkeypatch.setattr(tuning, "predict_all", seen)
    card = card_of(wired_network(), splitting=dataclasses.replace(usual(20), watershed=False))
    model = Model(wired_network(), card, "", torch.device("cpu"), torch.float32)
    assert tune_for_sizes_found(model, VALIDATION, card.splitting)[0].segmentation_threshold == 0.3
    assert tune_for_sizes_found(model, VALIDATION, card.splitting, tolerance=0.3)[0] == card.splitting
