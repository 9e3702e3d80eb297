"""``python -m training reproduce``: every system of the paper's Tables 1 and 2 on open images (paper, section 4).

Each finished system leaves one small file of results, of which `reproduction_page` makes the page.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from deepsplit_core.architectures import UNet, build
from deepsplit_core.config import SplittingConfig
from deepsplit_core.devices import choose_device, choose_dtype, describe
from deepsplit_core.images import with_replacement
from deepsplit_core.inference import resize
from deepsplit_core.metrics import Scores
from deepsplit_core.weights import Card, Model

from .annotations import Annotated, Annotation, split_annotations
from .checkpoint import read_checkpoint
from .checks import checked_annotations
from .config import TrainConfig
from .dataset import Sample, cell_diameters, load_samples
from .evaluation import Predicted, predict_all, score, tune
from .history import Row, read_csv
from .loop import train
from .provenance import check_same_data, fingerprint, versions, write_provenance
from .reproduction_page import read_results, write_page
from .stopping import unstoppable
from .systems import SYSTEMS, System

Parts = dict[str, list[Annotation]]


@dataclass(frozen=True)
class Resized(Annotation):
    """An annotated image that is brought to `side` x `side` pixels when it is read."""

    side: int = 512  # the paper's images (3.1)

    def read(self) -> Annotated:
        """Read all parts: the image is resampled linearly, labels and ignored pixels are those of the nearest pixel."""
        image, labels, ignore = super().read()
        y, x = (((np.arange(self.side) + 0.5) * n / self.side).astype(int) for n in image.shape)
        nearest = np.ix_(y, x)
        return Annotated(resize(image.astype(np.float32), (self.side, self.side)), labels[nearest], ignore[nearest])


def one_division(annotations: Sequence[Annotation], seed: int) -> list[Parts]:
    """Divide the images once, 80 to 10 to 10 % (paper, 3.1)."""
    return [split_annotations(annotations, seed)]


def leave_two_out(annotations: Sequence[Annotation], seed: int) -> list[Parts]:
    """Divide few images several times: each is a test image once, two at a time, and one of the others validates."""
    if len(annotations) < 4:
        raise ValueError(f"{len(annotations)} annotated images: 4 are the least where two at a time are tested.")
    order = np.random.default_rng(seed).permutation(len(annotations))
    divisions = []
    for start in range(0, len(order), 2):
        others = np.concatenate([order[start + 2 :], order[:start]])
        numbers = {"train": others[1:], "validation": others[:1], "test": order[start : start + 2]}
        divisions.append({part: [annotations[i] for i in sorted(chosen)] for part, chosen in numbers.items()})
    return divisions


DIVISIONS: dict[str, Callable[[Sequence[Annotation], int], list[Parts]]] = {
    "usiigaci": one_division,
    "endothelium": leave_two_out,
}


@dataclass(frozen=True)
class Grid:
    """What is reproduced, and where.

    Parameters
    ----------
    data : Path
        Folder with a folder of annotated images for each set.
    output : Path
        Folder for `results/` and `runs/`.
    page : Path
        The Markdown page.
    config : TrainConfig
        Of all systems; architecture, schedule and seed are theirs.
    sets, systems : sequence of str
        Of `systems.SETS` and `systems.SYSTEMS`.
    n_seeds : int
    side : int
        Images are brought to so many pixels a side.
    device : str
        See `devices.choose_device`.
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
    device: str
    arguments: Sequence[str]


class Fold(NamedTuple):
    """One division of a set's images, and what all systems are trained with on it."""

    runs: Path
    config: TrainConfig
    parts: Parts
    training: list[Sample]
    validation: list[Sample]


