"""From a run to a weights file that says what it is."""

import copy
import dataclasses
import json

import numpy as np
import pytest
import torch
from drawing import discs
from networks import card_of, random_network, write_weights

from deepsplit_core.config import SplittingConfig, TilingConfig
from deepsplit_core.inference import predict
from deepsplit_core.metrics import Scores
from deepsplit_core.preprocessing import preprocess
from deepsplit_core.quantisation import is_statistic
from deepsplit_core.sizes import typical_diameter
from deepsplit_core.weights import Model, build_network, read, read_card, sha256_of
from training.cli import main
from training.data.annotations import Annotated, find_annotations
from training.data.division import split_annotations
from training.data.prepare import write_annotated
from training.learning.dataset import load_samples
from training.results.export import (
    activation_statistics,
    counted,
    doubts_about,
    export,
    known_diameter,
    mixed_with_start,
    read_about,
    with_cells,
)
from training.results.tuning import doubt_of
from training.run.checkpoint import Checkpoint, read_checkpoint
from training.run.history import make_row
from training.run.loop import train

HALF_STEP = 2**-12 + 1e-6  # probabilities are rounded to float16
ABOUT = {
    "name": "drawn",
    "description": "Drawn discs",
    "data": [{"name": "drawn", "licence": "CC0"}],
    "known_failures": "All but discs",
}


@pytest.fixture
def parts(data):
    return split_annotations(find_annotations(data), seed=1)


@pytest.fixture
def finished(tmp_path, parts, config):
    """The folder of a finished run."""
    return train_run(tmp_path, parts, config)


def train_run(tmp_path, parts, config):
    run = tmp_path / "run"
    run.mkdir()
    samples = (load_samples(parts[part], config) for part in ("train", "validation"))
    train(*samples, config, run, False, torch.device("cpu"))
    return run


def test_thresholds_are_not_chosen_by_data_sets_without_cells(tmp_path):
    """An image without cells stays where others of its data set have some."""
    nothing = np.zeros((32, 32), np.uint8)
    for folder, empty in (("cells", ["b"]), ("fields", ["a", "b"])):
        for name in ("a", "b"):
            labels = nothing if name in empty else discs((32, 32), [(16, 16, 9)])
            write_annotated(tmp_path / folder, name, Annotated(nothing, labels, nothing > 0))
    found = find_annotations(tmp_path / "cells") + find_annotations(tmp_path / "fields")
    assert [image.name for image in with_cells(found)] == ["cells/a", "cells/b"]


def test_weights_are_mixed_with_those_that_the_run_started_from(tiny_weights):
    start = read(tiny_weights)[1]
    own = {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in start.items()}
    mixed = mixed_with_start(own, str(tiny_weights), sha256_of(str(tiny_weights)), 0.75)
    assert set(mixed) == set(own)
    for name, tensor in mixed.items():
        assert tensor.dtype == own[name].dtype
        expected = start[name] + 0.25 if tensor.is_floating_point() else start[name]
        assert torch.allclose(tensor, expected, atol=1e-3)
    with pytest.raises(ValueError, match="tiny.safetensors is another file now"):
        mixed_with_start(own, str(tiny_weights), "0" * 64, 0.75)
    with pytest.raises(ValueError, match="it started from none"):
        mixed_with_start(own, "", "", 0.75)
    with pytest.raises(ValueError, match="has not all weights of the run"):
        mixed_with_start({**own, "more": torch.zeros(1)}, str(tiny_weights), sha256_of(str(tiny_weights)), 0.75)


def test_thresholds_may_be_those_that_the_run_started_from(parts, config, tmp_path, capsys, monkeypatch):
    network = random_network(dropout=0.2, normalisation="batch")
    lengths = SplittingConfig(separation_threshold=0.35, smallest_cell=10.0, longest_cut=5.0, neck=0.55)
    theirs = card_of(network, config.network, splitting=lengths, diameter=10.0)
    start = write_weights(tmp_path / "start.safetensors", network, theirs)
    config = dataclasses.replace(config, start_from=str(start))
    history = [make_row("separation", n, 1.0, 1.0, Scores(), 1.0) for n in (1, 2)]
    Checkpoint(tmp_path / "checkpoint.pt", config).save(network, torch.optim.Adam(network.parameters()), history)
    origin = {"start_from_sha256": sha256_of(str(start)), "config": config.to_dict()}
    (tmp_path / "config.json").write_text(json.dumps(origin))
    monkeypatch.setattr("training.results.export.tune", None)
    card = export(tmp_path, parts, ABOUT, tmp_path / "drawn.safetensors", start_thresholds=True)
    assert card.splitting == lengths.scaled(card.diameter / 10.0) and card.training["start_thresholds"]
    assert "Kept from" in capsys.readouterr().out and 0 <= card.metrics["validation_mean_ap"] <= 1


