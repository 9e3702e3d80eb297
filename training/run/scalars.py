"""The curves of a run for TensorBoard, where it is installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .history import COLUMNS, Row


@contextmanager
def open_scalars(run: Path, n_epochs: int) -> Iterator[Any]:
    """Open `tensorboard/` of a run folder for writing; None, and a sentence, where TensorBoard is not installed.

    Parameters
    ----------
    run : Path
    n_epochs : int
        Epochs that the run has already: what a killed run wrote of later ones is not shown.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        print("No curves for TensorBoard: it is not installed (python -m pip install tensorboard).", flush=True)
        yield None
        return
    writer = SummaryWriter(str(run / "tensorboard"), purge_step=n_epochs + 1)
    try:
        yield writer
    finally:
        writer.close()


def write_scalars(writer: Any, history: list[Row]) -> None:
    """Write the last epoch, at its number in the whole run; curves of the stages are named apart."""
    if writer is None:
        return
    row = history[-1]
    for name in COLUMNS[2:]:
        writer.add_scalar(f"{row['stage']}/{name}", row[name], len(history))
    writer.flush()
