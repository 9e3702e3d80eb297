"""From a run to a weights file: thresholds from the validation images, scores on the test images, the card."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepsplit_core.config import SplittingConfig
from deepsplit_core.images import with_replacement
from deepsplit_core.quantisation import is_statistic, observed
from deepsplit_core.sizes import typical_diameter
from deepsplit_core.weights import Card, Model, WeightsError, path_of, read, sha256_of, write

from ..data.annotations import Annotation, cell_diameters
from ..learning.config import TrainConfig
from ..learning.schedule import stages_of
from ..learning.validation import spread
from ..run.checkpoint import read_checkpoint
from ..run.history import has_converged, rows_of
from ..run.provenance import versions
from .evaluation import (
    as_table,
    by_folder,
    compare,
    folders_of,
    predict_all,
    reference_model,
)
from .tuning import doubt_of, score_sets, tune, tune_for_sizes_found

IMAGES_OBSERVED = 40  # of each data folder


def export(
    run: Path,
    parts: dict[str, list[Annotation]],
    about: dict[str, Any],
    output: Path,
    epoch: str = "",
    start_share: float = 0.0,
    start_thresholds: bool = False,
) -> Card:
    """Write the weights file of a finished run.

    Parameters
    ----------
    run : Path
        Folder with `checkpoint.pt`.
    parts : dict of list of Annotation
        The run's own division into "train", "validation" and "test".
    about : dict
        "name", "description", "data" and, if there are any, "known_failures" of the card.
    output : Path
        The weights file, ending in .safetensors.
    epoch : {"", "last", "best"}
        Whose weights are taken. Of itself the last one, if the learning rate fell to zero by then: the last ones differ
        little, and on few validation images it is chance which is best. Else the best one (`history.is_best`).
    start_share : float
        Mix that share, 0 to 1, of the weights that the run started from into its own (Wortsman et al. 2022,
        arXiv:2109.01903): what a short run on new images learned is kept for the most part, and less is forgotten.
    start_thresholds : bool
        Take thresholds and lengths of the weights that the run started from, in proportion to the cells, in place of
        choosing them: of few validation images, it may be chance which are best.
    """
    state = read_checkpoint(run / "checkpoint.pt")
    config = TrainConfig.from_dict(state["config"])
    stage = stages_of(config)[-1]
    if state["stage"] != stage.name:
        raise ValueError(f"{run} is not finished: its stage {stage.name!r} has not begun. Go on with it by --resume.")
    n_done = state["epoch"] + 1
    if n_done < stage.n_epochs and not has_converged(rows_of(state["history"], stage.name), config.patience):
        print(f"warning: {run} is not finished: {n_done} of {stage.n_epochs} epochs of {stage.name!r} are done.")
    path = run / "config.json"
    origin = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    has_settled = config.learning_rate_schedule == "cosine" and n_done == stage.n_epochs
    epoch = epoch or ("last" if has_settled else "best")
    tensors = state["network" if epoch == "last" else "best"]
    if start_share:
        tensors = mixed_with_start(tensors, config.start_from, origin.get("start_from_sha256", ""), start_share)
    n_passes = 2 if any(name.startswith("segmentation.") for name in tensors) else 1
    architecture = dataclasses.replace(config.network, passes=n_passes)
    of_training = [annotation.read().labels for annotation in parts["train"]]
    # Rounded as the file has it, so that thresholds and scores are of the model that the file holds.
    diameter = config.preprocessing.diameter or round(known_diameter(of_training), 1)
    median = config.preprocessing.diameter or float(np.median(cell_diameters(of_training)))
    draft = Card(about["name"], about["description"], architecture, config.preprocessing, SplittingConfig(), diameter)
    model = reference_model(run / "checkpoint.pt", draft, tensors)

    data_sets = [str(entry.get("name")) for entry in about["data"]]
    validation = with_cells(parts["validation"])
    if start_thresholds:
        start, _ = read_start(config.start_from, origin.get("start_from_sha256", ""))
        splitting = start.splitting.scaled(diameter / start.diameter)
    else:
        predicted = predict_all(model, validation, are_sizes_known=True)
        tolerance = doubt_of(predicted, data_sets)
        splitting, mean_ap = tune(predicted, median, data_sets, tolerance)
        print(f"Chosen on {len(validation)} validation images (mean AP {mean_ap:.3f}): {splitting}", flush=True)
        if config.preprocessing.diameter:
            splitting, mean_ap = tune_for_sizes_found(model, validation, splitting, data_sets, tolerance)
            print(f"With the sizes found (mean AP {mean_ap:.3f}): {splitting}", flush=True)
    model = model._replace(card=dataclasses.replace(draft, splitting=splitting))
    if start_thresholds:
        mean_ap = score_sets(predict_all(model, validation), splitting, data_sets)
        print(f"Kept from {config.start_from} (mean AP {mean_ap:.3f}): {splitting}", flush=True)
    comparison = compare(predict_all(model, parts["test"]), splitting)
    print(as_table(comparison), flush=True)
    if config.start_from:
        print(compare_start(config.start_from, origin.get("start_from_sha256", ""), parts["test"]), flush=True)
    card = dataclasses.replace(
        model.card,
        data=counted(about["data"], parts),
        known_failures=about.get("known_failures", ""),
        metrics={"test": comparison, "validation_mean_ap": round(mean_ap, 4)},
        training={
            "config": config.to_dict(),
            "start_from_sha256": origin.get("start_from_sha256", ""),
            "teacher_sha256": origin.get("teacher_sha256", ""),
            "images": {part: len(annotations) for part, annotations in parts.items()},
            "learned": origin.get("learned", ""),
            "stage": state["stage"],
            "epochs": n_done,
            "weights": f"of the {epoch} epoch" + (f", {start_share:g} of those it started from" if start_share else ""),
            "start_share": start_share,
            "start_thresholds": start_thresholds,
            "versions": versions(),
        },
    )
    sha256 = write(output, card, {**tensors, **activation_statistics(model, parts["train"])})
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB, sha256 {sha256}")
    with_replacement(output.with_suffix(".json"), lambda part: part.write_text(card.to_json(), encoding="utf-8"))
    return card


def compare_start(start_from: str, sha256: str, test: Sequence[Annotation]) -> str:
    """Tell what the weights that a run started from find on its test images, if they are still there."""
    try:
        is_there = sha256_of(start_from) == sha256
    except WeightsError:
        is_there = False
    if not is_there:
        return f"{start_from}, which it started from, is gone or another file now: what it finds is not told."
    path = path_of(start_from)
    model = reference_model(path, *read(path))
    table = as_table(compare(predict_all(model, test), model.card.splitting))
    return f"What {start_from}, which it started from, finds on the same images:\n{table}"


def with_cells(annotations: Sequence[Annotation]) -> list[Annotation]:
    """Leave out data sets without cells: thresholds are not chosen by them (`tuning.tune`)."""
    kept = []
    for images in by_folder(annotations).values():
        if any(image.read_labels().labels.any() for image in images):
            kept += images
    return kept


def known_diameter(labels: Sequence[np.ndarray]) -> float:
    """Return how large the cells of the training images (Y, X) are, in pixels, as `segment` sees it in an image.

    Where there are many small pieces beside large cells, their median diameter is far below.
    """
    return float(np.median([typical_diameter(image) for image in labels if image.any()]))


def read_start(start_from: str, sha256: str) -> tuple[Card, dict[str, Tensor]]:
    """Read the weights that the run started from, whose file has to be the same still."""
    if not start_from or sha256_of(start_from) != sha256:
        raise ValueError(
            "--start-share and --start-thresholds need the weights that the run started from, but "
            f"{start_from or 'it started from none'}{' is another file now' if start_from else ''}: put that file "
            "back, or export without these."
        )
    return read(path_of(start_from))


def mixed_with_start(tensors: dict[str, Tensor], start_from: str, sha256: str, share: float) -> dict[str, Tensor]:
    """Mix weights with a share of those that the run started from."""
    _, start = read_start(start_from, sha256)
    if not set(tensors) <= set(start):
        raise ValueError(f"{start_from} has not all weights of the run: without one_pass nothing can be mixed.")
    return {
        name: torch.lerp(tensor.float(), start[name].float(), share).to(tensor.dtype)
        for name, tensor in tensors.items()
    }


def activation_statistics(model: Model, annotations: Sequence[Annotation]) -> dict[str, Tensor]:
    """Return what `quantisation.quantise` has to know, from training images of every data folder.

    Parameters
    ----------
    model : Model
        In float32, not folded (`evaluation.reference_model`).
    annotations : sequence of Annotation
        Of each folder at most `IMAGES_OBSERVED` are taken, evenly.
    """
    with observed(model.network):
        for images in by_folder(annotations).values():
            predict_all(model, spread(images, IMAGES_OBSERVED))
    return {name: tensor for name, tensor in model.network.state_dict().items() if is_statistic(name)}


def read_about(path: Path) -> dict[str, Any]:
    """Read name, description, data sets and known failures of a card from a JSON file; the last need not be there."""
    if not path.is_file():
        raise ValueError(
            f"There is no file {path}: --about is a JSON file with name, description and data of the model. README.md "
            "shows one, under 'Train on your own cells'."
        )
    try:
        about = json.loads(path.read_text(encoding="utf-8-sig"))  # as Windows' editors may write it
    except ValueError as error:
        raise ValueError(f"{path} is no JSON file ({error}): mend it.") from error
    if not isinstance(about, dict):
        raise ValueError(f'{path} is no JSON object: expected {{"name": ..., "description": ..., "data": ...}}.')
    unknown = sorted(set(about) - {"name", "description", "data", "known_failures"})
    if unknown:
        raise ValueError(f"{path} has unknown entries {unknown}: a card knows name, description, data, known_failures.")
    missing = sorted({"name", "description", "data"} - set(about))
    if missing:
        raise ValueError(f"{path} lacks {missing}: a weights file says what it is and what it was trained on.")
    for key in ("name", "description", "known_failures"):
        if not isinstance(about.get(key, ""), str):
            raise ValueError(f"{path}: {key} is {about[key]!r}, but it must be a text.")
    if not about["name"].isprintable():
        raise ValueError(f"{path}: name is {about['name']!r}, but a card takes printable characters: type it anew.")
    data = about["data"]
    if not isinstance(data, list) or not data or not all(isinstance(entry, dict) for entry in data):
        raise ValueError(f"{path}: data is {data!r}, but it must be a list of JSON objects, one for each data set.")
    return about


def counted(data: Sequence[dict[str, Any]], parts: Mapping[str, Sequence[Annotation]]) -> list[dict[str, Any]]:
    """Add the number of images to the data sets that are named as folders of the run and do not tell it."""
    n_images = Counter(annotation.name.split("/")[0] for chosen in parts.values() for annotation in chosen)
    counts = [sum(n_images[folder] for folder in folders_of(str(entry.get("name")))) for entry in data]
    return [{**entry, "images": entry.get("images", n)} if n else entry for entry, n in zip(data, counts, strict=True)]


def doubts_about(data: Sequence[dict[str, Any]], parts: Mapping[str, Sequence[Annotation]]) -> list[str]:
    """Say which data folders of the run no data set is named after, and which data sets have no licence."""
    folders = sorted({annotation.name.split("/")[0] for chosen in parts.values() for annotation in chosen})
    unnamed = [folder for folder in folders if not any(folder in folders_of(str(entry.get("name"))) for entry in data)]
    doubts = [f"the run learned from {folder}, which no data set in it is named after" for folder in unnamed]
    return doubts + [f"its data set {entry.get('name')} has no licence" for entry in data if not entry.get("licence")]


def check_output(output: Path, about: Path) -> None:
    """Raise ValueError where the weights file and its card could not be written, before hours of choosing."""
    if output.suffix != ".safetensors" or not output.parent.is_dir():
        raise ValueError(f"--output is {output}, but it must be NAME.safetensors in a folder that exists.")
    card = output.with_suffix(".json")
    if card.exists() and card.samefile(about):
        raise ValueError(f"The card of {output} would be written over {about}: give another --output.")


def check_sources_stay(output: Path, run: Path) -> None:
    """Raise ValueError where weights would be written over those that the run started from or was taught by."""
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))["config"]
    for model in (config["start_from"], config["teacher"]):
        if output.exists() and Path(model).is_file() and output.samefile(model):
            raise ValueError(f"{run} learned from {output}, which would be overwritten: give another --output.")
