"""The page of `python -m training reproduce`: tables made of the files of results, and of nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from deepsplit_core.images import with_replacement
from deepsplit_core.metrics import AP_THRESHOLDS, Scores

from .systems import SETS, SYSTEMS

PARTS = ("train", "validation", "test")
BEGIN = "<!-- From here on the command writes; what stands before and after is kept. -->"
END = "<!-- Up to here the command writes. -->"

INTRODUCTION = """\
Written by `python -m training reproduce`. Each row is a system of the paper's Tables 1 and 2, whose own figures stand
beside ours. They are of images that were never published: compare differences, not values.

Touching cells have a gap of two pixels in the references. Eq. 1 weights the background between cells: without any, a
U-Net could not part them, and in a confluent sheet everything would be cell.

DSC and CDS are those of the segmentation intersected with the separation (4.1) and, post-processed, those after holes
are filled, small segments dropped, short borders cut by the watershed and contact pixels given back to the cells.
Without the watershed all of that is done but the cuts. Giving contact pixels back is not in the paper, and our
watershed cuts by shape alone, where a border is also clearly narrower than both pieces. All thresholds and lengths are
chosen on the validation images alone, for the greatest mean AP after post-processing.

A cell is found, for CDS, where its IoU is above .5. The paper compares "position and area" and gives no numbers: *by
position* is with centres at most half a radius apart and areas within a factor of two.
Counts are added over the images of a seed. ± is the standard deviation over the seeds. Where not all folds are
finished yet, rows may be of different test images; the differences are always of the same.

All rows have the same number of steps. Stage 1, a U-Net, is trained once for each fold; the cumulative
systems go on from it, and so does the U-Net itself. Of two independent U-Nets one is that of stage 1, and
the other learns the separation with its weights. Of stage 1 the epoch of the least validation loss is built on, and
intersected with; of everything else the last epoch counts. Minutes are those of one training, stage 1 included.
"""

# The paper's claims, as pairs of systems whose scores are subtracted: the second from the first.
CLAIMS = {
    "Cumulative learning is better than simultaneous learning (4.2)": [
        ("cumulative-deepsplit", "simultaneous-deepsplit"),
        ("cumulative-branch-net", "simultaneous-branch-net"),
        ("cumulative-double-unet", "simultaneous-double-unet"),
    ],
    # Neither of the other two has any, as the separation follows the whole segmentation U-Net there.
    "Cross connections are better than none (4.1)": [
        ("cumulative-deepsplit", "cumulative-branch-net"),
        ("cumulative-deepsplit", "cumulative-double-unet"),
        ("simultaneous-deepsplit", "simultaneous-branch-net"),
        ("simultaneous-deepsplit", "simultaneous-double-unet"),
    ],
    "Simultaneous learning is worse than a U-Net (4.2)": [
        ("simultaneous-deepsplit", "unet"),
        ("simultaneous-branch-net", "unet"),
        ("simultaneous-double-unet", "unet"),
    ],
    "Two tasks in one network are better than a U-Net, and than two (4.1)": [
        ("cumulative-deepsplit", "unet"),
        ("cumulative-deepsplit", "two-unets"),
    ],
}


# The results of a system: of every seed, those of the folds that are finished.
Results = dict[int, dict[int, dict[str, Any]]]


class Measured(NamedTuple):
    """What a system came to with one seed: counts after each step, added over its folds; seconds of one training."""

    counts: dict[str, Scores]
    seconds: float
    steps: dict[str, int]


def read_results(folder: Path) -> dict[Path, dict[str, Any]]:
    """Read all results of a folder, sorted by name; a hidden file is one that a killed command had begun to write."""
    return {path: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("[!.]*.json"))}


def write_page(page: Path, results: Path, n_seeds: int) -> None:
    """Write the tables into a Markdown page, in place of those that it holds; a text around them is kept.

    Parameters
    ----------
    page : Path
        A new one, or one that was written by this function.
    results : Path
        Folder of the files.
    n_seeds : int
        How many seeds are expected; a row that has fewer folds says so.

    Raises
    ------
    ValueError
        The page exists and does not hold the two marks between which the tables go.
    """
    text = (
        page.read_text(encoding="utf-8")
        if page.exists()
        else f"# The paper's tables on open images\n\n{BEGIN}\n{END}\n"
    )
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(
            f"{page} lacks the line {BEGIN!r} or, after it, {END!r}: the tables go between them. Add both, or give "
            "another --page."
        )
    found = list(read_results(results).values())
    sections = [section(name, [r for r in found if r["set"] == name], n_seeds) for name in SETS]
    content = "".join([before, BEGIN, "\n\n", "\n".join([INTRODUCTION, *sections]), "\n", END, after])
    with_replacement(page, lambda part: part.write_text(content, encoding="utf-8"))


def section(name: str, results: Sequence[dict[str, Any]], n_seeds: int) -> str:
    """Return the section of a set of images: how it was made, the paper's table, further scores, the claims."""
    if not results:
        return f"## {name}\n\nNo system is finished yet.\n"
    of_systems = {system: by_seed([r for r in results if r["system"] == system]) for system in SYSTEMS}
    return "\n\n".join(
        [
            f"## {name}",
            how_it_was_made(results),
            table_of_the_paper(of_systems, n_seeds * results[0]["n_folds"]),
            table_of_more(of_systems),
            table_of_claims(of_systems),
            "",
        ]
    )


