"""Runs that start from trained weights."""

import json

import pytest
import torch
from networks import card_of, random_network, write_weights

from deepsplit_core.config import ModelConfig
from deepsplit_core.quantisation import observed
from deepsplit_core.weights import path_of, read_card, sha256_of
from training.cli import main
from training.data.division import read_split
from training.learning.finetune import load_start
from training.run.checkpoint import read_checkpoint
from training.run.settings import read_config


def card_network():
    """What the card of `tiny_weights` says."""
    return {"architecture": "deepsplit", "base_width": 2, "n_levels": 3, "dropout": 0.0, "normalisation": "none"}


def test_targets_come_from_the_card_where_nobody_chose_any(tmp_path):
    """Else six images would first have to unlearn a contact zone of another width."""
    theirs = read_card(path_of("cells")).training["config"]["targets"]
    assert theirs["contact_width"] == 3 and not theirs["class_balance"]
    assert read_config("finetune", [], "cells").targets.to_dict() == theirs
    asked = read_config("finetune", ["targets.contact_reach=7"], "cells").targets.to_dict()
    assert asked == {**theirs, "contact_reach": 7.0}
    assert read_config("standard", [], "cells").targets == read_config("standard").targets
    own = tmp_path / "own.toml"
    own.write_text('start_from = "cells"\n[targets]\ngap_weight = 2.0\n')
    assert read_config(str(own)).targets.to_dict() == {**theirs, "gap_weight": 2.0}


def test_network_and_preprocessing_come_from_the_card(tiny_weights):
    config = read_config("finetune", [], str(tiny_weights))
    assert config.network == ModelConfig(**card_network())
    assert (config.preprocessing.low, config.preprocessing.high) == (0, 100)
    assert config.learning_rate == read_config("finetune").learning_rate  # the rest is the preset's
    assert config.start_from == str(tiny_weights)


def test_preset_starts_from_a_bundled_model_unless_another_one_is_named(tiny_weights):
    config = read_config("finetune")
    assert config.start_from == "nuclei" and config.network == read_card(path_of("nuclei")).network
    assert read_config("finetune", ["start_from=cells"]).preprocessing.diameter == 36
    assert read_config("finetune", [], str(tiny_weights)).start_from == str(tiny_weights)


@pytest.mark.parametrize(
    ("setting", "part", "theirs"),
    [
        ("network.base_width=4", "network", "{'base_width': 2}"),
        ("network.architecture=branch_net", "network", "{'architecture': 'deepsplit'}"),
        ("preprocessing.method=equalise", "preprocessing", "{'method': 'percentile'}"),
    ],
)
def test_setting_that_contradicts_the_card_is_refused(tiny_weights, setting, part, theirs):
    with pytest.raises(ValueError, match=f"{part} is asked to have .*has {theirs}.*Leave these settings out"):
        read_config("finetune", [setting], str(tiny_weights))
    read_config("finetune", ["network.base_width=2"], str(tiny_weights))  # it may say the same


def test_cells_may_be_seen_at_another_size(tiny_weights):
    """Weights that were trained on images as they are are a start for cells of one size."""
    sizes = read_config("finetune", ["preprocessing.diameter=36"], str(tiny_weights)).preprocessing
    assert (sizes.diameter, sizes.low, sizes.high) == (36, 0, 100)


@pytest.mark.parametrize(("name", "size"), [("cells_phase_first", ("shrink", 2)), ("cells_third", ("diameter", 36))])
def test_a_presets_size_of_cells_holds_beside_the_card(tiny_weights, name, size):
    sizes = read_config(f"bundled/{name}", [], str(tiny_weights)).preprocessing
    assert (getattr(sizes, size[0]), sizes.low, sizes.high) == (size[1], 0, 100)


def test_own_file_that_contradicts_the_card_is_refused(tiny_weights, preset):
    """It asks for dropout and batch normalisation; a preset of ours would give way."""
    with pytest.raises(ValueError, match="'dropout': 0.2.*'dropout': 0.0"):
        read_config(str(preset), [], str(tiny_weights))


