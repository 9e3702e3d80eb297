"""The grid of the paper's tables: tiny, whole, killed and gone on with; what is shared, and what never meets."""

import dataclasses
import os
import shutil
import signal

import numpy as np
import pytest
import tifffile
import torch
from child_runs import KILLED_AT_FILE
from drawing import contact, discs, perfect_probabilities

from deepsplit_core.config import SplittingConfig
from training import reproduction
from training.annotations import Annotation, find_annotations
from training.checkpoint import read_checkpoint
from training.cli import main
from training.dataset import load_samples
from training.evaluation import Predicted
from training.loop import train
from training.losses import weighted_cross_entropy
from training.reproduction import (
    Fold,
    Grid,
    count,
    for_separation,
    leave_two_out,
    one_division,
    predict,
    train_system,
)
from training.reproduction_page import read_results
from training.schedule import outputs, stage_loss, stages_of
from training.settings import read_config
from training.systems import SYSTEMS

TINY = """
view = 32
batch = 2
segmentation_epochs = 2
separation_epochs = 2
epoch_steps = 2
learning_rate = 1e-2
learning_rate_schedule = "constant"
picture_epochs = 0
freeze_trunk = false

[network]
base_width = 2
n_levels = 3

[augmentation]
fixed_copies = 2
"""
POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
TWO = ("--systems", "unet", "cumulative-deepsplit", "--sets", "usiigaci")
# All have equally many; what is not here has two stages.
STEPS = {"unet": {"segmentation": 8}, **{name: {"both": 8} for name in SYSTEMS if name.startswith("simultaneous")}}


@pytest.fixture
def tiny(tmp_path):
    """The TOML file of a tiny grid."""
    path = tmp_path / "grid.toml"
    path.write_text(TINY)
    return path


@pytest.fixture
def both(few, tmp_path):
    """A folder with both sets, of five and four images."""
    shutil.copytree(few, tmp_path / "sets" / "usiigaci")
    shutil.copytree(few, tmp_path / "sets" / "endothelium")
    for kind in ("images", "labels"):
        (tmp_path / "sets" / "endothelium" / kind / "field4.tif").unlink()
    return tmp_path / "sets"


def command(data, output, tiny, *options):
    where = ["--data", str(data), "--output", str(output), "--page", str(output.with_suffix(".md"))]
    return ["reproduce", *where, "--preset", str(tiny), "--side", "48", "--seeds", "1", "--device", "cpu", *options]


def results(output):
    """All results by the file's name, without times."""
    found = {path.stem: result for path, result in read_results(output / "results").items()}
    for result in found.values():
        del result["seconds"]
    return found


def test_whole_grid_and_once_more(both, tiny, tmp_path, monkeypatch):
    """Every system; thresholds are chosen on validation images alone; the second time nothing is trained."""
    chosen_on, tune = [], reproduction.tune
    monkeypatch.setattr(reproduction, "tune", lambda p, d: chosen_on.append([i.name for i in p]) or tune(p, d, 1))
    commands = [
        command(both, tmp_path / "out", tiny, "--sets", "usiigaci"),
        command(both, tmp_path / "out", tiny, "--systems", "unet"),
    ]
    assert [main(arguments) for arguments in commands] == [0, 0]
    found = results(tmp_path / "out")
    assert sorted(found) == sorted(
        [*(f"usiigaci-0-0-{name}" for name in SYSTEMS), *(f"endothelium-0-{fold}-unet" for fold in (0, 1))]
    )
    assert sorted(chosen_on) == sorted(result["images"]["validation"] for result in found.values())
    for result in found.values():
        assert result["steps"] == STEPS.get(result["system"], {"segmentation": 4, "separation": 4})
    for system in [s for s in SYSTEMS.values() if s.name != "two-unets"]:
        run = tmp_path / "out" / "runs" / "usiigaci-0-0" / system.name
        made = read_checkpoint(run / "checkpoint.pt")["config"]
        assert (made["network"]["architecture"], made["schedule"]) == (system.architecture, system.schedule)
    page = (tmp_path / "out.md").read_text()
    assert page.count("1 of 1") == len(SYSTEMS) + 1
    monkeypatch.setattr(reproduction, "train", None)
    assert main(commands[1]) == 0
    assert (tmp_path / "out.md").read_text() == page


