"""The rows of a run: which is best, and the copy for people."""

import csv

import pytest

from training.history import COLUMNS, is_best, rows_of, write_csv


def row(stage, epoch, validation_loss):
    return {"stage": stage, "epoch": epoch, "loss": 0.1, "validation_loss": validation_loss, "seconds": 1.26}


@pytest.mark.parametrize(
    ("losses", "expected"),
    [([0.5], True), ([0.5, 0.4], True), ([0.5, 0.6], False), ([0.5, 0.5], False), ([0.3, 0.5, 0.4], False)],
)
def test_first_of_the_least_losses_is_best(losses, expected):
    assert is_best([row("segmentation", i, loss) for i, loss in enumerate(losses)]) == expected


def test_stages_do_not_compete():
    history = [row("segmentation", 1, 0.1), row("separation", 1, 0.9)]
    assert is_best(history)
    assert rows_of(history, "separation") == history[1:]


def test_csv_is_written_anew(tmp_path):
    history = [row("segmentation", 1, 1 / 3)]
    write_csv(tmp_path / "metrics.csv", history)
    write_csv(tmp_path / "metrics.csv", [*history, row("segmentation", 2, 0.25)])
    with (tmp_path / "metrics.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert tuple(first) == COLUMNS
    assert float(first["validation_loss"]) == 1 / 3
    assert (first["seconds"], second["epoch"]) == ("1.3", "2")
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]
