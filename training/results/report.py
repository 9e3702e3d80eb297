"""``python -m training report``: one HTML page from which a biologist can judge whether to trust a model."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import imageio.v2
import numpy as np
import torch

from deepsplit_core.config import SplittingConfig
from deepsplit_core.images import with_replacement
from deepsplit_core.metrics import Scores, evaluate
from deepsplit_core.quantisation import is_statistic
from deepsplit_core.weights import Card, Model, read, sha256_of

from ..data.annotations import Annotation
from ..data.copies import short_digest
from ..learning.config import flat
from ..run.checkpoint import read_checkpoint
from ..run.history import Row, rows_of
from .curves import best_epoch, check_matplotlib, draw_curves
from .evaluation import Predicted, compare, predict_all, reference_model, score_cells
from .export import mixed_with_start
from .overlays import COLOURS, CUT_COLOUR, IGNORED_COLOUR, IN_PIECES, MERGED, RIGHT, WRONG, draw

TEMPLATE = Path(__file__).with_name("report.html")
N_SHOWN = 3  # of the worst images, and of the best
FEW = 5
TITLES = ("DSC", "CDS", "AP .5", "AP .6", "AP .7", "AP .8", "AP .9", "merges", "splits", "cells", "found")
MEANINGS = {
    "segmentation_threshold": "a pixel is cell from this probability on",
    "separation_threshold": "a pixel of a cell is contact between two cells from this probability on",
    "smallest_cell": "smaller cells are dropped, square pixels",
    "smallest_share": "but none with at least this share of the area of the image's typical cell",
    "largest_hole": "holes in a cell up to this size are filled, square pixels",
    "watershed": "what is still merged is cut along short borders",
    "longest_cut": "borders up to this length are cut, pixels",
    "neck": "a cut is at most this share of the width of the narrower piece",
    "seed_distance": "middles of cells are at least this far apart, pixels",
    "contact_to_cells": "contact pixels are given back to the cells beside them",
}


class Judged(NamedTuple):
    """A test image, the cells found (Y, X), and its scores."""

    annotation: Annotation
    found: np.ndarray
    scores: Scores


def write_report(run: Path, parts: Mapping[str, list[Annotation]], weights: Path, output: Path) -> None:
    """Write the page, complete or not at all; everything that it shows is in the one file.

    Parameters
    ----------
    run : Path
        Folder of the run.
    parts : dict of list of Annotation
        The run's own division into "train", "validation" and "test".
    weights : Path
        The weights file that was exported from this run.
    output : Path
        The page, ending in .html.

    Raises
    ------
    ValueError
        The weights file is not from this run: its curves and its test images would be of another model.
    """
    card, tensors = read(weights)
    checkpoint = read_checkpoint(run / "checkpoint.pt")
    check_origin(run, checkpoint, weights, card, tensors)
    check_matplotlib()
    model = reference_model(weights, card, tensors)._replace(sha256=sha256_of(str(weights)))
    predicted = predict_all(model, parts["test"])
    judged = [judge_image(a, p, card.splitting) for a, p in zip(parts["test"], predicted, strict=True)]
    values = page_values(run, checkpoint["history"], parts, model, predicted, sorted(judged, key=quality))
    page = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(values)
    with_replacement(output, lambda part: part.write_text(page, encoding="utf-8"))


def check_origin(
    run: Path, checkpoint: Mapping[str, Any], weights: Path, card: Card, tensors: dict[str, torch.Tensor]
) -> None:
    """Raise ValueError where a weights file was made of neither the run's best nor its last epoch."""
    share = card.training.get("start_share", 0.0)
    trained = {name: tensor for name, tensor in tensors.items() if not is_statistic(name)}
    for part in ("best", "network"):
        made = checkpoint[part]
        if share:
            made = mixed_with_start(
                made, checkpoint["config"]["start_from"], card.training.get("start_from_sha256", ""), share
            )
        if made.keys() >= trained.keys() and all(torch.equal(made[name], value) for name, value in trained.items()):
            break
    else:
        raise ValueError(f"{weights} does not hold the weights of {run}: export the run, and give that file.")


