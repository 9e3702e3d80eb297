"""``python -m training reproduce``: every system of the paper's Tables 1 and 2 on open images (paper, section 4).

Each finished system leaves one small file of results, of which `page` makes the page.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepsplit_core.architectures import UNet
from deepsplit_core.config import SplittingConfig
from deepsplit_core.devices import choose_dtype, describe
from deepsplit_core.images import with_replacement
from deepsplit_core.metrics import Scores
from deepsplit_core.weights import Card, Model

from ..data.annotations import cell_diameters
from ..data.checks import checked_annotations
from ..learning.config import TrainConfig, differences
from ..learning.dataset import load_samples
from ..results.evaluation import Predicted, predict_all, score
from ..results.tuning import tune
from ..run.history import Row
from ..run.provenance import sha256_of_images, versions
from .folds import DIVISIONS, resized
from .page import read_results, write_page
from .shared_stage import Fold, train_system
from .systems import SYSTEMS


@dataclass(frozen=True)
class Grid:
    """What is reproduced, and where.

    Parameters
    ----------
    data : Path
        Folder with a folder of annotated images for each set.
    output : Path
        Folder for the runs.
    page : Path
        The Markdown page. The files of results lie in a folder of its name beside it: they are small, and who has them
        and not the runs can go on with another seed.
    config : TrainConfig
        Of all systems; architecture, schedule and seed are theirs.
    sets, systems : sequence of str
        Of `systems.SETS` and `systems.SYSTEMS`.
    n_seeds : int
    side : int
        Images are brought to so many pixels a side.
    device : torch.device
    arguments : sequence of str
        Of the command, for `config.json` of each run.
    """

    data: Path
    output: Path
    page: Path
    config: TrainConfig
    sets: Sequence[str]
    systems: Sequence[str]
    n_seeds: int
    side: int
    device: torch.device
    arguments: Sequence[str]


def reproduce(grid: Grid) -> None:
    """Train and measure whatever has no results yet, seed after seed; the page is written after each system.

    Raises
    ------
    ValueError
        The settings give the systems unequal budgets, or the page has results of other settings or images.
    """
    check_grid(grid)
    annotations = {name: resized(checked_annotations(grid.data / name), grid.side) for name in grid.sets}
    origins = {name: {"side": grid.side, "sha256": sha256_of_images(annotations[name])} for name in grid.sets}
    results = grid.page.with_suffix("")
    results.mkdir(parents=True, exist_ok=True)
    check_results(results, grid.config, origins)
    write_page(grid.page, results, grid.n_seeds)
    is_complete = True
    for seed, name in itertools.product(range(grid.n_seeds), grid.sets):
        config = dataclasses.replace(grid.config, seed=seed)
        divisions = DIVISIONS[name](annotations[name], seed)
        for number, parts in enumerate(divisions):
            paths = {system: results / f"{name}-{seed}-{number}-{system}.json" for system in grid.systems}
            missing = [system for system, path in paths.items() if not path.exists()]
            if not missing:
                continue
            is_complete = False
            training, validation = (load_samples(parts[part], config) for part in ("train", "validation"))
            runs = grid.output / "runs" / f"{name}-{seed}-{number}"
            fold = Fold(runs, config, parts, training, validation, grid.device, grid.arguments)
            where = {"set": name, "seed": seed, "fold": number, "n_folds": len(divisions), "data": origins[name]}
            for system in missing:
                print(f"{name}, seed {seed}, fold {number + 1} of {len(divisions)}: {system}", flush=True)
                write_result(paths[system], {**where, "system": system, **run_system(system, fold)})
                write_page(grid.page, results, grid.n_seeds)
    if is_complete:
        print(f"Nothing is left to train: {results} has all results. To train again, give another --page.", flush=True)


def run_system(name: str, fold: Fold) -> dict[str, Any]:
    """Train and measure one system; returns what its file of results holds, beside where it belongs."""
    return {
        **measure(*train_system(SYSTEMS[name], fold), fold),
        "config": fold.config.to_dict(),
        "versions": versions(),
        "device": describe(fold.device, choose_dtype(fold.device)),
    }


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write the results of a system as JSON, complete or not at all."""
    with_replacement(path, lambda part: part.write_text(json.dumps(result, indent=1), encoding="utf-8"))


