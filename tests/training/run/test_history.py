"""The rows of a run: which is best, when a stage has converged, and the copy for people."""

import csv

import pytest

from deepsplit_core.metrics import Scores
from training.run.history import COLUMNS, describe, has_converged, is_best, make_row, rows_of, write_csv


def row(stage, epoch, validation_loss, n_found=1):
    scores = Scores(4, 4, (n_found,) * 5, n_found, common_pixels=3, true_pixels=4, predicted_pixels=4)
    return make_row(stage, epoch, 0.1, validation_loss, scores, 1.26)


@pytest.mark.parametrize(
    ("losses", "expected"),
    [([0.5], True), ([0.5, 0.4], True), ([0.5, 0.6], False), ([0.5, 0.5], False), ([0.3, 0.5, 0.4], False)],
)
def test_first_of_the_least_losses_is_best(losses, expected):
    assert is_best([row("segmentation", i, loss) for i, loss in enumerate(losses)]) == expected


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        ([(0.5, 1), (0.9, 2)], True),
        ([(0.5, 2), (0.1, 1)], False),
        ([(0.5, 2), (0.4, 2)], True),  # as many cells, lower loss
        ([(0.5, 2), (0.5, 2)], False),
        ([(0.5, 3), (0.6, 1), (0.1, 2)], False),
    ],
)
@pytest.mark.parametrize("stage", ["separation", "both"])
def test_cells_decide_where_the_separation_is_learned(stage, epochs, expected):
    assert is_best([row(stage, i, *values) for i, values in enumerate(epochs)]) == expected


def test_stage_1_does_not_look_at_the_cells():
    assert is_best([row("segmentation", 1, 0.5, n_found=4), row("segmentation", 2, 0.4, n_found=0)])


def test_row_holds_the_scores_under_their_names():
    assert {k: v for k, v in row("both", 3, 0.2, 2).items() if k in ("epoch", "dsc", "cds", "ap_0.5")} == {
        "epoch": 3,
        "dsc": 0.75,
        "cds": 0.5,
        "ap_0.5": 1 / 3,
    }


def test_line_says_how_long_the_stage_takes_at_most():
    line = describe({**row("both", 3, 0.25), "seconds": 90.0}, n_epochs=5)
    assert line == "both 3/5: loss 0.1000, validation 0.2500, DSC 0.750, CDS 0.250, AP.5 0.143, 90 s, 3 min left"
    assert "left" not in describe(row("both", 5, 0.25), n_epochs=5)


def test_stages_do_not_compete():
    history = [row("segmentation", 1, 0.1), row("separation", 1, 0.9)]
    assert is_best(history)
    assert rows_of(history, "separation") == history[1:]


def test_csv_is_written_anew(tmp_path):
    rows = [row("segmentation", 1, 1 / 3)]
    write_csv(tmp_path / "metrics.csv", rows)
    write_csv(tmp_path / "metrics.csv", [*rows, row("segmentation", 2, 0.25)])
    with (tmp_path / "metrics.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert tuple(first) == COLUMNS == ("stage", "epoch", "loss", "validation_loss", "dsc", "cds", "ap_0.5", "seconds")
    assert float(first["validation_loss"]) == 1 / 3
    assert (first["seconds"], second["epoch"]) == ("1.3", "2")
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_a_csv_that_another_program_locks_does_not_end_the_run(tmp_path, capsys, monkeypatch):
    def locked(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.replace", locked)
    write_csv(tmp_path / "metrics.csv", [row("segmentation", 1, 0.5)])
    assert "metrics.csv is open in another program" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_csv_without_room_ends_the_run(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="could not be written .No space left"):
        write_csv(tmp_path / "metrics.csv", [row("segmentation", 1, 0.5)])


@pytest.mark.parametrize(
    ("losses", "patience", "expected"),
    [
        ([3, 2, 1], 1, False),
        ([3, 2, 2], 1, True),  # as good is not better
        ([3, 1, 2], 2, False),  # one epoch since the best
        ([3, 1, 2, 1.5], 2, True),
        ([3, 1, 2, 0.5], 2, False),
        ([3], 1, False),
        ([1, 2], 2, False),
        ([1, 2, 3], 0, False),  # switched off
        ([], 1, False),
    ],
)
def test_convergence_is_no_better_validation_loss_for_some_epochs(losses, patience, expected):
    assert has_converged([{"validation_loss": loss} for loss in losses], patience) == expected
