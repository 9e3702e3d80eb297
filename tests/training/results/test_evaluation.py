"""Scores of the method's parts, and the choice of thresholds on drawn predictions."""

import dataclasses

import numpy as np
import pytest
import tifffile
import torch
from drawing import contact, discs, perfect_probabilities
from networks import card_of, wired_network

from deepsplit_core import SegmentConfig, predict
from deepsplit_core.config import PreprocessingConfig, SplittingConfig
from deepsplit_core.sizes import typical_diameter
from deepsplit_core.weights import Model
from training.data.annotations import find_annotations
from training.results import evaluation
from training.results.evaluation import (
    Predicted,
    Remembering,
    as_table,
    compare,
    predict_all,
    score,
    score_parts,
    tune,
    tune_for_sizes_found,
)

PAIR = discs((40, 60), [(20, 18, 12), (20, 40, 12)])
PART_NAMES = ["segmentation alone", "with the separation decoder", "and with the watershed"]


def predicted(name="drawn/pair", labels=PAIR, probabilities=None):
    return Predicted(name, perfect_probabilities(labels) if probabilities is None else probabilities, labels)


def test_perfect_prediction_scores_one():
    assert score([predicted()], SplittingConfig()).cds == 1


def test_what_each_part_brings():
    """The segmentation merges the pair, the separation decoder parts it; without contact, the watershed does."""
    config = SplittingConfig(longest_cut=14)
    parts = score_parts([predicted()], config)
    assert list(parts) == PART_NAMES
    assert [scores.n_predicted for scores in parts.values()] == [1, 2, 2]
    blind = perfect_probabilities(PAIR)
    blind[1] = 0
    parts = score_parts([predicted(probabilities=blind)], config)
    assert [scores.n_predicted for scores in parts.values()] == [1, 1, 2]


def test_predictions_are_not_modified():
    image = predicted()
    before = image.probabilities.copy()
    score_parts([image], SplittingConfig())
    assert np.array_equal(image.probabilities, before)


def test_data_sets_are_compared_on_their_own():
    single = discs((40, 60), [(20, 20, 9)])
    comparison = compare([predicted("b/1"), predicted("a/1", single), predicted("a/2", single)], SplittingConfig())
    assert list(comparison) == ["a", "b"]
    assert comparison["a"][PART_NAMES[0]]["n_true"] == 2
    assert [comparison["b"][part]["merges"] for part in PART_NAMES] == [1, 0, 0]
    table = as_table(comparison).splitlines()
    assert len(table) == 2 + 6
    assert len({line.count("|") for line in table}) == 1


def test_images_of_a_run_are_predicted_as_inference_sees_them(data):
    network = wired_network()
    card = card_of(network, preprocessing=PreprocessingConfig("percentile", 0, 100))
    model = Model(network, card, "", torch.device("cpu"), torch.float32)
    annotations = find_annotations(data)[:2]
    images = predict_all(model, annotations)
    assert [image.name for image in images] == ["drawn/field0", "drawn/field1"]
    grey, labels, _ = annotations[0].read()
    bright = (grey - grey.min()) / (grey.max() - grey.min()) > 0.3
    assert np.array_equal(images[0].probabilities[0] > 0.5, bright)
    assert np.array_equal(images[0].labels, labels)


def test_cells_of_one_size_are_predicted_at_their_true_size_or_at_the_one_found(data):
    """Scales are those of the labels, or those with which `deepsplit_core.predict` looks last."""
    network = wired_network()
    card = card_of(network, preprocessing=PreprocessingConfig("percentile", 0, 100, diameter=8.0), diameter=8.0)
    model = Model(network, card, "", torch.device("cpu"), torch.float32)
    annotations = find_annotations(data)[:2]
    known, found = (predict_all(model, annotations, are_sizes_known=known) for known in (True, False))
    for annotation, image, other in zip(annotations, known, found):
        assert image.scale == pytest.approx(typical_diameter(image.labels) / 8)
        assert other.scale == predict(annotation.read().image, SegmentConfig(), load=lambda *_: model).scale
        assert image.probabilities.shape[1:] == image.labels.shape