def reproduce(grid: Grid) -> None:
    """Train and measure whatever has no results yet, seed after seed; the page is written after each system.

    Raises
    ------
    ValueError
        The settings give the systems unequal budgets, or the output folder holds results of other settings or images.
    """
    check_grid(grid)
    annotations = {name: resized(checked_annotations(grid.data / name), grid.side) for name in grid.sets}
    origins = {name: {"side": grid.side, "sha256": fingerprint(annotations[name])} for name in grid.sets}
    results = grid.output / "results"
    results.mkdir(parents=True, exist_ok=True)
    check_results(results, grid.config, origins)
    write_page(grid.page, results, grid.n_seeds)
    for seed, name in itertools.product(range(grid.n_seeds), grid.sets):
        config = dataclasses.replace(grid.config, seed=seed)
        divisions = DIVISIONS[name](annotations[name], seed)
        for number, parts in enumerate(divisions):
            paths = {system: results / f"{name}-{seed}-{number}-{system}.json" for system in grid.systems}
            missing = [system for system, path in paths.items() if not path.exists()]
            if not missing:
                continue
            training, validation = (load_samples(parts[part], config) for part in ("train", "validation"))
            fold = Fold(grid.output / "runs" / f"{name}-{seed}-{number}", config, parts, training, validation)
            where = {"set": name, "seed": seed, "fold": number, "n_folds": len(divisions), "data": origins[name]}
            for system in missing:
                print(f"{name}, seed {seed}, fold {number + 1} of {len(divisions)}: {system}", flush=True)
                write_result(paths[system], {**where, **run_system(SYSTEMS[system], fold, grid)})
                write_page(grid.page, results, grid.n_seeds)


