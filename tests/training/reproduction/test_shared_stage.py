"""What the systems of the paper's tables share, and what each learns."""

import dataclasses

import pytest
import torch

from deepsplit_core.architectures import build
from training.data.annotations import find_annotations
from training.learning.dataset import load_samples
from training.learning.losses import weighted_cross_entropy
from training.learning.schedule import outputs, stage_loss, stages_of
from training.reproduction.folds import one_division, resized
from training.reproduction.reproduce import predict
from training.reproduction.shared_stage import Fold, for_separation, train_system
from training.reproduction.systems import SYSTEMS
from training.run.checkpoint import read_checkpoint
from training.run.loop import train


@pytest.fixture
def fold(few, config, tmp_path):
    """One division of five drawn images; the tiny run has dropout and batch normalisation."""
    config = dataclasses.replace(config, learning_rate_schedule="constant", freeze_trunk=False)
    (parts,) = one_division(resized(find_annotations(few), 48), 0)
    samples = [load_samples(parts[part], config) for part in ("train", "validation")]
    return Fold(tmp_path / "runs", config, parts, *samples, torch.device("cpu"), ["reproduce"])


def test_stage_1_is_shared_to_the_last_bit(fold):
    """The cumulative systems intersect with the best of it; the U-Net is that of one run of both lengths."""
    for system in ("cumulative-deepsplit", "cumulative-branch-net", "unet"):
        train_system(SYSTEMS[system], fold)
    best = read_checkpoint(fold.runs / "stage-1" / "checkpoint.pt")["best"]
    for system in ("cumulative-deepsplit", "cumulative-branch-net"):
        kept = read_checkpoint(fold.runs / system / "checkpoint.pt")["best"]
        kept = {name.removeprefix("segmentation."): v for name, v in kept.items() if name.startswith("segmentation.")}
        assert kept.keys() == best.keys()
        assert all(torch.equal(kept[name], value) for name, value in best.items())
    network = dataclasses.replace(fold.config.network, architecture="unet")
    config = dataclasses.replace(fold.config, network=network, segmentation_epochs=4)
    (fold.runs / "direct").mkdir()
    train(fold.training, fold.validation, config, fold.runs / "direct", False, fold.device)
    direct, shared = (read_checkpoint(fold.runs / name / "checkpoint.pt") for name in ("direct", "unet"))
    assert all(torch.equal(shared["network"][name], value) for name, value in direct["network"].items())
    assert all(torch.equal(shared["best"][name], value) for name, value in direct["best"].items())


def test_last_epoch_counts(fold, monkeypatch):
    """Also where an earlier one was better: here all later ones are worse."""
    monkeypatch.setattr("training.run.checkpoint.is_best", lambda history: len(history) in (1, 3))
    for system in ("unet", "cumulative-deepsplit", "simultaneous-deepsplit"):
        (network,), _ = train_system(SYSTEMS[system], fold)
        state = read_checkpoint(fold.runs / system / "checkpoint.pt")
        assert any(not torch.equal(state["best"][name], value) for name, value in state["network"].items())
        assert all(torch.equal(network.state_dict()[name], value) for name, value in state["network"].items())


def test_loss_of_the_separation_network_is_that_of_the_separation(fold):
    config = dataclasses.replace(fold.config.network, architecture="unet", dropout=0.0)
    network = build(config).eval()
    stage = stages_of(dataclasses.replace(fold.config, network=config))[0]
    image, targets, _ = fold.training[0][:3]
    _, separation_mask, _, weights = targets
    swapped = for_separation(fold).training[0].targets[None]
    logits, _ = outputs(network, image[None], stage)
    expected = weighted_cross_entropy(logits[:, 0], separation_mask[None], weights[None])
    torch.testing.assert_close(stage_loss(network, image[None], swapped, stage), expected)
    assert torch.equal(fold.training[0].targets, targets)


def test_two_networks_learn_a_task_each(fold):
    """After some steps one is bright on cells, the other on contact; their outputs are not mixed up."""
    network = dataclasses.replace(fold.config.network, base_width=4, dropout=0.0)
    long = {"segmentation_epochs": 3, "separation_epochs": 8, "epoch_steps": 20}
    fold = fold._replace(config=dataclasses.replace(fold.config, network=network, **long))
    networks, _ = train_system(SYSTEMS["two-unets"], fold)
    (image, *_) = predict(networks, fold, "train")
    seg_mask, separation_mask = fold.training[0].targets[:2].numpy() > 0.5
    segmentation, separation = image.probabilities
    assert segmentation[seg_mask].mean() > segmentation[~seg_mask].mean() + 0.3
    assert separation[separation_mask].mean() > separation[seg_mask & ~separation_mask].mean() + 0.1
