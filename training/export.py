"""From a run to a weights file: thresholds from the validation images, scores on the test images, the card."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepsplit_core.config import SplittingConfig
from deepsplit_core.weights import Card, Model, build_network, write

from .annotations import Annotation
from .checkpoint import read_checkpoint
from .config import TrainConfig
from .dataset import cell_diameters
from .evaluation import as_table, compare, predict_all, tune


def export(run: Path, parts: dict[str, list[Annotation]], about: dict[str, Any], output: Path) -> Card:
    """Write the weights file of a finished run.

    Parameters
    ----------
    run : Path
        Folder with `checkpoint.pt`.
    parts : dict of list of Annotation
        The run's own division into "train", "validation" and "test".
    about : dict
        "name", "description" and "data" of the card.
    output : Path
        The weights file, ending in .safetensors.
    """
    state = read_checkpoint(run / "checkpoint.pt")
    config = TrainConfig.from_dict(state["config"])
    if config.network.architecture != "unet" and state["stage"] != "separation":
        raise ValueError(f"{run} is not finished: its separation part is not trained. Go on with it by --resume.")
    diameter = float(np.median(cell_diameters([annotation.read().labels for annotation in parts["train"]])))
    draft = Card(about["name"], about["description"], config.network, config.preprocessing, SplittingConfig(), diameter)
    network = build_network(run / "checkpoint.pt", draft, state["best"]).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model = Model(network, draft, "", torch.device("cpu"), torch.float32)

    splitting, mean_ap = tune(predict_all(model, parts["validation"]), diameter)
    print(f"Chosen on {len(parts['validation'])} validation images (mean AP {mean_ap:.3f}): {splitting}", flush=True)
    comparison = compare(predict_all(model, parts["test"]), splitting)
    print(as_table(comparison), flush=True)
    card = Card(
        name=about["name"],
        description=about["description"],
        network=config.network,
        preprocessing=config.preprocessing,
        splitting=splitting,
        diameter=round(diameter, 1),
        data=about["data"],
        metrics={"test": comparison, "validation_mean_ap": round(mean_ap, 4)},
        training={
            "config": config.to_dict(),
            "images": {part: len(annotations) for part, annotations in parts.items()},
            "stage": state["stage"],
            "epoch": state["epoch"] + 1,
            "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        },
    )
    sha256 = write(output, card, state["best"])
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB, sha256 {sha256}")
    (output.with_suffix(".json")).write_text(card.to_json())
    return card


def read_about(path: Path) -> dict[str, Any]:
    """Read name, description and data sets of a card from a JSON file, and check that they are there."""
    about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    missing = sorted({"name", "description", "data"} - set(about))
    if missing:
        raise ValueError(f"{path} lacks {missing}: a weights file says what it is and what it was trained on.")
    return about
