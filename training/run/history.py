"""What a run has done so far, one row an epoch. It travels in the checkpoint; `metrics.csv` is a copy for people."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepsplit_core.images import with_replacement
from deepsplit_core.metrics import Scores

Row = dict[str, Any]
COLUMNS = ("stage", "epoch", "loss", "validation_loss", "dsc", "cds", "ap_0.5", "seconds")


def rows_of(history: Sequence[Row], stage: str) -> list[Row]:
    """Return the rows of one stage."""
    return [row for row in history if row["stage"] == stage]


def make_row(stage: str, epoch: int, loss: float, validation_loss: float, scores: Scores, seconds: float) -> Row:
    """Return the row of an epoch: its number from 1, losses, and scores on the validation images."""
    values = (stage, epoch, loss, validation_loss, scores.dsc, scores.cds, scores.ap[0], seconds)
    return dict(zip(COLUMNS, values, strict=True))


def describe(row: Row, n_epochs: int) -> str:
    """Return a row as a line for people, with the longest time that its stage still takes."""
    left = row["seconds"] * (n_epochs - row["epoch"])
    return (
        f"{row['stage']} {row['epoch']}/{n_epochs}: loss {row['loss']:.4f}, validation {row['validation_loss']:.4f}, "
        f"DSC {row['dsc']:.3f}, CDS {row['cds']:.3f}, AP.5 {row['ap_0.5']:.3f}, {row['seconds']:.0f} s"
        + (f", {left / 60:.0f} min left" if left >= 60 else "")
    )


def is_best(history: Sequence[Row]) -> bool:
    """Say whether the last row is better than all before it of its stage; of equal ones the first is best.

    A stage that learns the separation is judged by the cells that come out: CDS, then the validation loss. In the
    segmentation stage touching cells are not apart yet, so that the CDS says little: the loss decides.
    """
    by_cells = history[-1]["stage"] != "segmentation"
    *earlier, last = (
        (row["cds"] if by_cells else 0, -row["validation_loss"]) for row in rows_of(history, history[-1]["stage"])
    )
    return all(last > row for row in earlier)


def has_converged(rows: Sequence[Row], patience: int) -> bool:
    """Say whether the last `patience` epochs of a stage brought no better validation loss; never where it is 0."""
    losses = [row["validation_loss"] for row in rows]
    return 0 < patience < len(losses) and min(losses[-patience:]) >= min(losses[:-patience])


def write_csv(path: Path, history: Sequence[Row]) -> None:
    """Write all rows anew, complete or not at all: a file that is added to would hold an epoch twice after a kill."""

    def write(part: Path) -> None:
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows({**row, "seconds": round(row["seconds"], 1)} for row in history)

    try:
        with_replacement(path, write)
    except OSError as error:
        if not isinstance(error.__cause__, PermissionError):  # Excel locks what it shows
            raise
        print(f"{path} is open in another program, and was not written: the next epoch tries again.", flush=True)
