"""A trained network as a teacher of a run."""

import dataclasses
import json

import pytest
import torch
from networks import card_of, random_network, wired_network, write_weights

from deepsplit_core.config import ModelConfig, PreprocessingConfig
from deepsplit_core.weights import read_card, sha256_of
from training.cli import main
from training.learning import hardware
from training.learning.teacher import Teacher
from training.run import loop

CPU = torch.device("cpu")


@pytest.fixture
def taught(config, wired_weights):
    """The settings of a run that sees images as its teacher does."""
    return dataclasses.replace(config, teacher=str(wired_weights), preprocessing=read_card(wired_weights).preprocessing)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 1, 32, 32, generator=generator), torch.rand(2, 4, 32, 32, generator=generator).round()


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_masks_are_in_part_what_the_teacher_finds(taught, batch, share, monkeypatch):
    monkeypatch.setattr(hardware, "choose_dtype", lambda device: torch.float32)  # some processors take bfloat16
    images, targets = batch
    found = Teacher(dataclasses.replace(taught, teacher_share=share), CPU).teach(images, targets)
    with torch.no_grad():
        expected = torch.sigmoid(wired_network()(images))
    torch.testing.assert_close(found[:, :2], (1 - share) * targets[:, :2] + share * expected)
    torch.testing.assert_close(found[:, 2:], targets[:, 2:])
    assert not found.requires_grad


def test_teacher_has_to_see_what_the_run_sees(taught):
    config = dataclasses.replace(taught, preprocessing=PreprocessingConfig("equalise"))
    with pytest.raises(ValueError, match=r"(?s)The teacher .*prepared by .*this run by .*give both the same"):
        Teacher(config, CPU)


def test_unet_teaches_no_separation(taught, tmp_path):
    network = random_network("unet")
    path = write_weights(
        tmp_path / "unet.safetensors",
        network,
        card_of(
            network, ModelConfig("unet", base_width=2, n_levels=3, dropout=0.0), preprocessing=taught.preprocessing
        ),
    )
    with pytest.raises(ValueError, match="is a U-Net, which finds no separation"):
        Teacher(dataclasses.replace(taught, teacher=str(path)), CPU)


def test_run_learns_from_its_teacher_and_is_resumed_bit_for_bit(taught, samples, tmp_path, monkeypatch):
    def run(name, config, resume=False):
        (tmp_path / name).mkdir(exist_ok=True)
        return loop.train(samples[:4], samples[4:], config, tmp_path / name, resume, CPU).state_dict()

    def are_equal(one, other):
        return all(torch.equal(value, other[name]) for name, value in one.items())

    whole = run("whole", taught)
    assert not are_equal(whole, run("alone", dataclasses.replace(taught, teacher="")))
    monkeypatch.setattr(loop, "validate", fails_at_the(3, loop.validate))
    with pytest.raises(KeyboardInterrupt):
        run("part", taught)
    monkeypatch.undo()
    assert are_equal(whole, run("part", taught, resume=True))


def fails_at_the(number, function):
    calls = iter(range(1, 100))

    def call(*arguments):
        if next(calls) == number:
            raise KeyboardInterrupt
        return function(*arguments)

    return call


def test_command_line_says_which_teacher_and_refuses_another_one(data, preset, tmp_path, capsys):
    teacher = write_weights(tmp_path / "teacher.safetensors", random_network())
    preprocessing = read_card(teacher).preprocessing
    settings = [
        f"teacher={teacher}",
        f"preprocessing.low={preprocessing.low}",
        f"preprocessing.high={preprocessing.high}",
    ]
    command = ["train", "--data", str(data), "--preset", str(preset), "--output", str(tmp_path / "run")]
    command += [part for setting in settings for part in ("--set", setting)]
    assert main(command) == 0
    origin = json.loads((tmp_path / "run" / "config.json").read_text())
    assert origin["teacher_sha256"] == sha256_of(str(teacher))
    write_weights(teacher, random_network(seed=7))
    assert main([*command, "--resume"]) == 1
    assert "is another file than when" in capsys.readouterr().err