@pytest.mark.parametrize(("share", "is_right"), [("0.5", True), ("1.5", False), ("-0.1", False), ("half", False)])
def test_a_share_is_from_0_to_1(share, is_right, tmp_path, capsys):
    command = ["export", str(tmp_path), "--about", "a.json", "--output", "w.safetensors", "--start-share", share]
    if is_right:
        assert main(command) == 1  # there is no run
    else:
        with pytest.raises(SystemExit):
            main(command)
        assert "--start-share" in capsys.readouterr().err


def test_card_tells_the_whole_story(finished, parts, config, tmp_path, capsys):
    path = tmp_path / "drawn.safetensors"
    card = export(finished, parts, ABOUT, path)
    assert read_card(path) == card
    assert {key: getattr(card, key) for key in ABOUT} == {**ABOUT, "data": [{**ABOUT["data"][0], "images": 6}]}
    assert (card.network, card.preprocessing) == (config.network, config.preprocessing)
    assert card.diameter == pytest.approx(14, abs=2)  # discs of radius 7, 7 and 8
    assert set(card.metrics["test"]["drawn"]) >= {"segmentation alone", "with the separation decoder"}
    assert card.training["images"] == {"train": 4, "validation": 1, "test": 1}
    assert type(config).from_dict(card.training["config"]) == config
    assert card.training["stage"] == "separation"
    assert "sha256" in capsys.readouterr().out


def test_weights_are_those_of_the_best_epoch(finished, parts, tmp_path):
    path = tmp_path / "drawn.safetensors"
    export(finished, parts, ABOUT, path, epoch="best")
    best = read_checkpoint(finished / "checkpoint.pt")["best"]
    _, tensors = read(path)
    trained = {name: tensor for name, tensor in tensors.items() if not is_statistic(name)}
    assert trained.keys() == best.keys()
    assert all(torch.equal(best[name], value) for name, value in trained.items())


def probabilities(path, parts):
    """What the weights file says of a test image, and the image as the network sees it."""
    card, tensors = read(path)
    image = preprocess(parts["test"][0].read()[0], card.preprocessing)
    # In float32 on every processor: `load_model` takes shorter ones where those are faster.
    found = predict(build_network(path, card, tensors), image, torch.device("cpu"), torch.float32, TilingConfig())
    return found, torch.from_numpy(image)[None, None]


@pytest.mark.parametrize("architecture", ["deepsplit", "branch_net", "double_unet"])
@pytest.mark.parametrize(
    ("freeze", "one_pass"), [(True, False), (False, False), (False, True)], ids=["frozen", "free", "one pass"]
)
def test_output_is_segmentation_of_stage_1_and_separation_of_stage_2(
    tmp_path, parts, config, monkeypatch, architecture, freeze, one_pass
):
    """The paper, 4.1: "the results from this stage are taken to be the results of the segmentation task".

    With `one_pass` both are those of stage 2.
    """
    network = dataclasses.replace(config.network, architecture=architecture)
    config = dataclasses.replace(config, network=network, freeze_trunk=freeze, one_pass=one_pass)
    ends, original = [], Checkpoint.load_best

    def spy(self, network):
        original(self, network)
        ends.append(copy.deepcopy(network).eval())

    monkeypatch.setattr(Checkpoint, "load_best", spy)
    path, run = tmp_path / "drawn.safetensors", train_run(tmp_path, parts, config)
    card = export(run, parts, ABOUT, path, epoch="best")
    assert card.network.passes == (1 if freeze or one_pass else 2)
    found, image = probabilities(path, parts)
    with torch.no_grad():
        segmentation = torch.sigmoid(ends[0].trunk(image)[0])[0, 0].numpy()
        again, encoded, decoded = ends[1].trunk(image)
        again = torch.sigmoid(again)[0, 0].numpy()
        separation = torch.sigmoid(ends[1].separation(encoded, decoded))[0, 0].numpy()
    np.testing.assert_allclose(found, [again if one_pass else segmentation, separation], rtol=0, atol=HALF_STEP)
    # Retraining changed the segmentation: taking it from stage 2 would be another result.
    assert np.allclose(again, segmentation, rtol=0, atol=1e-4) == freeze