def by_seed(results: Sequence[dict[str, Any]]) -> Results:
    """Sort the results of one system."""
    found: Results = {}
    for result in results:
        found.setdefault(result["seed"], {})[result["fold"]] = result
    return found


def joined(folds: Sequence[dict[str, Any]]) -> Measured:
    """Add the counts of folds of one seed."""
    counts = {step: sum((scores_of(fold["counts"][step]) for fold in folds), Scores()) for step in folds[0]["counts"]}
    return Measured(counts, fmean(fold["seconds"] for fold in folds), folds[0]["steps"])


def scores_of(counts: dict[str, Any]) -> Scores:
    """Return scores from what JSON makes of their counts: a tuple comes back as a list."""
    return Scores(**{**counts, "true_positives": tuple(counts["true_positives"])})


def how_it_was_made(results: Sequence[dict[str, Any]]) -> str:
    """Say which settings and images all systems have in common."""
    config, side = results[0]["config"], results[0]["data"]["side"]
    divisions = {(result["seed"], result["fold"]): result["images"] for result in results}
    sizes = {" + ".join(str(len(images[part])) for part in PARTS) for images in divisions.values()}
    steps = {str(sum(result["steps"].values())) for result in results}
    devices = {" in ".join(result["device"]) for result in results}
    return (
        f"Images brought to {side} x {side} pixels. Folds for each seed: {results[0]['n_folds']}, with "
        f"{' or '.join(sorted(sizes))} images for training, validation and test. {' or '.join(sorted(steps))} steps, "
        f"{config['batch']} views of {config['view']} pixels each, of {1 + config['augmentation']['fixed_copies']} "
        f"fixed ones of each image; a look at the validation images every {config['epoch_steps']} steps. Width "
        f"{config['network']['base_width']}, dropout {config['network']['dropout']}, {config['optimiser']} with "
        f"{config['learning_rate']:g}. Trained on {', '.join(sorted(devices))}."
    )


def table_of_the_paper(of_systems: dict[str, Results], n_folds: int) -> str:
    """Return Tables 1 and 2 with the paper's own figures beside ours."""
    columns = [("DSC", "intersected", "dsc"), ("CDS", "intersected", "cds")]
    columns += [("DSC post-processed", "post-processed", "dsc"), ("CDS post-processed", "post-processed", "cds")]
    header = ["", "folds", *(title for column in columns for title in (column[0], "paper"))]
    rows = []
    for name, system in SYSTEMS.items():
        seeds = [joined(list(folds.values())) for folds in of_systems[name].values()]
        ours = [over_seeds([getattr(m.counts[step], score) for m in seeds]) for _, step, score in columns]
        paper = [number(value) for value in system.paper] or ["-"] * len(columns)
        n_finished = sum(map(len, of_systems[name].values()))
        count = f"{n_finished} of {n_folds}" if seeds else "missing"
        rows.append([system.title, count, *(cell for pair in zip(ours, paper, strict=True) for cell in pair)])
    return markdown(header, rows)


