"""The grid of the paper's tables: whole, killed and gone on with, stopped, refused; what is counted."""

import dataclasses
import os
import shutil
import signal

import numpy as np
import pytest
import tifffile
from child_runs import KILLED_AT_FILE
from drawing import contact, discs, perfect_probabilities

from deepsplit_core.config import SplittingConfig
from training.cli import main
from training.reproduction import reproduce as reproduction
from training.reproduction import shared_stage
from training.reproduction.page import read_results
from training.reproduction.reproduce import count
from training.reproduction.systems import SYSTEMS
from training.results.evaluation import Predicted
from training.run.checkpoint import read_checkpoint
from training.run.settings import read_config

POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
TWO = ("--systems", "unet", "cumulative-deepsplit", "--sets", "usiigaci")
# All have equally many; what is not here has two stages.
STEPS = {"unet": {"segmentation": 8}, **{name: {"both": 8} for name in SYSTEMS if name.startswith("simultaneous")}}


@pytest.fixture
def both(few, tmp_path):
    """A folder with both sets, of five and four images."""
    shutil.copytree(few, tmp_path / "sets" / "usiigaci")
    shutil.copytree(few, tmp_path / "sets" / "endothelium")
    for kind in ("images", "labels"):
        (tmp_path / "sets" / "endothelium" / kind / "field4.tif").unlink()
    return tmp_path / "sets"


def command(data, output, preset, *options):
    """The tiny run's settings, with the paper's stage 2 and steps of one size; results go into the output folder."""
    where = ["--data", str(data), "--output", str(output), "--page", str(output.with_suffix(".md"))]
    where += ["--preset", str(preset), "--set", "learning_rate_schedule=constant", "--set", "freeze_trunk=false"]
    return ["reproduce", *where, "--side", "48", "--seeds", "1", *options]


def results(output):
    """All results by the file's name, without times."""
    found = {path.stem: result for path, result in read_results(output).items()}
    for result in found.values():
        del result["seconds"]
    return found