def check_grid(grid: Grid) -> None:
    """Raise ValueError where the rows would not have one budget, or stage 1 could not be shared."""
    for option, number in {"--seeds": grid.n_seeds, "--side": grid.side}.items():
        if number < 1:
            raise ValueError(f"{option} is {number}, but it must be at least 1.")
    if not grid.page.suffix:
        raise ValueError(f"--page is {grid.page}, but it must be NAME.md: the folder NAME beside it holds the results.")
    if grid.config.picture:
        raise ValueError("picture is set, but the folds are made image by image: leave it out.")
    sizes = grid.config.preprocessing
    if sizes.shrink != 1 or sizes.diameter != 0:
        raise ValueError(
            f"preprocessing.shrink is {sizes.shrink:g} and preprocessing.diameter {sizes.diameter:g}, but they must be "
            "1 and 0: all images are brought to one size by --side."
        )
    if grid.config.learning_rate_schedule != "constant" or grid.config.patience:
        raise ValueError(
            f"learning_rate_schedule is {grid.config.learning_rate_schedule!r} and patience {grid.config.patience}, "
            "but they must be 'constant' and 0: all systems go on from one stage 1, and have equally many steps."
        )


def check_results(results: Path, config: TrainConfig, origins: dict[str, dict[str, Any]]) -> None:
    """Raise ValueError where results were made with other settings or images, so that no table mixes them."""
    for path, result in read_results(results).items():
        if result["set"] not in origins:
            continue
        saved = TrainConfig.from_dict(result["config"])
        if differ := differences(saved, dataclasses.replace(config, seed=result["seed"])):
            raise ValueError(f"{path} was made with other settings ({differ}): give the same, or another --page.")
        if result["data"] != origins[result["set"]]:
            raise ValueError(
                f"{path} was made with other images ({result['data']}, now {origins[result['set']]}): put them back "
                "as they were, or give another --page."
            )


def measure(networks: Sequence[UNet], history: Sequence[Row], fold: Fold) -> dict[str, Any]:
    """Choose thresholds and lengths on the validation images, and count on the test images with them."""
    diameter = float(np.median(cell_diameters([sample.labels for sample in fold.training])))
    splitting, mean_ap = tune(predict(networks, fold, "validation"), diameter)
    counts = count(predict(networks, fold, "test"), splitting)
    n_epochs = Counter(row["stage"] for row in history)
    return {
        "counts": {step: dataclasses.asdict(scores) for step, scores in counts.items()},
        "steps": {stage: n * fold.config.epoch_steps for stage, n in n_epochs.items()},
        "seconds": round(sum(row["seconds"] for row in history), 1),
        "splitting": splitting.to_dict(),
        "validation_mean_ap": round(mean_ap, 4),
        "images": {part: [annotation.name for annotation in chosen] for part, chosen in fold.parts.items()},
    }


def predict(networks: Sequence[UNet], fold: Fold, part: str) -> list[Predicted]:
    """Run a system's networks, one or one for each task, in float32 over a part of the fold's images."""
    card = Card("", "", fold.config.network, fold.config.preprocessing, SplittingConfig(), 0.0)
    predicted = [
        predict_all(Model(network.to(fold.device), card, "", fold.device, torch.float32), fold.parts[part])
        for network in networks
    ]
    if len(networks) == 1:
        return predicted[0]
    return [
        one._replace(probabilities=np.stack([one.probabilities[0], other.probabilities[0]]))
        for one, other in zip(*predicted, strict=True)
    ]


def count(predicted: Sequence[Predicted], splitting: SplittingConfig) -> dict[str, Scores]:
    """Count after each step of the paper: intersection (4.1), holes and small segments, watershed (3.2)."""
    splitting = dataclasses.replace(splitting, smallest_share=1.0)  # the paper knows one size alone
    cleaned = dataclasses.replace(splitting, watershed=False)
    intersected = dataclasses.replace(cleaned, smallest_cell=0.0, largest_hole=0.0, contact_to_cells=False)
    settings = {"intersected": intersected, "cleaned": cleaned, "post-processed": splitting}
    return {step: score(predicted, setting) for step, setting in settings.items()}
