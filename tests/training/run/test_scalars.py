"""Curves for TensorBoard, where it is installed."""

import sys

import pytest

from deepsplit_core.metrics import Scores
from training.run.history import make_row
from training.run.scalars import open_scalars, write_scalars


def history(n):
    return [make_row("segmentation", i + 1, 1 / (i + 1), 0.5, Scores(), 1.0) for i in range(n)]


def test_missing_tensorboard_is_said_once_and_is_no_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with open_scalars(tmp_path, 0) as scalars:
        for n in (1, 2):
            write_scalars(scalars, history(n))
    (line,) = capsys.readouterr().out.splitlines()
    assert "pip install tensorboard" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_curves_are_written_and_a_resumed_run_replaces_what_a_killed_one_wrote(tmp_path, capsys):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for first, last in ((0, 3), (1, 2)):  # three epochs, killed in the checkpoint of the second
        with open_scalars(tmp_path, first) as scalars:
            for n in range(first + 1, last + 1):
                write_scalars(scalars, history(n))
    curves = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert {"segmentation/loss", "segmentation/cds"} <= set(curves.Tags()["scalars"])
    assert [(point.step, point.value) for point in curves.Scalars("segmentation/loss")] == [(1, 1.0), (2, 0.5)]
    assert "not installed" not in capsys.readouterr().out
