"""Runs: what each stage changes, and that a run can be repeated and resumed bit for bit."""

import csv
import dataclasses

import numpy as np
import pytest
import torch

from deepsplit_core.metrics import Scores
from training.learning.augmentation import AugmentationConfig
from training.learning.schedule import stage_loss
from training.learning.validation import Validation, validate
from training.run import loop
from training.run.checkpoint import Checkpoint
from training.run.history import write_csv
from training.run.loop import train


def run(samples, config, folder, resume=False):
    folder.mkdir(exist_ok=True)
    return train(samples[:4], samples[4:], config, folder, resume, torch.device("cpu"))


def state_of(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def changed(before, after):
    """The names of the tensors that differ."""
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


@pytest.fixture
def stages(monkeypatch):
    """The state of the network at the end of each stage, filled in by a run."""
    states = []
    original = Checkpoint.load_best

    def spy(self, network):
        original(self, network)
        states.append(state_of(network))

    monkeypatch.setattr(Checkpoint, "load_best", spy)
    return states


# What the stages change


def test_stage_1_leaves_the_separation_part_untouched(samples, config, tmp_path, stages):
    torch.manual_seed(config.seed)
    before = state_of(loop.build(config.network))
    run(samples, config, tmp_path / "run")
    names = changed(before, stages[0])
    assert not {name for name in names if name.startswith("separation.")}
    assert {"encoder.blocks.0.0.weight", "decoder.blocks.0.0.weight", "segmentation_head.weight"} <= names


def test_frozen_trunk_is_bit_identical_after_stage_2(samples, config, tmp_path, stages):
    assert config.freeze_trunk
    run(samples, config, tmp_path / "run")
    names = changed(*stages)
    assert names
    assert all(name.startswith("separation.") for name in names)  # the statistics of batch normalisation included
    trained = {name for name in stages[0] if name.startswith("separation.") and name.endswith("weight")}
    assert trained <= names


def test_free_trunk_changes_in_stage_2(samples, config, tmp_path, stages):
    run(samples, dataclasses.replace(config, freeze_trunk=False), tmp_path / "run")
    one, two = stages
    kept = {name: value for name, value in two.items() if name.startswith("segmentation.")}
    assert kept.keys() == {f"segmentation.{name}" for name in one if not name.startswith("separation.")}
    assert all(torch.equal(value, one[name.removeprefix("segmentation.")]) for name, value in kept.items())
    names = changed(one, {name: value for name, value in two.items() if name not in kept})
    assert {"encoder.blocks.0.0.weight", "encoder.blocks.0.1.running_mean", "segmentation_head.weight"} <= names
    assert "separation.head.weight" in names


@pytest.mark.parametrize("architecture", ["deepsplit", "branch_net", "double_unet"])
def test_simultaneous_run_changes_everything_in_its_one_stage(samples, config, tmp_path, stages, architecture):
    network = dataclasses.replace(config.network, architecture=architecture, normalisation="none")
    config = dataclasses.replace(config, network=network, schedule="simultaneous")
    torch.manual_seed(config.seed)
    before = state_of(loop.build(config.network))
    run(samples, config, tmp_path / "run")
    (after,) = stages
    assert {name for name in before if name.endswith("weight")} <= changed(before, after)
    assert [row["stage"] for row in rows(tmp_path / "run")] == ["both"] * 4


def test_unet_has_one_stage(samples, config, tmp_path, stages):
    unet = dataclasses.replace(config, network=dataclasses.replace(config.network, architecture="unet"))
    run(samples, unet, tmp_path / "run")
    assert len(stages) == 1
    assert {row["stage"] for row in rows(tmp_path / "run")} == {"segmentation"}


# Runs


def test_log_and_best_epoch(samples, config, tmp_path, stages, monkeypatch):
    """Stage 1 ends with the weights of the least validation loss, stage 2 with those of the best cells."""
    values = iter([(0.5, 1), (0.3, 0), (0.4, 2), (0.9, 2), (0.7, 1), (0.85, 2)])
    seen = []

    def spy(network, *_):
        seen.append(state_of(network))
        loss, n_found = next(values)
        return Validation(loss, Scores(n_true=4, n_predicted=4, matched_above_half=n_found))

    monkeypatch.setattr(loop, "validate", spy)
    three = dataclasses.replace(config, segmentation_epochs=3, separation_epochs=3)
    network = run(samples, three, tmp_path / "run")
    assert not changed(stages[0], seen[1])
    assert not changed(stages[1], seen[5])  # of the two with the best CDS, the one with the lower loss
    assert not changed(state_of(network), seen[5])
    assert not network.training
    log = [tuple(row[name] for name in ("stage", "epoch", "validation_loss", "cds")) for row in rows(tmp_path / "run")]
    assert log[1] == ("segmentation", "2", "0.3", "0.0")
    assert log[5] == ("separation", "3", "0.85", "0.5")


def test_every_step_sees_another_batch(samples, config, tmp_path, monkeypatch):
    seen = []

    def spy(network, images, *rest):
        if torch.is_grad_enabled():  # a step, no validation
            seen.append(images.clone())
        return stage_loss(network, images, *rest)

    monkeypatch.setattr(loop, "stage_loss", spy)
    run(samples, config, tmp_path / "run")
    assert len(seen) == 8  # two stages of two epochs of two steps
    assert len({batch.numpy().tobytes() for batch in seen}) == 8


def test_same_seed_gives_the_same_weights(samples, config, tmp_path):
    one = state_of(run(samples, config, tmp_path / "one"))
    torch.manual_seed(99)
    assert not changed(one, state_of(run(samples, config, tmp_path / "same")))
    other = dataclasses.replace(config, seed=2)
    assert changed(one, state_of(run(samples, other, tmp_path / "other")))


def interrupt(monkeypatch, samples, config, folder, n_epochs):
    """Run for so many epochs in all."""
    n_calls = 0

    def validate_or_stop(*arguments):
        nonlocal n_calls
        n_calls += 1
        if n_calls > n_epochs:
            raise KeyboardInterrupt
        return validate(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "validate", validate_or_stop)
        with pytest.raises(KeyboardInterrupt):
            run(samples, config, folder)
    assert len(rows(folder)) == n_epochs


@pytest.mark.parametrize("interrupted", [1, 2, 3], ids=["in stage 1", "between the stages", "in stage 2"])
@pytest.mark.parametrize(
    "settings",
    [{"freeze_trunk": True}, {"freeze_trunk": False}, {"schedule": "simultaneous"}],
    ids=["frozen", "free", "simultaneous"],
)
def test_resumed_run_equals_an_uninterrupted_one(samples, config, tmp_path, monkeypatch, interrupted, settings):
    config = dataclasses.replace(config, **settings)
    whole = state_of(run(samples, config, tmp_path / "whole"))
    interrupt(monkeypatch, samples, config, tmp_path / "run", interrupted)
    torch.manual_seed(5)
    resumed = state_of(run(samples, config, tmp_path / "run", resume=True))
    assert not changed(whole, resumed)
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")


@pytest.mark.parametrize("then", [1, 5])
def test_a_stage_that_has_not_begun_may_get_another_length(samples, config, tmp_path, monkeypatch, then):
    whole = state_of(run(samples, config, tmp_path / "whole"))
    interrupt(monkeypatch, samples, dataclasses.replace(config, separation_epochs=then), tmp_path / "run", 2)
    assert not changed(whole, state_of(run(samples, config, tmp_path / "run", resume=True)))
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")
    assert Checkpoint(tmp_path / "run" / "checkpoint.pt", config).read().change == ""


def test_a_stage_that_has_begun_ends_with_the_length_that_it_has_now(samples, config, tmp_path, monkeypatch):
    interrupt(monkeypatch, samples, dataclasses.replace(config, separation_epochs=9), tmp_path / "run", 3)
    rates = []
    monkeypatch.setattr(loop, "set_learning_rate", lambda *given: rates.append(given[1:3]))
    run(samples, config, tmp_path / "run", resume=True)
    assert rates == [(2, 4), (3, 4)]  # the steps left, of those of its two epochs
    assert [(row["stage"], row["epoch"]) for row in rows(tmp_path / "run")][-1] == ("separation", "2")


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ({"segmentation_epochs": 3}, "2 of 2 epochs of 'segmentation', which cannot have 3"),
        ({"separation_epochs": 1}, "1 of 2 epochs of 'separation', which cannot have 1"),
    ],
)
def test_what_was_done_cannot_get_another_length(samples, config, tmp_path, monkeypatch, lengths, message):
    interrupt(monkeypatch, samples, config, tmp_path / "run", 3)
    with pytest.raises(ValueError, match=message):
        run(samples, dataclasses.replace(config, **lengths), tmp_path / "run", resume=True)


