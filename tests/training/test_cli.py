"""The command line of training: a whole round, and what is refused."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import tifffile

from deepsplit_core.images import read_image
from deepsplit_core.metrics import Scores
from deepsplit_core.weights import read_card
from training.cli import main, read_config
from training.data.division import read_split
from training.learning.schedule import stages_of
from training.learning.validation import Validation
from training.run import loop
from training.run.checkpoint import read_checkpoint
from training.run.settings import PRESETS

NO_SCORES = Validation(1.0, Scores())
ABOUT = {"name": "drawn", "description": "Drawn discs", "data": [{"name": "drawn", "licence": "CC0"}]}


def train(data, run, preset, *options):
    folders = data if isinstance(data, list) else [data]
    return main(
        [
            "train",
            "--data",
            *map(str, folders),
            "--output",
            str(run),
            "--preset",
            str(preset),
            "--device",
            "cpu",
            *options,
        ]
    )


PRESETS_OF_ALL_RUNS = [str(path.relative_to(PRESETS).with_suffix("")) for path in sorted(PRESETS.rglob("*.toml"))]


def test_an_older_python_is_told_what_training_needs():
    code = "import sys; sys.version_info = (3, 9, 18); import training"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"ImportError: Training needs Python 3.11 or later, but {sys.executable} is " in result.stderr


@pytest.mark.parametrize("preset", PRESETS_OF_ALL_RUNS)
def test_presets_are_read(preset):
    config = read_config(preset)
    assert config.network.architecture == "deepsplit"
    assert config.one_pass <= (not config.freeze_trunk)  # else it would say what it does not do


@pytest.mark.parametrize("preset", ["standard", "fast_cpu", "best", "finetune"])
def test_presets_for_ones_own_cells_train_the_whole_network_for_one_pass(preset):
    """What was found to be best (docs/experiments.md), and takes no longer to predict."""
    config = read_config(preset)
    *_, last = stages_of(config)
    assert last.segmentation_weight == last.separation_weight == 1 and not last.keeps_segmentation
    assert (config.targets.gap_weight, config.augmentation.undeformed, config.augmentation.blur) == (0, 0.5, 0)


def test_papers_preset_is_the_papers():
    config = read_config("paper")
    assert (config.network.base_width, config.network.n_levels, config.network.dropout) == (64, 5, 0.2)
    assert config.network.normalisation == "none"
    assert config.preprocessing.method == "equalise"
    assert (config.schedule, config.freeze_trunk, config.segmentation_loss_weight) == ("cumulative", False, 0.3)
    assert (config.optimiser, config.learning_rate_schedule) == ("adam", "constant")
    assert config.targets.class_balance
    assert config.augmentation.fixed_copies == 19
    assert (config.augmentation.zoom, config.augmentation.gamma, config.augmentation.noise) == (1, 1, 0)


def test_division_is_written_down(data, preset, tmp_path):
    assert train(data, tmp_path / "run", preset) == 0
    parts = read_split(tmp_path / "run")
    assert sorted(a.name for part in parts.values() for a in part) == [f"drawn/field{i}" for i in range(6)]
    split = json.loads((tmp_path / "run" / "split.json").read_text())
    assert {part: [a.name for a in found] for part, found in parts.items()} == {p: split[p] for p in parts}


def test_frames_of_a_movie_stay_together(data, preset, tmp_path, capsys):
    for kind in ("images", "labels"):
        for path in list((data / kind).iterdir()):
            i = int(path.stem[-1])
            path.rename(path.with_name(f"movie{i % 3}_frame{i // 3}.tif"))
    assert train(data, tmp_path / "run", preset, "--set", "picture=movie[0-9]") == 0
    movies = [{a.name.split("_")[0] for a in part} for part in read_split(tmp_path / "run").values()]
    assert sorted(map(len, movies)) == [1, 1, 1] and len(set.union(*movies)) == 3
    assert train(data, tmp_path / "other", preset, "--set", "picture=(") == 1
    assert "picture is '(', which is no regular expression" in capsys.readouterr().err


@pytest.mark.parametrize("link", [False, True], ids=["dot", "link"])
def test_images_are_found_again_in_a_folder_of_another_name(data, preset, tmp_path, monkeypatch, link):
    if link:
        (tmp_path / "link").symlink_to(data)
    monkeypatch.chdir(tmp_path if link else data)
    command = [Path("link" if link else "."), tmp_path / "run", preset, "--set", "separation_epochs=1"]
    assert train(*command) == 0
    assert train(*command, "--resume") == 0
    monkeypatch.chdir("/")
    names = [a.name for part in read_split(tmp_path / "run").values() for a in part]
    assert sorted(names) == [f"{'link' if link else 'drawn'}/field{i}" for i in range(6)]


def test_run_is_resumed_through_a_link_to_the_folder_above(data, preset, tmp_path):
    (tmp_path / "linked").symlink_to(tmp_path)
    assert train(tmp_path / "linked" / "drawn", tmp_path / "run", preset) == 0
    path = tmp_path / "run" / "split.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "folders": [str(data)]}))
    assert train(tmp_path / "linked" / "drawn", tmp_path / "run", preset, "--resume") == 0


def test_folders_are_divided_one_by_one(data, preset, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(data, other)
    assert train([data, other], tmp_path / "run", preset) == 0
    split = json.loads((tmp_path / "run" / "split.json").read_text())
    for part in ("validation", "test"):
        assert [name.split("/")[0] for name in split[part]] == ["drawn", "other"]


def test_one_mask_for_each_cell_is_trained_on(masks, preset, tmp_path):
    assert train(masks, tmp_path / "run", preset, "--set", "separation_epochs=1") == 0
    assert train(masks, tmp_path / "run", preset, "--set", "separation_epochs=1", "--resume") == 0


def refused(capsys, *arguments):
    """The one line with which `train` refuses."""
    assert train(*arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def test_folders_of_one_name_are_refused(data, preset, tmp_path, capsys):
    """Their images have one name, so that a division by name would mix them up."""
    other = tmp_path / "again" / "drawn"
    shutil.copytree(data, other)
    for i in range(6):
        tifffile.imwrite(other / "images" / f"field{i}.tif", np.eye(48, 52, i, dtype=np.uint16))
    assert "Several data folders are named ['drawn']" in refused(capsys, [data, other], tmp_path / "run", preset)


@pytest.mark.parametrize("command", ["prepare", "inspect"])
def test_folders_of_one_name_are_refused_before_anything_is_written(data, tmp_path, capsys, command):
    other, output = tmp_path / "again" / "drawn", tmp_path / "output"
    shutil.copytree(data, other)
    assert main([command, "--data", str(data), str(other), "--output", str(output)]) == 1
    assert "Several data folders are named ['drawn']" in capsys.readouterr().err
    assert not output.exists()


def test_a_log_without_the_letters_of_a_name_ends_no_command(data, tmp_path, monkeypatch):
    """As Windows writes output to a file, in cp1252: a name may be Polish."""
    folder = tmp_path / "kom\u00f3rki \u0142"
    shutil.copytree(data, folder)
    with (tmp_path / "log.txt").open("w", encoding="cp1252") as log:
        monkeypatch.setattr(sys, "stdout", log)
        assert main(["inspect", "--data", str(folder), "--output", str(tmp_path / "out"), "--number", "1"]) == 0
    assert "kom\u00f3rki \\u0142" in (tmp_path / "log.txt").read_text(encoding="cp1252")


def test_a_division_that_was_edited_with_a_byte_order_mark_is_read(data, preset, tmp_path):
    """Notepad writes one."""
    assert train(data, tmp_path / "run", preset) == 0
    path = tmp_path / "run" / "split.json"
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert train(data, tmp_path / "run", preset, "--resume") == 0
    assert read_split(tmp_path / "run")["train"]


def test_one_image_in_two_parts_is_refused(data, preset, tmp_path, capsys):
    """As where a folder of corrected images holds some of the first one again."""
    more = tmp_path / "more"
    for kind in ("images", "labels"):
        (more / kind).mkdir(parents=True)
        for path in (data / kind).iterdir():
            shutil.copy(path, more / kind / f"again{5 - int(path.stem[-1])}.tif")
    message = refused(capsys, [data, more], tmp_path / "run", preset)
    assert re.search(r"(drawn|more)/\w+\d and (drawn|more)/\w+\d are one image, but would be for \w+ and \w+", message)


@pytest.fixture
def first(data, preset, tmp_path, capsys):
    """Weights that were trained on the data."""
    assert train(data, tmp_path / "first", preset) == 0
    about, weights = tmp_path / "about.json", str(tmp_path / "first.safetensors")
    about.write_text(json.dumps(ABOUT))
    assert main(["export", str(tmp_path / "first"), "--about", str(about), "--output", weights]) == 0
    capsys.readouterr()
    return weights


@pytest.mark.parametrize("option", [("--start-from", "{}"), ("--set", "teacher={}")], ids=["start", "teacher"])
def test_images_that_were_learned_and_would_be_tested_are_warned_of(data, preset, tmp_path, capsys, first, option):
    option = [part.format(first) for part in option]
    assert train(data, tmp_path / "same", preset, *option) == 0
    assert "has learned" not in capsys.readouterr().out
    for number, settings in enumerate((["--set", "seed=5"], [])):
        if not settings:  # the folder has grown, and with it the division has changed
            for kind in ("images", "labels"):
                for i in range(6):
                    pixels = tifffile.imread(data / kind / f"field{i}.tif")
                    tifffile.imwrite(data / kind / f"a{i}.tif", pixels[::-1])
        assert train(data, tmp_path / str(number), preset, *option, *settings) == 0
        assert f"warning: {first} has learned 1 of the 1 " in capsys.readouterr().out


def test_what_was_learned_is_handed_on(data, preset, tmp_path, first):
    """A run that starts from those weights knows their images as well as its own."""
    other = tmp_path / "other"
    for kind in ("images", "labels"):
        (other / kind).mkdir(parents=True)
        for path in (data / kind).iterdir():
            tifffile.imwrite(other / kind / path.name, tifffile.imread(path)[::-1])
    assert train(other, tmp_path / "run", preset, "--start-from", first) == 0
    learned = set(json.loads((tmp_path / "run" / "config.json").read_text())["learned"].split())
    assert len(learned) == 8
    assert learned > set(read_card(Path(first)).training["learned"].split())


def test_one_or_two_images_beside_a_folder_are_all_learned_from(data, preset, tmp_path, capsys):
    corrected = tmp_path / "corrected"
    for kind in ("images", "labels"):
        (corrected / kind).mkdir(parents=True)
        pixels = tifffile.imread(data / kind / "field0.tif")
        tifffile.imwrite(corrected / kind / "mine.tif", pixels[::-1])
    assert "corrected/mine: 1 annotated images cannot be divided" in refused(capsys, corrected, tmp_path / "no", preset)
    assert train([data, corrected], tmp_path / "run", preset) == 0
    assert "corrected/mine" in json.loads((tmp_path / "run" / "split.json").read_text())["train"]


def test_folders_of_two_images_each_leave_none_to_test_on(data, few, preset, tmp_path, capsys):
    for path in [path for kind in ("images", "labels") for path in sorted((few / kind).iterdir())[2:]]:
        path.unlink()
    other = tmp_path / "other"
    shutil.copytree(few, other)
    assert (
        main(["train", "--data", str(few), str(other), "--preset", str(preset), "--output", str(tmp_path / "r")]) == 1
    )
    assert "has 3 images, so that none would be left to choose by and to test on" in capsys.readouterr().err


def test_missing_memory_is_told_in_a_sentence(tmp_path, monkeypatch, capsys):
    def simulate(*_):
        raise MemoryError("Unable to allocate 8 TiB")

    monkeypatch.setattr("training.simulated.simulate", simulate)
    assert main(["simulate", "--output", str(tmp_path / "drawn"), "--number", "1"]) == 1
    assert "There is not enough memory (Unable to allocate 8 TiB)" in capsys.readouterr().err


def test_files_that_windows_editors_wrote_are_read(data, preset, tmp_path):
    """With a mark of their encoding before the text."""
    (tmp_path / "windows.toml").write_text(preset.read_text(), encoding="utf-8-sig")
    assert read_config(str(tmp_path / "windows.toml")) == read_config(str(preset))


def test_a_folder_that_has_moved_is_named(data, preset, tmp_path):
    assert train(data, tmp_path / "run", preset) == 0
    data.rename(tmp_path / "moved")
    with pytest.raises(ValueError, match='drawn, where no folder is now: .* under "folders" in .*split.json'):
        read_split(tmp_path / "run")


def test_missing_partner(data, preset, tmp_path, capsys):
    (data / "labels" / "field2.tif").unlink()
    assert "1 x image without labels: field2" in refused(capsys, data, tmp_path / "run", preset)


def test_everything_that_is_wrong_is_said_at_once(data, preset, tmp_path, capsys):
    """Of whichever part of the division: the test images are not read before the export."""
    for i in (1, 3):
        tifffile.imwrite(data / "labels" / f"field{i}.tif", np.zeros((9, 9), np.uint16))
    tifffile.imwrite(
        data / "images" / "field5.tif", np.arange(7488).reshape(48, 52, 3).astype(np.uint8), photometric="rgb"
    )
    line = refused(capsys, data, tmp_path / "run", preset)
    assert "2 x sizes that differ: drawn/field1, drawn/field3 (each: " in line
    assert "1 x colour image: drawn/field5 (" in line
    assert "prepare --data FOLDER --repair --output CLEAN" in line
    assert not (tmp_path / "run").exists()


def test_doubts_are_counted_and_do_not_stop_a_run(data, preset, tmp_path, capsys):
    tifffile.imwrite(data / "labels" / "field1.tif", np.zeros((48, 52), np.uint16))
    assert train(data, tmp_path / "run", preset) == 0
    assert "1 x image without cells" in capsys.readouterr().out


def test_images_without_a_cell_are_refused_unless_others_have_some(data, few, preset, tmp_path, capsys):
    """Empty fields teach to find no cell, but alone they give perfect scores."""
    for folder, seed in ((data, "5"), (tmp_path / "empty", "6")):
        simulate = ["simulate", "--output", str(folder), "--number", "5", "--size", "64", "--seed", seed, "--empty"]
        shutil.rmtree(folder, ignore_errors=True)
        assert main(simulate) == 0
    capsys.readouterr()
    empty = [data, tmp_path / "empty"]
    assert "No image of drawn, empty has a labelled cell" in refused(capsys, empty, tmp_path / "run", preset)
    assert not (tmp_path / "run").exists()
    assert train([*empty, few], tmp_path / "run", preset) == 0


def test_sizes_that_differ(data, preset, tmp_path, capsys):
    for i in range(6):
        tifffile.imwrite(data / "labels" / f"field{i}.tif", np.zeros((9, 9), np.uint16))
    line = refused(capsys, data, tmp_path / "run", preset)
    assert "(9, 9)" in line
    assert "(48, 52)" in line


def test_existing_run(data, preset, tmp_path, capsys):
    assert train(data, tmp_path / "run", preset) == 0
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    capsys.readouterr()
    assert "holds a run already: add --resume" in refused(capsys, data, tmp_path / "run", preset)
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before


def test_resume_without_a_run(data, preset, tmp_path, capsys):
    assert "start it without --resume" in refused(capsys, data, tmp_path / "run", preset, "--resume")


def test_resume_with_another_seed_leaves_the_run_as_it_was(data, preset, tmp_path, capsys):
    """The division of the images above all: else test images become training images."""
    assert train(data, tmp_path / "run", preset) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    preset.write_text(preset.read_text().replace("seed = 1", "seed = 2"))
    capsys.readouterr()
    assert "other settings (seed: then 1, now 2), so" in refused(capsys, data, tmp_path / "run", preset, "--resume")
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_a_run_that_goes_on_with_another_length_tells_so(data, preset, tmp_path, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(loop, "validate", Mock(side_effect=[NO_SCORES] * 3 + [KeyboardInterrupt]))
        with pytest.raises(KeyboardInterrupt):
            train(data, tmp_path / "run", preset)
    change = "separation_epochs: then 2, now 3, after 3 epochs in all"
    assert train(data, tmp_path / "run", preset, "--set", "separation_epochs=3", "--resume") == 0
    assert f"It has another length now: {change}\n" in capsys.readouterr().out
    assert train(data, tmp_path / "run", preset, "--set", "separation_epochs=3", "--resume") == 0
    assert "another length" not in capsys.readouterr().out
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert saved["changes"] == [change] and saved["config"]["separation_epochs"] == 3
    assert saved["config"] == read_checkpoint(tmp_path / "run" / "checkpoint.pt")["config"]


def test_resume_with_changed_labels_is_refused(data, preset, tmp_path, capsys):
    assert train(data, tmp_path / "run", preset) == 0
    labels = read_image(data / "labels" / "field0.tif")
    tifffile.imwrite(data / "labels" / "field0.tif", np.where(labels == 1, 0, labels))
    capsys.readouterr()
    assert "images or labels have changed since" in refused(capsys, data, tmp_path / "run", preset, "--resume")


def test_settings_of_the_command_line_take_the_place_of_the_presets(data, preset, tmp_path):
    settings = ["--set", "network.base_width=3", "--set", "separation_epochs=1"]
    assert train(data, tmp_path / "run", preset, *settings) == 0
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert saved["config"] == read_checkpoint(tmp_path / "run" / "checkpoint.pt")["config"]
    assert (saved["config"]["network"]["base_width"], saved["config"]["separation_epochs"]) == (3, 1)
    assert saved["config"]["network"]["n_levels"] == 3  # the other values of the table stay
    assert "--set network.base_width=3" in saved["command"]
    assert saved["seed"] == 1
    assert saved["data"]["images"] == {"train": 4, "validation": 1, "test": 1}
    assert saved["device"]["name"] == "cpu"
    assert {"deepsplit", "python", "torch", "numpy"} == saved["versions"].keys()


def test_resume_with_other_images_is_refused(data, preset, tmp_path, capsys):
    """More images are divided in another way: what was a test image may become a training image."""
    assert train(data, tmp_path / "run", preset) == 0
    for kind in ("images", "labels"):
        for i in range(6):
            shutil.copy(data / kind / f"field{i}.tif", data / kind / f"more{i}.tif")
    before = (tmp_path / "run" / "split.json").read_bytes()
    capsys.readouterr()
    refused(capsys, data, tmp_path / "run", preset, "--resume")
    assert (tmp_path / "run" / "split.json").read_bytes() == before


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("view = [", "tiny.toml"),
        ("novelty = 1", "does not know ['novelty']"),
        ("[network]\ndepth = 3", "ModelConfig does not know ['depth']"),
        ("view = 33", "TrainConfig.view is 33, but it must be a multiple of 16"),
        ("view = 0", "TrainConfig.view is 0"),
        ("batch = 0", "TrainConfig.batch is 0"),
        ("learning_rate = 0", "TrainConfig.learning_rate is 0"),
        ("network = 3", "tiny.toml"),
    ],
)
def test_wrong_settings(data, preset, tmp_path, capsys, toml, message):
    preset.write_text(toml)
    assert message in refused(capsys, data, tmp_path / "run", preset)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("device", "message"), [("tpu", "The device is 'tpu'"), ("cuda:99", "Device 'cuda:99' was asked for, but torch")]
)
def test_device_that_is_not_there_is_no_silent_cpu(data, preset, tmp_path, capsys, device, message):
    assert message in refused(capsys, data, tmp_path / "run", preset, "--device", device)
    assert not (tmp_path / "run").exists()


def test_unknown_preset(data, tmp_path, capsys):
    line = refused(capsys, data, tmp_path / "run", "novelty")
    assert "'novelty' is neither a preset (best, fast_cpu, finetune, paper, reproduction, " in line
    assert "reproduction_gpu, standard) nor a TOML file" in line


@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_folder_that_is_no_run(tmp_path, wired_weights, capsys, command):
    (tmp_path / "about.json").write_text(json.dumps(ABOUT))
    options = {
        "evaluate": ["--model", str(wired_weights)],
        "export": ["--about", str(tmp_path / "about.json"), "--output", str(tmp_path / "w.safetensors")],
    }
    assert main([command, str(tmp_path), *options[command]]) == 1
    assert "is no folder of a run" in capsys.readouterr().err


def test_export_of_changed_images_is_refused(data, preset, tmp_path, capsys):
    """Thresholds and scores would be of other images than the card says."""
    assert train(data, tmp_path / "run", preset) == 0
    labels = read_image(data / "labels" / "field0.tif")
    tifffile.imwrite(data / "labels" / "field0.tif", np.where(labels == 1, 0, labels))
    (tmp_path / "about.json").write_text(json.dumps(ABOUT))
    output = tmp_path / "drawn.safetensors"
    where = ["--about", str(tmp_path / "about.json"), "--output", str(output)]
    assert main(["export", str(tmp_path / "run"), *where]) == 1
    assert "images or labels have changed since" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("drawn.pt", "must be NAME.safetensors in a folder that exists"),
        ("new/drawn.safetensors", "must be NAME.safetensors in a folder that exists"),
        ("about.safetensors", "would be written over"),
    ],
)
def test_export_says_at_once_that_it_could_not_write(tmp_path, capsys, output, message):
    """Before anything is read of the run, which is none here."""
    about = tmp_path / "about.json"
    about.write_text(json.dumps(ABOUT))
    assert main(["export", str(tmp_path), "--about", str(about), "--output", str(tmp_path / output)]) == 1
    assert message in capsys.readouterr().err
    assert json.loads(about.read_text()) == ABOUT


@pytest.mark.parametrize("source", ["start_from", "teacher"])
def test_weights_that_a_run_learned_from_are_not_overwritten(data, preset, tmp_path, tiny_weights, capsys, source):
    about = tmp_path / "about.json"
    about.write_text(json.dumps(ABOUT))
    assert train(data, tmp_path / "run", preset) == 0
    origin = tmp_path / "run" / "config.json"
    values = json.loads(origin.read_text())
    values["config"][source] = str(tiny_weights)
    origin.write_text(json.dumps(values))
    before = tiny_weights.read_bytes()
    assert main(["export", str(tmp_path / "run"), "--about", str(about), "--output", str(tiny_weights)]) == 1
    assert f"learned from {tiny_weights}, which would be overwritten" in capsys.readouterr().err
    assert tiny_weights.read_bytes() == before


def test_an_image_that_is_new_and_not_labelled_yet_is_in_nobodys_way(data, preset, tmp_path, wired_weights):
    assert train(data, tmp_path / "run", preset) == 0
    shutil.copy(data / "images" / "field0.tif", data / "images" / "new.tif")
    assert main(["evaluate", str(tmp_path / "run"), "--model", str(wired_weights)]) == 0


def test_float32_is_not_for_a_graphics_card(tmp_path, wired_weights, capsys):
    options = ["--model", str(wired_weights), "--float32", "--device", "cuda"]
    assert main(["evaluate", str(tmp_path), *options]) == 1
    assert "--float32 is for the processor, and --device is cuda" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "preset"),
    [
        ([], "standard"),
        (["--start-from", "cells"], "finetune"),
        (["--start-from", "cells", "--preset", "best"], "best"),
    ],
)
def test_weights_to_start_from_are_fine_tuned(data, tmp_path, monkeypatch, options, preset):
    chosen = []

    def read(*given):
        chosen.append(given[0])
        raise ValueError

    monkeypatch.setattr("training.cli.read_config", read)
    assert main(["train", "--data", str(data), "--output", str(tmp_path / "run"), *options]) == 1
    assert chosen == [preset]


@pytest.mark.parametrize(
    "error", ["CUDA out of memory. Tried to allocate 2 GiB.", "DefaultCPUAllocator: can't allocate memory"]
)
def test_a_network_without_memory_is_told_what_to_take_less_of(tmp_path, monkeypatch, capsys, error):
    def simulate(*_):
        raise RuntimeError(error)

    monkeypatch.setattr("training.simulated.simulate", simulate)
    assert main(["simulate", "--output", str(tmp_path / "drawn"), "--number", "1"]) == 1
    assert f"{error} Take smaller batches (--set batch=4)" in capsys.readouterr().err


def test_image_that_is_gone_is_named(data, preset, tmp_path, wired_weights, capsys):
    assert train(data, tmp_path / "run", preset) == 0
    for kind in ("images", "labels"):
        (data / kind / "field3.tif").unlink()
    capsys.readouterr()
    for part in ("train", "validation", "test"):
        assert main(["evaluate", str(tmp_path / "run"), "--model", str(wired_weights), "--part", part]) == 1
        assert "field3" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "inspect", "prepare", "simulate"])
def test_what_could_not_be_written_is_said_with_what_to_do(data, preset, tmp_path, capsys, command):
    """A file stands where a folder is to be made."""
    (tmp_path / "file").write_text("")
    options = {
        "train": ["--data", str(data), "--preset", str(preset), "--device", "cpu"],
        "inspect": ["--data", str(data), "--preset", str(preset)],
        "prepare": ["--data", str(data)],
        "simulate": ["--number", "1", "--size", "64"],
    }
    assert main([command, *options[command], "--output", str(tmp_path / "file" / "out")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path / 'file'}")
    assert line.endswith(
        "could not be read or written (Not a directory): give a path where you may read and write, with room in it."
    )


def test_a_run_that_could_not_be_written_says_how_to_go_on(data, preset, tmp_path, capsys, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied", "runs/metrics.csv")

    monkeypatch.setattr("training.run.loop.train", refuse)
    line = refused(capsys, data, tmp_path / "run", preset)
    assert line.startswith("error: runs/metrics.csv could not be read or written (Permission denied): give a path")
    assert line.endswith("go on with --resume from the last complete epoch.")


@pytest.mark.parametrize(
    ("started", "name"),
    [("/env/bin/deepsplit-train", "deepsplit-train"), ("/src/training/__main__.py", "python -m training")],
)
def test_help_calls_the_program_as_it_was_started(started, name, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [started])
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert capsys.readouterr().out.startswith(f"usage: {name} train ")
