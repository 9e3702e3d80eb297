"""The curves of a run as a picture."""

import io

import imageio.v2
import pytest

from deepsplit_core.metrics import Scores
from training.results.curves import best_epoch, draw_curves
from training.run.history import make_row


def rows_with(stage, losses):
    return [make_row(stage, n, 0.5, loss, Scores(1, 1), 1.0) for n, loss in enumerate(losses, start=1)]


@pytest.mark.parametrize(("losses", "kept"), [([0.5], 1), ([0.5, 0.3, 0.4], 2), ([0.3, 0.3], 1), ([0.3, 0.2], 2)])
def test_kept_epoch_is_the_first_of_the_best(losses, kept):
    assert best_epoch(rows_with("segmentation", losses)) == kept


def test_picture_has_a_column_for_each_stage():
    one, two = rows_with("segmentation", [0.5, 0.4]), rows_with("separation", [0.6])
    widths = [imageio.v2.imread(io.BytesIO(draw_curves(rows)), format="png").shape[1] for rows in (one, one + two)]
    assert widths[1] == 2 * widths[0]
    assert draw_curves(one) != draw_curves(rows_with("segmentation", [0.5, 0.1]))


def test_last_epoch_is_marked_where_it_was_kept(monkeypatch):
    """Of the last stage alone: it began with the best epoch of the one before."""
    lines = []
    monkeypatch.setattr("matplotlib.axes.Axes.axvline", lambda self, x, **_: lines.append(x))
    history = rows_with("segmentation", [0.3, 0.4, 0.5]) + rows_with("separation", [0.3, 0.4])
    draw_curves(history)
    draw_curves(history, is_last_kept=True)
    assert lines == [1, 1, 1, 1] + [1, 1, 2, 2]