def table_of_more(of_systems: dict[str, Results]) -> str:
    """Return what the paper does not give: AP, merges and splits after post-processing, steps, and time."""
    ap_titles = [f"AP {number(threshold)[:2]}" for threshold in AP_THRESHOLDS]
    header = ["", "CDS without the watershed", "the same by position", "CDS post-processed, by position"]
    header += [*ap_titles, "merges", "splits", "cells", "steps", "minutes"]
    rows = []
    for name, system in SYSTEMS.items():
        seeds = [joined(list(folds.values())) for folds in of_systems[name].values()]
        final = [m.counts["post-processed"] for m in seeds]
        rows.append(
            [
                system.title,
                over_seeds([m.counts["cleaned"].cds for m in seeds]),
                over_seeds([m.counts["cleaned"].cds_by_position for m in seeds]),
                over_seeds([scores.cds_by_position for scores in final]),
                *(over_seeds([scores.ap[i] for scores in final]) for i in range(len(AP_THRESHOLDS))),
                *(mean_of([getattr(s, counted) for s in final]) for counted in ("merges", "splits", "n_true")),
                " + ".join(map(str, seeds[0].steps.values())) if seeds else "",
                mean_of([m.seconds / 60 for m in seeds]),
            ]
        )
    return markdown(header, rows)


def table_of_claims(of_systems: dict[str, Results]) -> str:
    """Return the differences that the paper's claims are about, each between two systems on the same folds."""
    # The step, the score, and its number among the paper's figures, which has none of the cleaned segments.
    columns = [("post-processed", "dsc", 2), ("cleaned", "cds", None), ("post-processed", "cds", 3)]
    header = [
        "",
        "folds",
        "DSC post-processed",
        "paper",
        "CDS without the watershed",
        "CDS post-processed",
        "paper",
    ]
    rows = []
    for claim, pairs in CLAIMS.items():
        rows.append([f"**{claim}**", *[""] * (len(header) - 1)])
        for one, other in pairs:
            both, n_shared = shared(of_systems[one], of_systems[other])
            cells = []
            papers = [SYSTEMS[name].paper for name in (one, other)]
            for step, score, of_paper in columns:
                values = [[getattr(m.counts[step], score) for m in pair] for pair in both]
                cells.append(over_seeds([a - b for a, b in values], "+"))
                if of_paper is not None:
                    cells.append(number(papers[0][of_paper] - papers[1][of_paper], "+") if all(papers) else "-")
            title = f"{SYSTEMS[one].title} minus {SYSTEMS[other].title}"
            rows.append([title, str(n_shared) if both else "missing", *cells])
    return markdown(header, rows)


def shared(one: Results, other: Results) -> tuple[list[tuple[Measured, Measured]], int]:
    """Return what two systems came to on the folds that both have: of each seed, and how many folds in all."""
    pairs, n_folds = [], 0
    for seed in sorted(one.keys() & other.keys()):
        folds = sorted(one[seed].keys() & other[seed].keys())
        if folds:
            first, second = (joined([results[seed][fold] for fold in folds]) for results in (one, other))
            pairs.append((first, second))
            n_folds += len(folds)
    return pairs, n_folds


def over_seeds(values: Sequence[float], sign: str = "") -> str:
    """Return mean and, of several, standard deviation: ".903 ± .012"; nothing where there is no value."""
    if not values:
        return ""
    spread = f" ± {number(stdev(values))}" if len(values) > 1 else ""
    return number(fmean(values), sign) + spread


def mean_of(values: Sequence[float]) -> str:
    """Return the mean with one decimal; nothing where there is no value."""
    return f"{fmean(values):.1f}" if values else ""


def number(value: float, sign: str = "") -> str:
    """Return a score as the paper prints it, without the zero before the point."""
    return f"{value:{sign}.3f}".replace("0.", ".", 1)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