@POSIX
def test_killed_grid_goes_on_to_the_same_results(start, both, tiny, tmp_path):
    """Killed while stage 1 is taken over, and while a result is written, whose leftover is no result."""
    assert main(command(both, tmp_path / "whole", tiny, *TWO)) == 0
    again = command(both, tmp_path / "out", tiny, *TWO)
    # Files in their order: the page; config.json, an empty metrics.csv, then checkpoint.pt and metrics.csv for each of
    # 2 epochs of stage 1; the U-Net's config.json and its first checkpoint.
    for n, name in [(9, "unet/.checkpoint.pt"), (10, ".usiigaci-0-0-unet.json")]:
        process = start("-c", KILLED_AT_FILE, str(n), "before", *again)
        assert process.wait() == -signal.SIGKILL
        (leftover,) = [part for part in (tmp_path / "out").rglob(".*.part*") if name in str(part)]
        leftover.write_text("{")
        assert read_results(tmp_path / "out" / "results") == {}
    assert main(again) == 0
    assert results(tmp_path / "out") == results(tmp_path / "whole")


@POSIX
def test_stopped_grid_says_how_to_go_on(both, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reproduction, "train", lambda *_: signal.raise_signal(signal.SIGTERM))
    arguments = command(both, tmp_path / "out", tiny, *TWO)
    assert main(arguments) == 143
    stopped = capsys.readouterr().err.strip().splitlines()[-1]
    assert stopped == f"Stopped (SIGTERM). Go on with the same command: python -m training {' '.join(arguments)}"


@pytest.fixture
def fold(few, tiny, tmp_path):
    """One division of five drawn images."""
    config = read_config(str(tiny))
    (parts,) = one_division(reproduction.resized(find_annotations(few), 48), 0)
    return Fold(tmp_path / "runs", config, parts, *(load_samples(parts[p], config) for p in ("train", "validation")))


@pytest.fixture
def grid(few, tiny, tmp_path):
    """What `train_system` needs to know of a grid."""
    config = read_config(str(tiny))
    return Grid(few, tmp_path, tmp_path / "page.md", config, ["usiigaci"], [], 1, 48, "cpu", ["reproduce"])


def test_stage_1_is_shared_to_the_last_bit(fold, grid):
    """The cumulative systems intersect with the best of it; the U-Net is that of one run of both lengths."""
    for system in ("cumulative-deepsplit", "cumulative-branch-net", "unet"):
        train_system(SYSTEMS[system], fold, grid)
    best = read_checkpoint(fold.runs / "stage-1" / "checkpoint.pt")["best"]
    for system in ("cumulative-deepsplit", "cumulative-branch-net"):
        kept = read_checkpoint(fold.runs / system / "checkpoint.pt")["best"]
        kept = {name.removeprefix("segmentation."): v for name, v in kept.items() if name.startswith("segmentation.")}
        assert kept.keys() == best.keys()
        assert all(torch.equal(kept[name], value) for name, value in best.items())
    network = dataclasses.replace(fold.config.network, architecture="unet")
    config = dataclasses.replace(fold.config, network=network, segmentation_epochs=4)
    (fold.runs / "direct").mkdir()
    train(fold.training, fold.validation, config, fold.runs / "direct", False)
    direct, shared = (read_checkpoint(fold.runs / name / "checkpoint.pt") for name in ("direct", "unet"))
    assert all(torch.equal(shared["network"][name], value) for name, value in direct["network"].items())
    assert all(torch.equal(shared["best"][name], value) for name, value in direct["best"].items())


def test_loss_of_the_separation_network_is_that_of_the_separation(fold):
    config = dataclasses.replace(fold.config.network, architecture="unet", dropout=0.0)
    network = reproduction.build(config).eval()
    stage = stages_of(dataclasses.replace(fold.config, network=config))[0]
    image, targets, _ = fold.training[0][:3]
    _, separation_mask, _, weights = targets
    swapped = for_separation(fold).training[0].targets[None]
    logits, _ = outputs(network, image[None], stage)
    expected = weighted_cross_entropy(logits[:, 0], separation_mask[None], weights[None])
    torch.testing.assert_close(stage_loss(network, image[None], swapped, stage), expected)
    assert torch.equal(fold.training[0].targets, targets)


def test_two_networks_learn_a_task_each(fold, grid):
    """After some steps one is bright on cells, the other on contact; their outputs are not mixed up."""
    network = dataclasses.replace(fold.config.network, base_width=4, dropout=0.0)
    long = {"segmentation_epochs": 3, "separation_epochs": 8, "epoch_steps": 20}
    fold = fold._replace(config=dataclasses.replace(fold.config, network=network, **long))
    networks, _ = train_system(SYSTEMS["two-unets"], fold, grid)
    (image, *_) = predict(networks, fold.parts["train"], fold.config)
    seg_mask, separation_mask = fold.training[0].targets[:2].numpy() > 0.5
    segmentation, separation = image.probabilities
    assert segmentation[seg_mask].mean() > segmentation[~seg_mask].mean() + 0.3
    assert separation[separation_mask].mean() > separation[seg_mask & ~separation_mask].mean() + 0.1
    assert segmentation[separation_mask].mean() > 0.5


