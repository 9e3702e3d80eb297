"""The page: it is whole, shows what it says, and runs nothing that a file's text brings along."""

import base64
import io
import json
from html.parser import HTMLParser

import imageio.v2
import numpy as np
import pytest
import tifffile

from deepsplit_core.metrics import Scores
from deepsplit_core.weights import read
from training.cli import main
from training.data.annotations import find_annotations
from training.data.copies import short_digest
from training.data.division import read_split, split_annotations
from training.results.export import export
from training.results.report import Judged, images, learned_before, notes, quality, scores_table, table

ABOUT = {"name": "<script>alert(1)</script>", "description": "R&D", "data": [{"name": "a<b", "licence": "CC0"}]}


class Page(HTMLParser):
    """Tags, pictures and text of a page; tags that are not closed in order are an error."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.pictures, self.addresses, self.text = [], [], [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href"):
                self.addresses.append(value)
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def exported(data, preset, tmp_path):
    """A finished run and its weights file."""
    run, weights = tmp_path / "run", tmp_path / "drawn.safetensors"
    command = ["train", "--data", str(data), "--output", str(run), "--preset", str(preset), "--device", "cpu"]
    assert main(command) == 0
    export(run, split_annotations(find_annotations(data), seed=1), ABOUT, weights)
    return run, weights


def test_missing_matplotlib_is_said_at_once(exported, capsys, monkeypatch):
    run, weights = exported
    monkeypatch.setattr("training.results.curves.importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("training.results.report.predict_all", None)
    assert main(["report", str(run), "--model", str(weights)]) == 1
    assert "need matplotlib: python -m pip install" in capsys.readouterr().err


def test_page_is_one_file_with_all_that_was_asked_for(exported, capsys):
    run, weights = exported
    assert main(["report", str(run), "--model", str(weights)]) == 0
    assert "report.html" in capsys.readouterr().out
    page = Page((run / "report.html").read_text(encoding="utf-8"))
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert len(page.addresses) == 4  # three panels of the one test image, and the curves
    for address in page.addresses:
        start, _, encoded = address.partition(",")
        assert start == "data:image/png;base64"
        assert imageio.v2.imread(io.BytesIO(base64.b64decode(encoded)), format="png").ndim == 3
    (test_image,) = json.loads((run / "split.json").read_text())["test"]
    for text in (ABOUT["name"], "a<b", "R&D", test_image, "with the separation decoder", "network.base_width", "seed"):
        assert text in page.text
    assert str(run.parent) not in page.text.split("How to make it again")[0]  # no folder of this machine but there
    assert list(run.glob(".*.part*")) == []


def test_weights_of_the_best_epoch_are_this_runs_too(exported, data, tmp_path):
    run, last = exported
    best = tmp_path / "best.safetensors"
    export(run, split_annotations(find_annotations(data), seed=1), ABOUT, best, epoch="best")
    for weights, epoch in ((best, "best"), (last, "last")):
        assert main(["report", str(run), "--model", str(weights)]) == 0
        assert f"the weights are those of the {epoch} epoch" in (run / "report.html").read_text(encoding="utf-8")


def test_mixed_weights_are_this_runs_too(data, preset, tiny_weights, tmp_path):
    run, weights, preset = tmp_path / "run", tmp_path / "mixed.safetensors", tmp_path / "mine.toml"
    preset.write_text(
        "view = 32\nbatch = 2\nepoch_steps = 1\npicture_epochs = 0\nseed = 1\none_pass = true\nfreeze_trunk = false"
    )
    lengths = ["--set", "segmentation_epochs=1", "--set", "separation_epochs=1", "--device", "cpu"]
    start = ["--start-from", str(tiny_weights)]
    assert main(["train", "--data", str(data), "--output", str(run), "--preset", str(preset), *start, *lengths]) == 0
    export(run, split_annotations(find_annotations(data), seed=1), ABOUT, weights, start_share=0.25)
    assert main(["report", str(run), "--model", str(weights)]) == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "the weights are those of the last epoch, 0.25 of those it started from" in page


def test_report_needs_the_weights_file_of_this_run(exported, wired_weights, capsys, tmp_path):
    run, _ = exported
    with pytest.raises(SystemExit):
        main(["report", str(run)])
    assert "required: --model" in capsys.readouterr().err
    assert main(["report", str(run), "--model", str(wired_weights), "--output", str(tmp_path / "r.html")]) == 1
    assert f"does not hold the weights of {run}" in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists()


def test_scores_are_those_of_the_weights_file(exported, capsys):
    """Whatever numbers the processor likes best; and if the labels have changed since, the page says so."""
    run, weights = exported
    assert main(["report", str(run), "--model", str(weights)]) == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert scores_table(read(weights)[0].metrics["test"]) in page
    assert "since the export" not in page
    (test_image,) = read_split(run)["test"]
    tifffile.imwrite(test_image.labels_path, np.eye(48, 52, dtype=np.uint16))
    assert main(["report", str(run), "--model", str(weights)]) == 0
    assert "since the export" in (run / "report.html").read_text(encoding="utf-8")


def judged(annotation, n_found):
    scores = Scores(n_true=4, n_predicted=4, matched_above_half=n_found)
    return Judged(annotation, annotation.read().labels, scores)


@pytest.mark.parametrize(("n", "shown"), [(2, [0, 1]), (6, [0, 1, 2, 3, 4, 5]), (8, [0, 1, 2, 7, 6, 5])])
def test_worst_and_best_images_are_shown(data, n, shown):
    annotations = (find_annotations(data) * 2)[:n]
    order = sorted((judged(a, found) for a, found in zip(annotations, range(n))), key=quality)
    page = images(order)
    assert [float(part.split(",")[0]) for part in page.split(" CDS ")[1:]] == [round(i / 4, 3) for i in shown]
    assert ("The worst" in page) == (n > 6)


def test_reader_is_warned_of_few_images_and_of_a_training_that_was_too_short(data):
    annotation = find_annotations(data)[0]
    row = {"stage": "segmentation", "cds": 0.5}
    rows = [{**row, "epoch": 1, "validation_loss": 0.5}, {**row, "epoch": 2, "validation_loss": 0.4}]
    few, many = [judged(annotation, 2)] * 2, [judged(annotation, 2)] * 9
    assert [note.split(":")[0] for note in notes(few, rows)] == [
        "Few test images (2)",
        "The last epoch of stage segmentation was its best one",
    ]
    assert notes(many, [rows[1], rows[0]]) == []
    assert notes(many, rows, is_last_kept=True) == []
    stages = [*rows, *({**row, "stage": "separation", "cds": row["epoch"] / 9} for row in rows)]
    assert [len(notes(many, stages, is_last_kept)) for is_last_kept in (False, True)] == [2, 1]


def test_reader_is_warned_of_test_images_that_earlier_weights_had_learned(data):
    images = find_annotations(data)[:3]
    learned = f"0123abcd {short_digest(images[1])}"
    assert learned_before(images, {}) == learned_before(images[:1], {"learned": learned}) == []
    (warning,) = learned_before(images, {"learned": learned})
    assert "had learned 1 of the 3 test images" in warning


def test_cells_of_tables_are_escaped():
    assert Page(table(["<a>"], [["<b>", "&c"]])).text == "<a><b>&c"
