"""`make bench`: all benchmarks one after the other, into benchmarks/latest.json and a table on the screen.

    .venv/bin/python -m benchmarks.run [PART ...]      parts: network postprocessing whole pipeline train_speed peers

Every part runs in a process of its own. Those that are not named keep their last figures, if these are of the
same machine.
"""

from __future__ import annotations

import datetime
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from deepsplit_core.images import with_replacement

from .timing import machine

ROOT = Path(__file__).parents[1]
LATEST = Path(__file__).parent / "latest.json"
PARTS = ("network", "postprocessing", "whole", "pipeline", "train_speed", "peers")


def main(chosen: list[str]) -> None:
    """Run the parts, write the file, print the tables."""
    unknown = sorted(set(chosen) - set(PARTS))
    if unknown:
        sys.exit(f"There is no benchmark {', '.join(unknown)}: choose of {', '.join(PARTS)}.")
    figures: dict[str, Any] = json.loads(LATEST.read_text()) if LATEST.exists() and chosen else {}
    if figures.get("machine") != machine():
        figures = {}  # ratios of two machines are none
    for part in chosen or PARTS:
        print(f"{part} ...", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", f"benchmarks.{part}"]
        printed = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, env=pinned()).stdout
        figures[part] = json.loads(printed)
        figures["measured"] = {**figures.get("measured", {}), part: f"{datetime.date.today():%Y-%m-%d}"}
        figures["machine"], figures["ratios"] = machine(), ratios(figures)
        with_replacement(LATEST, lambda beside: beside.write_text(json.dumps(figures, indent=1) + "\n"))
    print(tables(figures))


def pinned() -> dict[str, str]:
    """Return the environment of a part: as many threads as cores, for all libraries."""
    n_threads = str(os.cpu_count())
    return {**os.environ, "OMP_NUM_THREADS": n_threads, "MKL_NUM_THREADS": n_threads, "TF_CPP_MIN_LOG_LEVEL": "3"}


def ratios(figures: dict[str, Any]) -> dict[str, float]:
    """Return what is compared within one run; a part that has not run gives none."""
    found = {}
    for row in figures.get("network", []):
        if row["device"] == "cpu" and row["size"] == 512:
            found[f"network_w{row['width']}_of_matmul"] = row["of_matmul"]
            found[f"speedup_over_naive_w{row['width']}"] = row["times_naive"]
    for row in figures.get("whole", []):
        if row["side"] == 1024:
            found["postprocess_share"] = row["splitting_share"]
    if "peers" in figures:
        seconds = figures["peers"]
        ours = [name for name in seconds if name.startswith("deepsplit")]  # and in floats
        for peer, name in itertools.product(("cellpose", "stardist"), ours):
            found[f"times_faster_than_{peer}{name.removeprefix('deepsplit')}"] = seconds[peer] / seconds[name]
    if "pipeline" in figures:
        found["module_without_network_share"] = figures["pipeline"]["module_without_network_share"]
    if "train_speed" in figures:
        found["training_of_plain_loop"] = figures["train_speed"]["ratio"]
        found["training_share_of_waiting"] = figures["train_speed"]["share_of_waiting"]
    return found


def tables(figures: dict[str, Any]) -> str:
    """Return all figures as Markdown."""
    parts = [f"## {part}\n\n{_table(figures[part])}" for part in ("ratios", *PARTS, "machine") if part in figures]
    return "\n\n".join(parts)


def _table(figures: Any) -> str:
    if isinstance(figures, dict):
        return "\n".join(["| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in figures.items())])
    names = list(figures[0])
    rows = [" | ".join(_cell(row[name]) for name in names) for row in figures]
    return "\n".join([f"| {' | '.join(names)} |", "|---" * len(names) + "|", *(f"| {row} |" for row in rows)])


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


if __name__ == "__main__":
    main(sys.argv[1:])