def named(n):
    return [Annotation(f"drawn/{i}", None, None) for i in range(n)]


@pytest.mark.parametrize("n", [4, 5, 7])
def test_leave_two_out_tests_every_image_once_and_none_that_was_seen(n):
    divisions = leave_two_out(named(n), seed=3)
    assert sorted(a.name for parts in divisions for a in parts["test"]) == [a.name for a in named(n)]
    assert [len(parts["test"]) for parts in divisions] == [2] * (n // 2) + [1] * (n % 2)
    for parts in divisions:
        assert sorted(a.name for part in parts.values() for a in part) == [a.name for a in named(n)]
        assert len(parts["validation"]) == 1
        assert parts["train"]
    assert divisions != leave_two_out(named(n), seed=4)


def test_too_few_images_for_leave_two_out():
    with pytest.raises(ValueError, match="3 annotated images: 4 are the least"):
        leave_two_out(named(3), seed=0)


def test_images_are_smoothed_and_labels_are_not(ignoring):
    """Half the size: the image is a mean over its surroundings, each label that of a pixel in its place."""
    original = find_annotations(ignoring)[0].read()
    (annotation, *_) = reproduction.resized(find_annotations(ignoring), 24)
    image, labels, ignore = annotation.read()
    assert image.shape == labels.shape == ignore.shape == (24, 24)
    assert image.mean() == pytest.approx(original.image.mean(), rel=0.02)
    assert image.max() < original.image.max()
    assert set(np.unique(labels)) == set(np.unique(original.labels))
    assert np.array_equal(labels, original.labels[1::2][:, (np.arange(24) + 0.5).__mul__(52 / 24).astype(int)])
    assert ignore[:, :12].all()
    assert not ignore[:, 12:].any()


def test_each_step_of_the_post_processing_is_counted():
    """A speck, a hole, and a pair whose contact is not seen: intersection 3 cells, cleaned 2, cut 3."""
    labels = discs((48, 90), [(24, 16, 12), (24, 38, 12), (24, 72, 12)])
    probabilities = perfect_probabilities(labels)
    probabilities[1] = 0
    probabilities[0, 2, 2] = 1
    probabilities[0, 24, 72] = 0
    steps = count([Predicted("a", probabilities, labels)], SplittingConfig(longest_cut=14, smallest_cell=5))
    assert {step: scores.n_predicted for step, scores in steps.items()} == {
        "intersected": 3,
        "cleaned": 2,
        "post-processed": 3,
    }
    assert [scores.predicted_pixels - scores.true_pixels for scores in steps.values()] == [0, 0, 0]
    seen = perfect_probabilities(labels)
    steps = count([Predicted("a", seen, labels)], SplittingConfig(longest_cut=14))
    assert steps["intersected"].predicted_pixels == steps["intersected"].true_pixels - contact(labels).sum()
    assert steps["cleaned"].dsc == 1


def refused(capsys, arguments):
    """The one line with which the command refuses."""
    assert main(arguments) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


def test_results_of_other_settings_or_images_are_not_mixed(both, tiny, tmp_path, capsys):
    options = ("--systems", "unet", "--sets", "usiigaci")
    assert main(command(both, tmp_path / "out", tiny, *options)) == 0
    before = (tmp_path / "out.md").read_bytes()
    line = refused(capsys, command(both, tmp_path / "out", tiny, *options, "--set", "learning_rate=0.5"))
    assert "usiigaci-0-0-unet.json was made with other settings" in line
    path = both / "usiigaci" / "labels" / "field0.tif"
    labels = tifffile.imread(path)
    tifffile.imwrite(path, np.where(labels == 1, 0, labels))
    assert "was made with other images" in refused(capsys, command(both, tmp_path / "out", tiny, *options))
    assert (tmp_path / "out.md").read_bytes() == before


@pytest.mark.parametrize("setting", ["patience=3", "learning_rate_schedule=cosine"])
def test_settings_with_unequal_budgets_are_refused(both, tiny, tmp_path, capsys, setting):
    line = refused(capsys, command(both, tmp_path / "out", tiny, "--set", setting))
    assert "must be 'constant' and 0: all systems go on from one stage 1" in line
    assert not (tmp_path / "out").exists()


def test_page_that_cannot_be_written_is_told_before_anything_is_trained(both, tiny, tmp_path, capsys):
    (tmp_path / "out.md").write_text("# By hand\n")
    line = refused(capsys, command(both, tmp_path / "out", tiny))
    assert "the tables go between them" in line
    assert (tmp_path / "out.md").read_text() == "# By hand\n"
    assert not (tmp_path / "out" / "runs").exists()