def test_a_finished_run_cannot_get_another_length(samples, config, tmp_path):
    """Its learning rate has fallen to zero."""
    run(samples, config, tmp_path / "run")
    with pytest.raises(ValueError, match="a stage that is over keeps its length"):
        run(samples, dataclasses.replace(config, separation_epochs=4), tmp_path / "run", resume=True)


def test_resuming_a_finished_run_changes_nothing(samples, config, tmp_path):
    whole = state_of(run(samples, config, tmp_path / "run"))
    log = rows(tmp_path / "run")
    assert not changed(whole, state_of(run(samples, config, tmp_path / "run", resume=True)))
    assert rows(tmp_path / "run") == log


def test_other_settings_are_refused_on_resume(samples, config, tmp_path):
    run(samples, config, tmp_path / "run")
    other = dataclasses.replace(config, learning_rate=0.5)
    with pytest.raises(ValueError, match="of a run with other settings .*: give the same settings or another output"):
        run(samples, other, tmp_path / "run", resume=True)


def test_nothing_to_resume(samples, config, tmp_path):
    with pytest.raises(ValueError, match="There is no .*checkpoint.pt: .*start it without --resume"):
        run(samples, config, tmp_path / "run", resume=True)


def test_network_learns(samples, config, tmp_path):
    """A minute's worth of learning in seconds: cells are brighter than the background."""
    longer = dataclasses.replace(
        config,
        network=dataclasses.replace(config.network, base_width=4, dropout=0.0),
        augmentation=AugmentationConfig(elastic=0),
        segmentation_epochs=4,
        separation_epochs=4,
        epoch_steps=25,
        batch=4,
    )
    network = run(samples, longer, tmp_path / "run")
    log = rows(tmp_path / "run")
    assert float(log[3]["validation_loss"]) < 0.5 * np.log(2)  # half of what knowing nothing costs
    assert float(log[7]["validation_loss"]) < 0.9 * float(log[4]["loss"])
    with torch.no_grad():
        found = network(samples[5].image[None, :, :48, :52])[0, 0] > 0
    truth = samples[5].targets[0] > 0
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.8