def judge_image(annotation: Annotation, predicted: Predicted, config: SplittingConfig) -> Judged:
    """Find the cells of a test image and score them."""
    found = predicted.split(config)
    return Judged(annotation, found, evaluate(found, predicted.labels, predicted.ignore))


def quality(image: Judged) -> tuple[float, float]:
    """Return what images are put in order by, the worst first: CDS, then mean AP."""
    return image.scores.cds, float(np.mean(image.scores.ap))


def page_values(
    run: Path,
    history: Sequence[Row],
    parts: Mapping[str, list[Annotation]],
    model: Model,
    predicted: list[Predicted],
    judged: list[Judged],
) -> dict[str, str]:
    """Return what stands in the template's places, as HTML."""
    card = model.card
    comparison = compare(predicted, card.splitting)
    weights = card.training.get("weights", "of the best epoch")
    is_last_kept = weights.startswith("of the last epoch")
    origin = json.loads((run / "config.json").read_text(encoding="utf-8"))
    warnings = [
        *learned_before(parts["test"], origin),
        *notes(judged, history, is_last_kept),
        *differences(comparison, card.metrics["test"]),
    ]
    settings = dict(flat(card.training["config"]))
    splitting = [(name, value, MEANINGS[name]) for name, value in card.splitting.to_dict().items()]
    division = [(part, len(chosen), ", ".join(a.name for a in chosen)) for part, chosen in parts.items()]
    colours = {"right": RIGHT, "wrong": WRONG, "merged": MERGED, "in_pieces": IN_PIECES}
    return {
        "name": html.escape(card.name),
        "description": html.escape(card.description),
        "summary": summary(judged, len(parts["train"])),
        "notes": "".join(f'<p class="note">{html.escape(note)}</p>' for note in warnings),
        "scores": scores_table(comparison),
        "images": images(judged),
        "n_test": str(len(judged)),
        "per_image": table(("image", *TITLES), [(i.annotation.name, *score_cells(i.scores.to_dict())) for i in judged]),
        "curves": data_uri(draw_curves(history, is_last_kept)),
        "weights": html.escape(str(weights)),
        "n_validation": str(len(parts["validation"])),
        "validation_ap": f"{card.metrics['validation_mean_ap']:.3f}",
        "diameter": f"{card.diameter:.1f}",
        "splitting": table(("setting", "value", "meaning"), splitting, "text"),
        "data": table(*data_sets(card), "text"),
        "seed": str(settings["seed"]),
        "division": table(("part", "images", "names"), division, "text"),
        "origin": table(("", ""), [*flat({**origin, "config": {}}), ("weights file, sha256", model.sha256)], "text"),
        "config": table(("setting", "value"), settings.items(), "text"),
        **{place: colour(COLOURS[verdict]) for place, verdict in colours.items()},
        "cut": colour(CUT_COLOUR),
        "ignored": colour(IGNORED_COLOUR),
    }


def summary(judged: Sequence[Judged], n_train: int) -> str:
    """Say in words what the scores say in numbers."""
    total = sum((image.scores for image in judged), Scores())
    missed, extra = total.n_true - total.matched_above_half, total.n_predicted - total.matched_above_half
    share = 100 * total.matched_above_half / max(total.n_true, 1)
    return (
        f"<p>Training images: {n_train}. Test images: {len(judged)}, with {total.n_true:,} annotated cells. "
        f"<b>Of these cells {total.matched_above_half:,} ({share:.1f} %) were found</b>, {missed:,} were not; "
        f"{extra:,} of the {total.n_predicted:,} outlines found are of no single cell. Outlines that cover several "
        f"cells: {total.merges:,}; cells in pieces: {total.splits:,}. See below whether such errors matter for what "
        "you measure.</p>"
    )