@pytest.mark.parametrize(
    ("settings", "own_choice"),
    [({}, "last"), ({"learning_rate_schedule": "constant"}, "best"), ({"separation_epochs": 9}, "best")],
    ids=["fell to zero", "constant", "ended early"],
)
def test_the_last_epoch_is_taken_where_the_learning_rate_fell_to_zero(tmp_path, parts, config, settings, own_choice):
    run = train_run(tmp_path, parts, config)
    state = read_checkpoint(run / "checkpoint.pt")
    state["best"] = {name: tensor * 0 for name, tensor in state["best"].items()}
    state["config"] = {**state["config"], **settings}
    torch.save(state, run / "checkpoint.pt")
    for asked, epoch in (("", own_choice), ("best", "best"), ("last", "last")):
        card = export(run, parts, ABOUT, tmp_path / "w.safetensors", epoch=asked)
        assert card.training["weights"] == f"of the {epoch} epoch"
        tensors = read(tmp_path / "w.safetensors")[1]
        assert any(tensor.any() for name, tensor in tensors.items() if not is_statistic(name)) == (epoch == "last")


@pytest.mark.parametrize(
    ("losses", "settings", "warns"),
    [
        ([0.5], {}, True),
        ([0.5, 0.4], {}, False),
        ([0.5, 0.6, 0.7], {"separation_epochs": 9, "patience": 2}, False),
        ([0.5, 0.6, 0.4], {"separation_epochs": 9, "patience": 2}, True),
    ],
    ids=["unfinished", "finished", "converged", "not converged"],
)
def test_unfinished_run_is_exported_with_a_warning(parts, config, tmp_path, capsys, losses, settings, warns):
    network, config = random_network(dropout=0.2, normalisation="batch"), dataclasses.replace(config, **settings)
    history = [make_row("separation", n, 1.0, loss, Scores(), 1.0) for n, loss in enumerate(losses, start=1)]
    Checkpoint(tmp_path / "checkpoint.pt", config).save(network, torch.optim.Adam(network.parameters()), history)
    export(tmp_path, parts, ABOUT, tmp_path / "drawn.safetensors")
    line = f"warning: {tmp_path} is not finished: {len(losses)} of {config.separation_epochs} epochs of 'separation'"
    assert (line in capsys.readouterr().out) == warns


@pytest.mark.parametrize(
    ("settings", "architecture"), [({"schedule": "simultaneous"}, "deepsplit"), ({}, "unet")], ids=["both", "unet"]
)
def test_runs_of_one_stage_are_finished_after_it(tmp_path, parts, config, settings, architecture):
    network = dataclasses.replace(config.network, architecture=architecture)
    config = dataclasses.replace(config, network=network, **settings)
    export(train_run(tmp_path, parts, config), parts, ABOUT, tmp_path / "drawn.safetensors")
    found, _ = probabilities(tmp_path / "drawn.safetensors", parts)
    assert (found[1] > 0).any() == (architecture != "unet")


def test_thresholds_are_chosen_on_validation_images_alone(finished, parts, tmp_path, monkeypatch):
    """And no more sharply than these can tell."""
    from training.results import export as module

    seen = []
    original = module.tune

    def spy(predicted, diameter, data_sets, tolerance):
        seen.extend(image.name for image in predicted)
        assert data_sets == [entry["name"] for entry in ABOUT["data"]]
        assert tolerance == doubt_of(predicted, data_sets) > 0
        return original(predicted, diameter, data_sets, tolerance)

    monkeypatch.setattr(module, "tune", spy)
    export(finished, parts, ABOUT, tmp_path / "drawn.safetensors")
    assert seen == [annotation.name for annotation in parts["validation"]]


def test_the_diameter_is_what_an_image_is_judged_by():
    """Small pieces beside large cells: by the median, the training's own images would seem four times too large."""
    labels = discs((200, 300), [(50, 50, 20), (50, 150, 20), *((150, 10 + 15 * i, 4) for i in range(18))])
    assert known_diameter([labels, np.zeros_like(labels)]) == typical_diameter(labels) == pytest.approx(40, abs=1)


@pytest.mark.parametrize(("n", "chosen"), [(3, [0, 1, 2]), (5, [0, 2, 4]), (6, [1, 3, 5])])
def test_statistics_are_of_images_from_all_over_each_folder(parts, monkeypatch, n, chosen):
    from training.results import export as module

    seen = []
    annotations = [dataclasses.replace(parts["test"][0], name=f"{folder}/{i}") for folder in "ab" for i in range(n)]
    monkeypatch.setattr(module, "IMAGES_OBSERVED", 3)
    monkeypatch.setattr(module, "predict_all", lambda _, images: seen.extend(image.name for image in images))
    model = Model(random_network(), None, "", torch.device("cpu"), torch.float32)
    activation_statistics(model, annotations)
    assert seen == [f"{folder}/{i}" for folder in "ab" for i in chosen]