@pytest.mark.parametrize("interrupted", [0, 3])
def test_stage_ends_when_it_has_converged(samples, config, tmp_path, monkeypatch, interrupted):
    """Also where the run was stopped in the last epoch that it would have had."""
    losses = iter([0.5, 0.3, 0.4, 0.35, 0.9, 0.8, 0.7])
    n_calls = 0

    def known(*_):
        nonlocal n_calls
        n_calls += 1
        if n_calls == interrupted + 1 > 1:
            raise KeyboardInterrupt
        return Validation(next(losses), Scores())

    config = dataclasses.replace(config, patience=2, segmentation_epochs=9, separation_epochs=3)
    monkeypatch.setattr(loop, "validate", known)
    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            run(samples, config, tmp_path / "run")
    run(samples, config, tmp_path / "run", resume=bool(interrupted))
    assert [row["stage"] for row in rows(tmp_path / "run")] == ["segmentation"] * 4 + ["separation"] * 3


@pytest.mark.parametrize("optimiser", ["sgd", "momentum", "adagrad", "adadelta"])
def test_every_optimiser_is_resumed_to_the_same_weights(samples, config, tmp_path, monkeypatch, optimiser):
    config = dataclasses.replace(config, optimiser=optimiser, epoch_steps=1)
    whole = state_of(run(samples, config, tmp_path / "whole"))
    with monkeypatch.context() as patch:
        patch.setattr(loop, "write_csv", stop_after_writing(n=3))
        with pytest.raises(KeyboardInterrupt):
            run(samples, config, tmp_path / "run")
    assert not changed(whole, state_of(run(samples, config, tmp_path / "run", resume=True)))


def stop_after_writing(n):
    """Write the rows, and stop the n-th time."""
    count = iter(range(1, n + 1))

    def write(*arguments):
        write_csv(*arguments)
        if next(count) == n:
            raise KeyboardInterrupt

    return write


def test_runaway_loss_ends_before_it_gets_into_a_checkpoint(samples, config, tmp_path, monkeypatch):
    calls = iter(range(100))

    def run_away(*arguments):
        return stage_loss(*arguments) * (float("nan") if next(calls) == 3 else 1.0)

    monkeypatch.setattr(loop, "validate", lambda *_: Validation(0.5, Scores()))
    monkeypatch.setattr(loop, "stage_loss", run_away)
    with pytest.raises(ValueError, match="loss of segmentation, step 4, is nan: .* lower learning_rate"):
        run(samples, config, tmp_path / "run")
    assert len(rows(tmp_path / "run")) == 1