def test_whole_grid_and_once_more(both, preset, tmp_path, monkeypatch, capsys):
    """Every system; thresholds are chosen on validation images alone; the second time nothing is trained."""
    chosen_on, tune = [], reproduction.tune
    monkeypatch.setattr(reproduction, "tune", lambda p, d: chosen_on.append([i.name for i in p]) or tune(p, d))
    commands = [
        command(both, tmp_path / "out", preset, "--sets", "usiigaci"),
        command(both, tmp_path / "out", preset, "--systems", "unet"),
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
    assert page.count("| 1 of 1 |") == len(SYSTEMS) and page.count("| 2 of 2 |") == 1
    assert "Nothing is left to train" not in capsys.readouterr().out
    monkeypatch.setattr(shared_stage, "train", None)
    assert main(commands[1]) == 0
    assert "Nothing is left to train" in capsys.readouterr().out
    assert (tmp_path / "out.md").read_text() == page


@POSIX
def test_killed_grid_goes_on_to_the_same_results(start, both, preset, tmp_path):
    """Killed while stage 1 is taken over, and while a result is written, whose leftover is no result."""
    assert main(command(both, tmp_path / "whole", preset, *TWO)) == 0
    again = command(both, tmp_path / "out", preset, *TWO)
    # Files in their order: the page; config.json, an empty metrics.csv, then checkpoint.pt and metrics.csv for each of
    # 2 epochs of stage 1; the U-Net's config.json and its first checkpoint.
    for n, name in [(9, "unet/.checkpoint.pt"), (10, ".usiigaci-0-0-unet.json")]:
        process = start("-c", KILLED_AT_FILE, str(n), "before", *again)
        assert process.wait() == -signal.SIGKILL
        (leftover,) = [part for part in (tmp_path / "out").rglob(".*.part*") if name in str(part)]
        leftover.write_text("{")
        assert read_results(tmp_path / "out") == {}
    assert main(again) == 0
    assert results(tmp_path / "out") == results(tmp_path / "whole")


def test_preset_is_the_papers_but_for_width_rate_view_lengths_and_contact():
    paper, ours = (read_config(name) for name in ("paper", "reproduction"))
    own = ("learning_rate", "view", "segmentation_epochs", "separation_epochs", "patience", "picture_epochs", "targets")
    network = dataclasses.replace(ours.network, base_width=paper.network.base_width)
    assert dataclasses.replace(ours, network=network, **{name: getattr(paper, name) for name in own}) == paper
    assert dataclasses.replace(ours.targets, contact_width=2.0, contact_reach=4.0) == paper.targets
    assert ours.patience == 0


@POSIX
def test_stopped_grid_says_how_to_go_on(both, preset, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shared_stage, "train", lambda *_: signal.raise_signal(signal.SIGTERM))
    arguments = command(both, tmp_path / "out", preset, *TWO)
    assert main(arguments) == 143
    stopped = capsys.readouterr().err.strip().splitlines()[-1]
    assert stopped == "Stopped (SIGTERM). Go on with the same command."


def test_each_step_of_the_post_processing_is_counted():
    """A speck of 2 pixels, a hole of 1, and a pair whose contact is not seen."""
    labels = discs((48, 90), [(24, 16, 12), (24, 38, 12), (24, 72, 12)])
    probabilities = perfect_probabilities(labels)
    probabilities[1] = 0
    probabilities[0, 2, 2:4] = 1
    probabilities[0, 24, 72] = 0
    steps = count([Predicted("a", probabilities, labels)], SplittingConfig(longest_cut=14, smallest_cell=5))
    assert {step: scores.n_predicted for step, scores in steps.items()} == {
        "intersected": 3,
        "cleaned": 2,
        "post-processed": 3,
    }
    assert [scores.predicted_pixels - scores.true_pixels for scores in steps.values()] == [1, 0, 0]
    seen = perfect_probabilities(labels)
    steps = count([Predicted("a", seen, labels)], SplittingConfig(longest_cut=14))
    assert steps["intersected"].predicted_pixels == steps["intersected"].true_pixels - contact(labels).sum()
    assert steps["cleaned"].dsc == 1


def refused(capsys, arguments):
    """The one line with which the command refuses."""
    assert main(arguments) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


def test_results_of_other_settings_or_images_are_not_mixed(both, preset, tmp_path, capsys):
    options = ("--systems", "unet", "--sets", "usiigaci")
    assert main(command(both, tmp_path / "out", preset, *options)) == 0
    before = (tmp_path / "out.md").read_bytes()
    line = refused(capsys, command(both, tmp_path / "out", preset, *options, "--set", "learning_rate=0.5"))
    assert "usiigaci-0-0-unet.json was made with other settings (learning_rate: then 0.01, now 0.5):" in line
    path = both / "usiigaci" / "labels" / "field0.tif"
    labels = tifffile.imread(path)
    tifffile.imwrite(path, np.where(labels == 1, 0, labels))
    assert "was made with other images" in refused(capsys, command(both, tmp_path / "out", preset, *options))
    assert (tmp_path / "out.md").read_bytes() == before


@pytest.mark.parametrize("setting", ["patience=3", "learning_rate_schedule=cosine"])
def test_settings_with_unequal_budgets_are_refused(both, preset, tmp_path, capsys, setting):
    line = refused(capsys, command(both, tmp_path / "out", preset, "--set", setting))
    assert "must be 'constant' and 0: all systems go on from one stage 1" in line
    assert not (tmp_path / "out").exists()


def test_folds_know_no_pictures(both, preset, tmp_path, capsys):
    line = refused(capsys, command(both, tmp_path / "out", preset, "--set", "picture=field"))
    assert "picture is set, but the folds are made image by image" in line


@pytest.mark.parametrize("setting", ["preprocessing.shrink=2.0", "preprocessing.diameter=36.0"])
def test_images_are_of_one_size_already(both, preset, tmp_path, capsys, setting):
    line = refused(capsys, command(both, tmp_path / "out", preset, "--set", setting))
    assert "must be 1 and 0: all images are brought to one size by --side" in line
    assert not (tmp_path / "out").exists()


def test_page_that_cannot_be_written_is_told_before_anything_is_trained(both, preset, tmp_path, capsys):
    (tmp_path / "out.md").write_text("# By hand\n")
    line = refused(capsys, command(both, tmp_path / "out", preset))
    assert "the tables go between them" in line
    assert (tmp_path / "out.md").read_text() == "# By hand\n"
    assert not (tmp_path / "out" / "runs").exists()


def test_a_page_without_an_ending_is_refused(both, preset, tmp_path, capsys):
    arguments = command(both, tmp_path / "out", preset, "--page", str(tmp_path / "mine"))
    assert "it must be NAME.md" in refused(capsys, arguments)
    assert not (tmp_path / "mine").exists()