def test_run_without_its_second_stage_is_no_finished_run(tmp_path, parts, config):
    """Its separation part was never trained: weights of it would cut cells at random."""
    run = tmp_path / "run"
    run.mkdir()
    network = random_network(dropout=0.2, normalisation="batch")
    optimiser = torch.optim.Adam(network.parameters())
    history = [make_row("segmentation", 1, 1.0, 0.5, Scores(), 1.0)]
    Checkpoint(run / "checkpoint.pt", config).save(network, optimiser, history)
    with pytest.raises(ValueError, match="not finished: its stage 'separation' has not begun"):
        export(run, parts, ABOUT, tmp_path / "drawn.safetensors")
    assert not (tmp_path / "drawn.safetensors").exists()


def test_about_is_complete_or_refused(tmp_path):
    path = tmp_path / "about.json"
    path.write_text(json.dumps(ABOUT))
    assert read_about(path) == ABOUT
    path.write_text(json.dumps({"name": "drawn"}))
    with pytest.raises(ValueError, match=r"about\.json lacks \['data', 'description'\]"):
        read_about(path)
    path.write_text(json.dumps({**ABOUT, "known_failure": "small cells"}))
    with pytest.raises(ValueError, match=r"about\.json has unknown entries \['known_failure'\]"):
        read_about(path)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"about\.json is no JSON file"):
        read_about(path)
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"about\.json is no JSON object"):
        read_about(path)


def test_data_that_about_does_not_tell_of(parts):
    folder = parts["test"][0].name.split("/")[0]
    assert doubts_about([{"name": f"{folder}, other", "licence": "CC0"}], parts) == []
    assert doubts_about([{"name": "drwn"}], parts) == [
        f"the run learned from {folder}, which no data set in it is named after",
        "its data set drwn has no licence",
    ]


def test_about_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"no file .*about\.json: --about is a JSON file with name.* README\.md"):
        read_about(tmp_path / "about.json")


def test_images_are_counted_in_the_folders_that_are_named(parts):
    """A number that is given stays: of data that weights learned before, only the author knows it."""
    data = [{"name": "drawn"}, {"name": "drawn", "images": 9}, {"name": "before", "images": 7}, {"licence": "CC0"}]
    assert counted(data, parts) == [{"name": "drawn", "images": 6}, *data[1:]]
    more = {"more": [dataclasses.replace(parts["test"][0], name="more/a")]}
    assert counted([{"name": "drawn, more"}], {**parts, **more}) == [{"name": "drawn, more", "images": 7}]


@pytest.mark.parametrize(
    ("name", "doubted"),
    [("mydata, more", []), ("mydata,more", []), ("mydata and more", ["mydata", "more"]), ("mydata2, more", ["mydata"])],
)
def test_count_and_doubt_take_the_same_folders(parts, name, doubted):
    image = parts["test"][0]
    own = {"train": [dataclasses.replace(image, name="mydata/a"), dataclasses.replace(image, name="more/a")]}
    data = [{"name": name, "licence": "CC0"}]
    doubts = [f"the run learned from {folder}, which no data set in it is named after" for folder in sorted(doubted)]
    assert doubts_about(data, own) == doubts
    assert counted(data, own)[0].get("images", 0) == 2 - len(doubted)


def test_a_comma_may_be_part_of_a_folders_name(parts):
    own = {"train": [dataclasses.replace(parts["test"][0], name="HeLa, 20x/a")]}
    assert counted([{"name": "HeLa, 20x"}], own) == [{"name": "HeLa, 20x", "images": 1}]


def test_about_that_windows_editors_wrote_is_read(tmp_path):
    (tmp_path / "about.json").write_text(json.dumps(ABOUT), encoding="utf-8-sig")
    assert read_about(tmp_path / "about.json") == ABOUT


def test_a_name_that_no_card_takes_is_refused_before_hours_of_choosing(tmp_path):
    (tmp_path / "about.json").write_text(json.dumps({**ABOUT, "name": "HeLa\u00a0nuclei"}))
    with pytest.raises(ValueError, match="a card takes printable characters"):
        read_about(tmp_path / "about.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [("name", 1), ("description", None), ("known_failures", []), ("data", {}), ("data", ["drawn"]), ("data", [])],
)
def test_about_has_what_a_card_takes(tmp_path, key, value):
    path = tmp_path / "about.json"
    path.write_text(json.dumps({**ABOUT, key: value}))
    with pytest.raises(ValueError, match=rf"about\.json: {key} is .*, but it must be"):
        read_about(path)
