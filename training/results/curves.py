"""The curves of a run as one picture: losses above, scores on the validation images below, a column for each stage."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from typing import Any

from ..run.history import Row, is_best, rows_of

# (name in the history, name for people, colour)
LOSSES = (("loss", "training", "#0072b2"), ("validation_loss", "validation", "#d55e00"))
SCORES = (("dsc", "DSC", "#0072b2"), ("cds", "CDS", "#d55e00"), ("ap_0.5", "AP at IoU .5", "#009e73"))


def check_matplotlib() -> None:
    """Raise ValueError where it is not installed."""
    if not importlib.util.find_spec("matplotlib"):
        raise ValueError("The report's curves need matplotlib: python -m pip install matplotlib.")


def draw_curves(history: Sequence[Row], is_last_kept: bool = False) -> bytes:
    """Draw the history of a run; returns a PNG file.

    Parameters
    ----------
    history : sequence of dict
    is_last_kept : bool
        The weights file has the last epoch of the last stage, not its best one.
    """
    from matplotlib.figure import Figure

    stages = list(dict.fromkeys(row["stage"] for row in history))
    figure = Figure(figsize=(5.2 * len(stages), 5.6), dpi=150, layout="constrained")
    axes = figure.subplots(2, len(stages), squeeze=False, sharex="col", sharey="row")
    for column, stage in enumerate(stages):
        rows = rows_of(history, stage)
        kept = len(rows) if is_last_kept and stage == stages[-1] else best_epoch(rows)
        for axis, curves in zip(axes[:, column], (LOSSES, SCORES), strict=True):
            _draw(axis, rows, curves)
            axis.axvline(kept, color="#777777", linestyle="--", linewidth=1, label="epoch kept")
            axis.legend(fontsize=8)
        axes[0, column].set_title(f"Stage: {stage}")
        axes[1, column].set(xlabel="epoch", ylim=(0, 1.02))
    axes[0, 0].set_ylabel("loss")
    axes[1, 0].set_ylabel("score on validation images")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def best_epoch(rows: Sequence[Row]) -> int:
    """Return the number of the epoch with the best weights of a stage, from 1: the next stage begins with them."""
    return max(n for n in range(1, len(rows) + 1) if is_best(rows[:n]))


def _draw(axis: Any, rows: Sequence[Row], curves: Sequence[tuple[str, str, str]]) -> None:
    epochs = [row["epoch"] for row in rows]
    for name, label, colour in curves:
        axis.plot(epochs, [row[name] for row in rows], color=colour, label=label, marker="o", markersize=3)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(alpha=0.3)