def test_unknown_keys_are_refused_here_too(tiny_weights):
    with pytest.raises(ValueError, match=r"does not know \['depth'\]"):
        read_config("finetune", ["network.depth=4"], str(tiny_weights))


def test_missing_weights_are_named(preset):
    with pytest.raises(ValueError, match=r"'gone\.safetensors' is neither a bundled model"):
        read_config(str(preset), [], "gone.safetensors")


def test_run_starts_with_the_weights(tiny_weights):
    config, network = read_config("finetune", [], str(tiny_weights)), random_network(seed=7)
    load_start(network, config)
    expected = random_network().state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())


def test_second_trunk_of_two_passes_is_left_out(tmp_path):
    both = random_network(passes=2)
    card = card_of(both, ModelConfig("deepsplit", base_width=2, n_levels=3, dropout=0.0, passes=2))
    path = write_weights(tmp_path / "both.safetensors", both, card)
    config, network = read_config("finetune", [], str(path)), random_network(seed=7)
    assert config.network.passes == 1
    load_start(network, config)
    assert torch.equal(network.encoder.blocks[0][0].weight, both.encoder.blocks[0][0].weight)


def test_statistics_of_activations_are_left_out(tmp_path):
    """They are of other weights as soon as training begins; a run's checkpoint holds what its network has."""
    observed_network = random_network(seed=3)
    with torch.inference_mode(), observed(observed_network):
        observed_network(torch.rand(1, 1, 16, 16))
    path = write_weights(tmp_path / "observed.safetensors", observed_network)
    config, network = read_config("finetune", [], str(path)), random_network(seed=7)
    load_start(network, config)
    assert network.state_dict().keys() == random_network().state_dict().keys()
    assert torch.equal(network.encoder.blocks[0][0].weight, observed_network.encoder.blocks[0][0].weight)


def test_five_images_do(few, tmp_path, tiny_weights, capsys):
    """Three to learn from, one to choose by, one to test on; resumed like any other run."""
    run, weights = tmp_path / "run", tmp_path / "few.safetensors"
    short = ["view=32", "batch=2", "segmentation_epochs=1", "separation_epochs=1", "epoch_steps=1", "picture_epochs=0"]
    settings = [part for setting in [*short, "learning_rate=1e-6"] for part in ("--set", setting)]
    train = [
        "train",
        "--data",
        str(few),
        "--output",
        str(run),
        "--device",
        "cpu",
        "--start-from",
        str(tiny_weights),
        *settings,
    ]
    assert main(train) == 0
    assert main([*train, "--resume"]) == 0
    assert {part: len(chosen) for part, chosen in read_split(run).items()} == {"train": 3, "validation": 1, "test": 1}
    # At this learning rate the weights are still where they started.
    start = random_network().state_dict()
    best = read_checkpoint(run / "checkpoint.pt")["best"]
    assert all(torch.allclose(best[name], value, rtol=0, atol=1e-5) for name, value in start.items())
    about = tmp_path / "about.json"
    about.write_text(json.dumps({"name": "few", "description": "Few", "data": [{"name": "few"}]}))
    export = ["export", str(run), "--about", str(about), "--output", str(weights)]
    capsys.readouterr()
    assert main(export) == 0
    own, of_start = capsys.readouterr().out.split(
        f"What {tiny_weights}, which it started from, finds on the same images:"
    )
    assert own.count("| few | and with the watershed |") == of_start.count("| few | and with the watershed |") == 1
    # A name may mean another file tomorrow.
    for origin in (json.loads((run / "config.json").read_text()), read_card(weights).training):
        assert origin["start_from_sha256"] == sha256_of(str(tiny_weights))
    tiny_weights.unlink()
    assert main(export) == 0
    assert f"{tiny_weights}, which it started from, is gone or another file now" in capsys.readouterr().out
