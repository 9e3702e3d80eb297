"""What is said of a network after each epoch."""

import dataclasses

import numpy as np
import pytest
import torch
from drawing import discs
from networks import random_network, wired_network

from deepsplit_core.config import SplittingConfig
from deepsplit_core.metrics import evaluate
from deepsplit_core.splitting import split
from training.learning.dataset import Sample
from training.learning.schedule import begin, stage_loss, stages_of
from training.learning.validation import fullest_window, mirrored, probabilities, spread, validate


@pytest.fixture
def stages(config):
    return stages_of(config)


def test_loss_is_that_of_whole_images_without_dropout(config, samples, stages):
    network = random_network(dropout=0.2)
    image, targets = samples[0].image[None, :, :48, :52], samples[0].targets[None, :, :48, :52]
    with torch.no_grad():
        expected = float(stage_loss(network, image, targets, stages[0]))
    network.train()
    assert validate(network, samples[:1], stages[0], config).loss == pytest.approx(expected)


def test_loss_is_the_mean_of_the_images(config, samples, stages):
    network = random_network()
    losses = [validate(network, [sample], stages[1], config).loss for sample in samples]
    assert validate(network, samples, stages[1], config).loss == pytest.approx(np.mean(losses))


@pytest.fixture
def pair():
    """Two cells with a contact zone that `wired_network` knows by its grey value; 50 x 47 pixels."""
    labels = discs((50, 47), [(24, 14, 9), (24, 31, 9)])
    image = np.where(labels > 0, 0.9, 0.1).astype(np.float32)
    image[18:31, 22:24] = 0.6
    ones = np.ones_like(image)
    targets = np.stack([labels > 0, image == np.float32(0.6), ones, ones]).astype(np.float32)
    return Sample(torch.from_numpy(image[None]), torch.from_numpy(targets), labels)


def test_what_nobody_annotated_counts_in_no_score(config, pair, stages):
    targets = pair.targets.clone()
    targets[2:, :, 23:] = 0  # the right-hand cell and everything beside it
    scores = validate(wired_network(), [pair._replace(targets=targets)], stages[1], config).scores
    assert (scores.n_true, scores.n_predicted, scores.cds) == (1, 1, 1.0)


def test_scores_are_those_of_the_whole_post_processing(config, pair, stages):
    """The separation decoder's contact makes two cells of one; stage 1 does not know it."""
    one = validate(wired_network(), [pair], stages[0], config).scores
    both = validate(wired_network(), [pair], stages[1], config).scores
    assert (both.n_predicted, both.matched_above_half, both.cds) == (2, 2, 1.0)
    network, image = wired_network(), mirrored(pair.image.numpy(), 4)
    with torch.no_grad():
        logits = network(torch.from_numpy(image)[None])
    alone = probabilities(logits[:, :1], None, (50, 47))
    assert not alone[1].any()
    assert one == evaluate(split(alone, SplittingConfig()).labels, pair.labels)
    found = probabilities(logits[:, :1], logits[:, 1:], (50, 47))
    assert both == evaluate(split(found, SplittingConfig()).labels, pair.labels)


def test_segmentation_that_is_kept_makes_the_cells(config, pair):
    """What the retrained trunk says of the segmentation is not in the weights file's output."""
    config = dataclasses.replace(config, freeze_trunk=False, network=dataclasses.replace(config.network, dropout=0.0))
    config = dataclasses.replace(config, network=dataclasses.replace(config.network, normalisation="none"))
    network, stage = wired_network(), stages_of(config)[1]
    begin(network, stage, config)
    before = validate(network, [pair], stage, config)
    torch.nn.init.constant_(network.segmentation_head.bias, -100.0)
    after = validate(network, [pair], stage, config)
    assert after.scores == before.scores
    assert after.loss > before.loss
    whole = validate(network, [pair], stage._replace(keeps_segmentation=False), config)
    assert whole.scores.n_predicted == 0 < before.scores.n_predicted  # as of a run with `one_pass`


def test_network_is_left_as_it_was(config, samples, stages):
    network = random_network(normalisation="batch")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    validate(network.train(), samples, stages[1], config)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_small_images_are_mirrored_to_a_size_that_fits():
    planes = np.arange(2 * 3 * 5, dtype=np.float32).reshape(2, 3, 5)
    found = mirrored(planes, multiple=4)
    assert found.shape == (2, 4, 8)
    assert np.array_equal(found[:, :3, :5], planes)
    assert np.array_equal(found[:, 3], found[:, 2])


def test_large_images_are_cut_in_their_middle_or_where_most_was_annotated():
    annotated = np.ones((100, 90), bool)
    assert fullest_window(annotated, 20) == (slice(40, 60), slice(35, 55))
    assert fullest_window(annotated, 95) == (slice(2, 97), slice(0, 90))
    annotated[:, 15:] = annotated[:30] = False  # 15 columns at the left, below row 30
    assert fullest_window(annotated, 20) == (slice(40, 60), slice(0, 20))


def test_an_image_that_is_annotated_in_a_corner_is_judged_there(config, pair, stages):
    """Else every cell of every epoch would be right, and the first epoch the best one."""
    wide = pair._replace(
        image=torch.zeros((1, 500, 600)), targets=torch.zeros((4, 500, 600)), labels=np.zeros((500, 600), np.int32)
    )
    for whole, part in zip(wide[:2], pair[:2], strict=True):
        whole[:, :50, :47] = part
    wide.labels[:50, :47] = pair.labels
    found = validate(wired_network(), [wide], stages[1], config)
    assert (found.scores.n_true, found.scores.cds) == (2, 1.0)
    assert found.loss > 0


def test_an_image_with_its_cells_in_a_corner_is_judged_there(config, pair, stages):
    """All of it is annotated, and there is nothing in the middle."""
    wide = pair._replace(
        image=torch.zeros((1, 500, 600)), targets=torch.ones((4, 500, 600)), labels=np.zeros((500, 600), np.int32)
    )
    wide.image[:, :50, :47], wide.labels[:50, :47] = pair.image, pair.labels
    assert validate(wired_network(), [wide], stages[1], config).scores.n_true == 2


def test_at_most_some_images_evenly_spread():
    assert spread(range(10), 0) == spread(range(10), 10) == spread(range(10), 99) == list(range(10))
    assert spread(range(10), 2) == [2, 7]
    assert spread(range(10), 1) == [5]
    assert spread(range(5), 3) == [0, 2, 4]


def test_number_of_images_is_limited(config, samples, stages, monkeypatch):
    network, n = random_network(), 0
    forward = network.trunk

    def count(image):
        nonlocal n
        n += 1
        return forward(image)

    monkeypatch.setattr(network, "trunk", count)
    validate(network, samples, stages[0], dataclasses.replace(config, validation_images=2))
    assert n == 2