def test_known_sizes_are_those_that_the_model_sees(data):
    """Thresholds that are not chosen yet decide nothing, and an image without cells has no size of its own."""
    network = wired_network()
    annotations = find_annotations(data)[:2]
    tifffile.imwrite(annotations[1].labels_path, np.zeros((48, 52), np.uint16))
    for own, expected in ((0.0, [1, 1]), (8.0, [None, 1])):
        card = card_of(network, preprocessing=PreprocessingConfig("percentile", 0, 100, diameter=own), diameter=8.0)
        blind = dataclasses.replace(card, splitting=SplittingConfig(separation_threshold=1.0, watershed=False))
        model = Model(network, blind, "", torch.device("cpu"), torch.float32)
        for image, scale in zip(predict_all(model, annotations, are_sizes_known=True), expected):
            assert image.scale == (scale or pytest.approx(typical_diameter(image.labels) / 8))


def test_settings_are_in_pixels_of_the_model():
    """A pair whose neck is 12 pixels wide, and a model of which one pixel is three of the image."""
    image = predicted(probabilities=perfect_probabilities(PAIR) * np.array([1, 0])[:, None, None])
    config = SplittingConfig(longest_cut=5, smallest_cell=5, seed_distance=2)
    assert image.split(config).max() == 1
    assert image._replace(scale=3.0).split(config).max() == 2


def test_ignored_pixels_are_left_out_of_every_score(ignoring):
    """Of the pair, nobody annotated one: the network finds both, and is not wrong."""
    network = wired_network()
    model = Model(network, card_of(network), "", torch.device("cpu"), torch.float32)
    assert predict_all(model, find_annotations(ignoring)[:1])[0].ignore[:, :26].all()
    image = predicted(labels=np.where(PAIR == 1, PAIR, 0), probabilities=perfect_probabilities(PAIR))
    config = SplittingConfig(longest_cut=14)
    assert score([image], config).cds < 1
    image = image._replace(ignore=PAIR == 2)
    assert score([image], config).cds == 1
    assert all(part.dsc == 1 for name, part in score_parts([image], config).items() if name != PART_NAMES[0])


def test_cells_found_where_nobody_annotated_cost_nothing(shared_data):
    """The endothelium set: a network that outlines every cell, those in the ignored pixels, too, is right."""
    image = find_annotations(shared_data / "endothelium")[4].read()
    everything = np.where(image.ignore, image.labels.max() + 1 + np.indices(image.labels.shape)[0] // 40, image.labels)
    probabilities = perfect_probabilities(everything)
    config = SplittingConfig(watershed=False, smallest_cell=0, largest_hole=0)
    found = predicted(labels=image.labels, probabilities=probabilities)
    assert score([found], config).cds < 0.97
    scores = score([found._replace(ignore=image.ignore)], config)
    assert scores.cds > 0.99
    assert scores.dsc > 0.999


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
    tried, original = [], evaluation.score
    monkeypatch.setattr(evaluation, "score", lambda images, config: tried.append(config) or original(images, config))
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
    """Above .4, and above .6 for the separation, the size found is so wrong that the network sees nothing."""

    def seen(model, annotations):
        assert annotations == ["validation"]
        tried = model.card.splitting
        is_right = tried.segmentation_threshold <= 0.4 and tried.separation_threshold <= 0.6
        return [predicted(probabilities=perfect_probabilities(PAIR) * is_right)]

    monkeypatch.setattr(evaluation, "predict_all", seen)
    card = card_of(wired_network(), splitting=SplittingConfig(separation_threshold=0.9, longest_cut=3.0))
    model = Model(wired_network(), card, "", torch.device("cpu"), torch.float32)
    splitting, mean_ap = tune_for_sizes_found(model, ["validation"], card.splitting)
    assert splitting.segmentation_threshold <= 0.4 and splitting.separation_threshold <= 0.6
    assert splitting.longest_cut == 3 and mean_ap == 1


def test_a_threshold_that_was_chosen_before_is_tried_too(monkeypatch):
    """With .2, `tune` may have chosen one beyond those that are tried here."""

    def seen(model, annotations):
        is_right = model.card.splitting.segmentation_threshold <= 0.25
        return [predicted(probabilities=perfect_probabilities(PAIR) * is_right)]

    monkeypatch.setattr(evaluation, "predict_all", seen)
    card = card_of(wired_network(), splitting=SplittingConfig(segmentation_threshold=0.2))
    model = Model(wired_network(), card, "", torch.device("cpu"), torch.float32)
    assert tune_for_sizes_found(model, ["validation"], card.splitting)[0].segmentation_threshold == 0.2


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
        monkeypatch.setattr(evaluation, "MOST_KEPT", 2 * network(images[0]).nbytes)
        remembering = Remembering(network)
        for image in [*images, *images]:
            assert torch.equal(remembering(image), network(image))
    assert len(remembering.said) == 2
