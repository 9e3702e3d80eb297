"""Which images are learned from, judged by and tested on: each part of the division has its own use."""

import dataclasses
import json

import pytest
import torch

from training.cli import main
from training.data.annotations import find_annotations
from training.data.division import read_split, split_annotations
from training.learning.dataset import load_samples
from training.results import evaluation
from training.results import export as exporting
from training.results.export import export
from training.run import loop

ABOUT = {"name": "drawn", "description": "Drawn discs", "data": [{"name": "drawn", "licence": "CC0"}]}


def names(images):
    return [image.name for image in images]


@pytest.fixture
def run(data, preset, tmp_path):
    """Start a run; returns its folder."""

    def start():
        command = ["--data", data, "--output", tmp_path / "run", "--preset", preset, "--device", "cpu"]
        assert main(["train", *map(str, command)]) == 0
        return tmp_path / "run"

    return start


def test_a_run_learns_from_one_part_and_is_judged_by_another(run, monkeypatch):
    read, judged, validate = {}, [], loop.validate

    def load(annotations, config):
        read[",".join(names(annotations))] = samples = load_samples(annotations, config)
        return samples

    def judge(network, samples, *rest):
        judged.append(samples)
        return validate(network, samples, *rest)

    monkeypatch.setattr("training.learning.dataset.load_samples", load)
    monkeypatch.setattr(loop, "validate", judge)
    split = json.loads((run() / "split.json").read_text())
    assert list(read) == [",".join(split[part]) for part in ("train", "validation")]
    assert len(judged) == 4 and all(samples is read[",".join(split["validation"])] for samples in judged)


@pytest.mark.parametrize("diameter", [0.0, 14.0])
def test_export_chooses_by_one_part_measures_another_and_observes_the_third(
    data, config, tmp_path, monkeypatch, diameter
):
    config = dataclasses.replace(config, preprocessing=dataclasses.replace(config.preprocessing, diameter=diameter))
    parts, seen = split_annotations(find_annotations(data), seed=1), []
    samples = (load_samples(parts[part], config) for part in ("train", "validation"))
    loop.train(*samples, config, tmp_path, False, torch.device("cpu"))

    def spy(name):
        original = getattr(exporting, name)

        def spied(model, images, *rest, **more):
            seen.append((name, names(images)))
            if name == "tune_for_sizes_found":
                assert rest[-1] > 0  # the tolerance
            return original(model, images, *rest, **more)

        monkeypatch.setattr(exporting, name, spied)

    spy("predict_all")
    spy("tune_for_sizes_found")
    export(tmp_path, parts, ABOUT, tmp_path / "w.safetensors")
    found = [("tune_for_sizes_found", "validation")] if diameter else []
    used = [("predict_all", "validation"), *found, ("predict_all", "test"), ("predict_all", "train")]
    assert seen == [(name, names(parts[part])) for name, part in used]


def test_evaluate_scores_the_part_that_was_asked_for(run, wired_weights, monkeypatch):
    seen, folder, predict_all = [], run(), evaluation.predict_all

    def spied(model, images):
        seen.append(names(images))
        return predict_all(model, images)

    monkeypatch.setattr(evaluation, "predict_all", spied)
    for part in ("train", "validation", "test"):
        assert main(["evaluate", str(folder), "--model", str(wired_weights), "--part", part]) == 0
    assert seen == [names(chosen) for chosen in read_split(folder).values()]