def notes(judged: Sequence[Judged], history: Sequence[Row], is_last_kept: bool = False) -> list[str]:
    """Return what a reader should be warned of; where the last epoch is kept, it matters little which was the best."""
    found = []
    if len(judged) < FEW:
        found.append(
            f"Few test images ({len(judged)}): with others the scores may be quite different. "
            "Look at the pictures more than at the numbers."
        )
    stages = list(dict.fromkeys(row["stage"] for row in history))
    for stage in stages[:-1] if is_last_kept else stages:
        rows = rows_of(history, stage)
        if best_epoch(rows) == len(rows) > 1:
            found.append(
                f"The last epoch of stage {stage} was its best one: a longer training may give a better model."
            )
    return found


def learned_before(test: Sequence[Annotation], origin: Mapping[str, Any]) -> list[str]:
    """Return a warning where the weights that the run started from, or was taught by, had learned test images."""
    learned = set(origin.get("learned", "").split())
    n_learned = sum(short_digest(annotation) in learned for annotation in test)
    if not n_learned:
        return []
    return [
        f"The weights that this run started from, or was taught by, had learned {n_learned} of the {len(test)} test "
        "images: the scores below are too good."
    ]


def differences(found: Mapping[str, Any], of_card: Mapping[str, Any]) -> list[str]:
    """Return a warning where scores differ from those that the export wrote into the weights file."""
    if scores_table(found) == scores_table(of_card):
        return []
    return [
        "The scores in the weights file are others than those below: since the export, test images, their labels or "
        "the program have changed. This page tells of what is there today; export the run again."
    ]


def images(judged: Sequence[Judged]) -> str:
    """Show the worst and the best images; all of them where there are few."""
    if len(judged) <= 2 * N_SHOWN:
        return f"<h3>All test images, the worst first</h3>{''.join(map(figure, judged))}"
    worst, best = judged[:N_SHOWN], judged[: -N_SHOWN - 1 : -1]
    return f"<h3>The worst</h3>{''.join(map(figure, worst))}<h3>The best</h3>{''.join(map(figure, best))}"


def figure(image: Judged) -> str:
    """Show one image in three panels, with its scores."""
    annotated = image.annotation.read()
    panels = draw(annotated.image, annotated.labels, image.found, annotated.ignore)
    scores = zip(TITLES, score_cells(image.scores.to_dict()), strict=True)
    text = f"<b>{html.escape(image.annotation.name)}</b>: {', '.join(f'{title} {cell}' for title, cell in scores)}"
    n_y, n_x = annotated.labels.shape
    y, x = panels.part
    if (y.stop - y.start, x.stop - x.start) != (n_y, n_x):
        text += (
            f". Of {n_y} x {n_x} pixels (Y, X) the part with most errors is shown: rows {y.start} to {y.stop}, "
            f"columns {x.start} to {x.stop}"
        )
    titles = ("image", "outlined by a person", "found")
    pictures = zip(titles, panels[:3], strict=True)
    shown = "".join(f'<div><img alt="{t}" src="{data_uri(as_png(p))}"><span>{t}</span></div>' for t, p in pictures)
    return f'<figure><figcaption>{text}</figcaption><div class="panels">{shown}</div></figure>'


def scores_table(comparison: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Return the scores of each data folder and part of the method."""
    rows = [(f, part, *score_cells(scores)) for f, parts in comparison.items() for part, scores in parts.items()]
    return f'<div class="wide">{table(("folder", "", *TITLES), rows, "scores")}</div>'


def data_sets(card: Card) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return the columns and rows of the card's data sets, whatever is said of them."""
    columns = tuple(dict.fromkeys(key for data in card.data for key in data))
    return columns, [tuple(data.get(key, "") for key in columns) for data in card.data]


def table(titles: Iterable[str], rows: Iterable[Iterable[Any]], kind: str = "") -> str:
    """Return an HTML table; every cell is escaped."""
    head = "".join(f"<th>{html.escape(title)}</th>" for title in titles)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def colour(rgb: Iterable[int]) -> str:
    """Return a colour as CSS has it."""
    return "#" + "".join(f"{int(part):02x}" for part in rgb)


def as_png(picture: np.ndarray) -> bytes:
    """Return a (Y, X, 3) uint8 picture as a PNG file."""
    return imageio.v2.imwrite("<bytes>", picture, format="png")


def data_uri(png: bytes) -> str:
    """Return a PNG file as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(png).decode()