def run_system(system: System, fold: Fold, grid: Grid) -> dict[str, Any]:
    """Train and measure one system; returns what its file of results holds, beside where it belongs."""
    device = choose_device(grid.device)
    measured = measure(*train_system(system, fold, grid), fold)
    return {
        "system": system.name,
        **measured,
        "config": grid.config.to_dict(),
        "versions": versions(),
        "device": describe(device, choose_dtype(device)),
    }


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write the results of a system as JSON, complete or not at all."""
    with_replacement(path, lambda part: part.write_text(json.dumps(result, indent=1), encoding="utf-8"))


def check_grid(grid: Grid) -> None:
    """Raise ValueError where the rows would not have one budget, or stage 1 could not be shared."""
    if grid.n_seeds < 1:
        raise ValueError(f"--seeds is {grid.n_seeds}, but it must be at least 1.")
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
        if saved != config:
            raise ValueError(f"{path} was made with other settings ({saved}): give the same, or another --output.")
        if result["data"] != origins[result["set"]]:
            raise ValueError(
                f"{path} was made with other images ({result['data']}, now {origins[result['set']]}): put them back "
                "as they were, or give another --output."
            )


def resized(annotations: Sequence[Annotation], side: int) -> list[Annotation]:
    """Return the annotations, to be read at `side` x `side` pixels."""
    return [Resized(**vars(annotation), side=side) for annotation in annotations]


def train_system(system: System, fold: Fold, grid: Grid) -> tuple[list[UNet], list[Row]]:
    """Train a system, or go on with it, or read it if it is finished; all have the same number of steps.

    The paper's stage 1 is a U-Net (4.1): it is trained once, and every system but the simultaneous ones goes on from
    it. The U-Net does so with further steps of stage 1.

    Returns
    -------
    networks : list of UNet
        One, or one for segmentation and one whose output is the separation.
    history : list of dict
        The rows of all its epochs, those of the shared stage 1 among them.
    """
    network = dataclasses.replace(fold.config.network, architecture=system.architecture)
    config = dataclasses.replace(fold.config, network=network, schedule=system.schedule)
    if system.schedule == "simultaneous":
        return train_run(system.name, config, fold, grid)
    plain = dataclasses.replace(config, network=dataclasses.replace(network, architecture="unet"))
    networks, history = train_run("stage-1", plain, fold, grid)
    if system.name == "two-unets":
        second = dataclasses.replace(plain, segmentation_epochs=plain.separation_epochs)
        more, rows = train_run("separation-unet", second, for_separation(fold), grid)
        return networks + more, history + [{**row, "stage": "separation"} for row in rows]
    if system.name == "unet":
        n_epochs = plain.segmentation_epochs + plain.separation_epochs
        config = dataclasses.replace(plain, segmentation_epochs=n_epochs)
    return train_run(system.name, config, fold, grid, begun="stage-1")


def for_separation(fold: Fold) -> Fold:
    """Exchange the targets and weights of the two tasks, so that a U-Net learns the separation as its only task."""
    training, validation = (
        [sample._replace(targets=sample.targets[[1, 0, 3, 2]]) for sample in samples]
        for samples in (fold.training, fold.validation)
    )
    return fold._replace(training=training, validation=validation)


def train_run(name: str, config: TrainConfig, fold: Fold, grid: Grid, begun: str = "") -> tuple[list[UNet], list[Row]]:
    """Train one network in its run folder, from the start or from where it stopped.

    Parameters
    ----------
    name : str
        Of the run's folder.
    config : TrainConfig
    fold : Fold
    grid : Grid
    begun : str
        Name of a finished run of the fold, of stage 1 alone, that this one goes on from.
    """
    run = fold.runs / name
    is_begun = (run / "checkpoint.pt").exists()
    if is_begun:
        check_same_data(run / "config.json", fold.parts)
    else:
        run.mkdir(parents=True, exist_ok=True)
        write_provenance(run / "config.json", config, fold.parts, grid.arguments, choose_device(grid.device))
        if begun:
            take_over(fold.runs / begun / "checkpoint.pt", run / "checkpoint.pt", config)
    resume = is_begun or bool(begun)
    network = train(fold.training, fold.validation, config, run, resume, grid.device)
    return [network], read_csv(run / "metrics.csv")


def take_over(finished: Path, checkpoint: Path, config: TrainConfig) -> None:
    """Write the checkpoint of a run that has done stage 1 as the finished one of a U-Net did, to the last bit.

    What the U-Net does not have, a separation part, gets the random weights of the run's seed.
    """
    state = read_checkpoint(finished)
    torch.manual_seed(config.seed)
    random = build(config.network).state_dict()
    for part in ("network", "best"):
        state[part] = {**random, **state[part]}
    state["config"] = config.to_dict()
    with unstoppable():
        with_replacement(checkpoint, lambda part: torch.save(state, part))


def measure(networks: Sequence[UNet], history: Sequence[Row], fold: Fold) -> dict[str, Any]:
    """Choose thresholds and lengths on the validation images, and count on the test images with them."""
    diameter = float(np.median(cell_diameters([sample.labels for sample in fold.training])))
    splitting, mean_ap = tune(predict(networks, fold.parts["validation"], fold.config), diameter)
    counts = count(predict(networks, fold.parts["test"], fold.config), splitting)
    n_epochs = Counter(row["stage"] for row in history)
    return {
        "counts": {step: dataclasses.asdict(scores) for step, scores in counts.items()},
        "steps": {stage: n * fold.config.epoch_steps for stage, n in n_epochs.items()},
        "seconds": round(sum(row["seconds"] for row in history), 1),
        "splitting": splitting.to_dict(),
        "validation_mean_ap": round(mean_ap, 4),
        "images": {part: [annotation.name for annotation in chosen] for part, chosen in fold.parts.items()},
    }


def predict(networks: Sequence[UNet], annotations: Sequence[Annotation], config: TrainConfig) -> list[Predicted]:
    """Run a system's networks, in float32 on the processor as `export` does: one, or one for each task."""
    card = Card("", "", config.network, config.preprocessing, SplittingConfig(), 0.0)
    predicted = [
        predict_all(Model(network.cpu(), card, "", torch.device("cpu"), torch.float32), annotations)
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
    cleaned = dataclasses.replace(splitting, watershed=False)
    intersected = dataclasses.replace(cleaned, smallest_cell=0.0, largest_hole=0.0, contact_to_cells=False)
    settings = {"intersected": intersected, "cleaned": cleaned, "post-processed": splitting}
    return {step: score(predicted, setting) for step, setting in settings.items()}
