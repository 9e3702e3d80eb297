"""Scores of the method's parts, on drawn predictions."""

import dataclasses

import numpy as np
import pytest
import tifffile
import torch
from drawing import discs, perfect_probabilities
from networks import card_of, wired_network

from deepsplit_core import SegmentConfig, predict
from deepsplit_core.config import PreprocessingConfig, SplittingConfig
from deepsplit_core.sizes import typical_diameter
from deepsplit_core.weights import Model
from training.data.annotations import find_annotations
from training.results.evaluation import (
    Predicted,
    as_table,
    compare,
    predict_all,
    score,
    score_parts,
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
