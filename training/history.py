"""What a run has done so far, one row an epoch. It travels in the checkpoint; `metrics.csv` is a copy for people."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepsplit_core.images import with_replacement

Row = dict[str, Any]
COLUMNS = ("stage", "epoch", "loss", "validation_loss", "seconds")


def rows_of(history: Sequence[Row], stage: str) -> list[Row]:
    """Return the rows of one stage."""
    return [row for row in history if row["stage"] == stage]


def is_best(history: Sequence[Row]) -> bool:
    """Say whether the last row is better than all before it of its stage; of equal ones the first is best."""
    *earlier, last = (row["validation_loss"] for row in rows_of(history, history[-1]["stage"]))
    return all(last < row for row in earlier)


def write_csv(path: Path, history: Sequence[Row]) -> None:
    """Write all rows anew, complete or not at all: a file that is added to would hold an epoch twice after a kill."""

    def write(part: Path) -> None:
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows({**row, "seconds": round(row["seconds"], 1)} for row in history)

    with_replacement(path, write)
