"""From a run to a weights file that says what it is."""

import json

import pytest
import torch

from deepsplit_core.weights import read, read_card
from training.annotations import find_annotations, split_annotations
from training.checkpoint import Checkpoint, read_checkpoint
from training.dataset import load_samples
from training.export import export, read_about
from training.loop import train

ABOUT = {"name": "drawn", "description": "Drawn discs", "data": [{"name": "drawn", "licence": "CC0"}]}


@pytest.fixture
def parts(data):
    return split_annotations(find_annotations(data), seed=1)


@pytest.fixture
def finished(tmp_path, parts, config):
    """The folder of a finished run."""
    run = tmp_path / "run"
    run.mkdir()
    train(*(load_samples(parts[part], config) for part in ("train", "validation")), config, run, False)
    return run


def test_card_tells_the_whole_story(finished, parts, config, tmp_path, capsys):
    path = tmp_path / "drawn.safetensors"
    card = export(finished, parts, ABOUT, path)
    assert read_card(path) == card
    assert (card.name, card.description, card.data) == (ABOUT["name"], ABOUT["description"], ABOUT["data"])
    assert (card.network, card.preprocessing) == (config.network, config.preprocessing)
    assert card.diameter == pytest.approx(14, abs=2)  # discs of radius 7, 7 and 8
    assert set(card.metrics["test"]["drawn"]) >= {"segmentation alone", "with the separation decoder"}
    assert card.training["images"] == {"train": 4, "validation": 1, "test": 1}
    assert type(config).from_dict(card.training["config"]) == config
    assert card.training["stage"] == "separation"
    assert "sha256" in capsys.readouterr().out


def test_weights_are_those_of_the_best_epoch(finished, parts, tmp_path):
    path = tmp_path / "drawn.safetensors"
    export(finished, parts, ABOUT, path)
    best = read_checkpoint(finished / "checkpoint.pt")["best"]
    _, tensors = read(path)
    assert tensors.keys() == best.keys()
    assert all(torch.equal(best[name], value) for name, value in tensors.items())


def test_thresholds_are_chosen_on_validation_images_alone(finished, parts, tmp_path, monkeypatch):
    from training import export as module

    seen = []
    original = module.tune

    def spy(predicted, diameter):
        seen.extend(image.name for image in predicted)
        return original(predicted, diameter)

    monkeypatch.setattr(module, "tune", spy)
    export(finished, parts, ABOUT, tmp_path / "drawn.safetensors")
    assert seen == [annotation.name for annotation in parts["validation"]]


def test_run_without_its_second_stage_is_no_finished_run(tmp_path, parts, config):
    """Its separation part was never trained: weights of it would cut cells at random."""
    from networks import random_network

    run = tmp_path / "run"
    run.mkdir()
    network = random_network(dropout=0.2, normalisation="batch")
    optimiser = torch.optim.Adam(network.parameters())
    row = {"stage": "segmentation", "epoch": 1, "loss": 1.0, "validation_loss": 0.5, "seconds": 1.0}
    Checkpoint(run / "checkpoint.pt", config).save(network, optimiser, [row])
    with pytest.raises(ValueError, match="finished|separation"):
        export(run, parts, ABOUT, tmp_path / "drawn.safetensors")
    assert not (tmp_path / "drawn.safetensors").exists()


def test_about_is_complete_or_refused(tmp_path):
    path = tmp_path / "about.json"
    path.write_text(json.dumps(ABOUT))
    assert read_about(path) == ABOUT
    path.write_text(json.dumps({"name": "drawn"}))
    with pytest.raises(ValueError, match=r"about\.json lacks \['data', 'description'\]"):
        read_about(path)
