"""The command line of training: ``python -m training COMMAND``, from annotated images to a weights file."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections import Counter
from pathlib import Path

import torch

from deepsplit_core.images import with_replacement

from .data.annotations import Annotation
from .data.checks import checked_annotations
from .data.division import divide, read_names, read_split
from .learning.config import TrainConfig
from .learning.distributed import check_batch, is_first, joined, n_processes, program
from .reproduction.systems import SETS, SYSTEMS
from .run.checkpoint import Checkpoint, Position
from .run.settings import read_config
from .run.stopping import Stopped, stoppable


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if isinstance(sys.stdout, io.TextIOWrapper):  # as the errors: a log may have no letters for the name of an image
        sys.stdout.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    options.arguments = arguments
    try:
        check_names(getattr(options, "folders", []))
        with stoppable():
            options.run_command(options)
    except Stopped as stop:
        if is_first():
            print(f"\nStopped ({stop}). {_how_to_go_on(options)}", file=sys.stderr)
        return stop.exit_code
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        print(f"error: {_reason(error)}", file=sys.stderr)
        return 1
    return 0


def _reason(error: Exception) -> str:
    """Say what is wrong; of a file that it refused, or memory, the system itself says little."""
    if isinstance(error, MemoryError):
        return f"There is not enough memory ({error}): give fewer images, or smaller ones."
    if isinstance(error, OSError) and error.filename and error.strerror:
        return (
            f"{error.filename} could not be read or written ({error.strerror}): give a path where you may read and "
            "write, with room in it."
        )
    if "out of memory" in str(error) or "can't allocate memory" in str(error):
        return (
            f"{error} Take smaller batches (--set batch=4), smaller views (--set view=128) or the CPU (--device cpu)."
        )
    return str(error)


def _how_to_go_on(options: argparse.Namespace) -> str:
    if options.run_command is _reproduce:
        return "Go on with the same command."
    if options.run_command in (_prepare, _inspect, _simulate) and options.output:
        return f"{options.output} may be incomplete: remove what is new in it, and start again."
    if options.run_command is not _train:
        return "It is not finished: start again."
    if not (options.output / "checkpoint.pt").exists():
        return "No epoch was complete yet: start again with the same command."
    return f"{options.output} holds the last complete epoch. Go on with the same command and --resume."


def share(text: str) -> float:
    """Return a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is given, but a share is 0 to 1")
    return value


def named_folder(text: str) -> Path:
    """Return a folder by its whole path, so that "." has a name; a link keeps its own, by which images are known."""
    return Path(os.path.abspath(text))


def check_names(folders: list[Path]) -> None:
    """Raise ValueError where two data folders have one name, as images are known by folder and name."""
    twice = sorted(name for name, n in Counter(folder.name for folder in folders).items() if n > 1)
    if twice:
        raise ValueError(f"Several data folders are named {twice}: images are known by folder and name. Rename one.")


def _prepare(options: argparse.Namespace) -> None:
    from .data.prepare import prepare

    prepare(options.folders, options.output, options.repair, options.strict)


def _inspect(options: argparse.Namespace) -> None:
    from .learning.inspection import write_pictures

    if options.number < 1:
        raise ValueError(f"--number is {options.number}, but it must be at least 1.")
    config = read_config(options.preset, options.set)
    for folder in options.folders:
        write_pictures(checked_annotations(folder), config, options.output, options.number)


def _train(options: argparse.Namespace) -> None:
    preset = options.preset or ("finetune" if options.start_from else "standard")
    config = read_config(preset, options.set, options.start_from)
    with joined(options.device) as device:
        check_batch(config.batch)
        _train_on(device, config, options)


def _warn_of_learned_images(config: TrainConfig, parts: dict[str, list[Annotation]]) -> None:
    """Say that the run would choose by or be tested on images that the weights have learned which it starts from."""
    from .data.copies import short_digest
    from .run.provenance import learned_by

    for model, learned in learned_by(config).items():
        for part in ("validation", "test"):
            if n_learned := sum(short_digest(annotation) in learned for annotation in parts[part]):
                print(
                    f"warning: {model} has learned {n_learned} of the {len(parts[part])} {part} images, so that the "
                    "scores will be too good. Give its folders as they were then, new images in a folder of their own, "
                    "and the same seed and --set picture.",
                    flush=True,
                )


def _train_on(device: torch.device, config: TrainConfig, options: argparse.Namespace) -> None:
    from deepsplit_core.devices import choose_dtype, describe

    from .learning.dataset import load_samples
    from .run.loop import train
    from .run.provenance import check_same_data, check_same_teacher, note_change, write_provenance

    run: Path = options.output
    if options.resume and (run / "config.json").exists() and not (run / "checkpoint.pt").exists():
        print("No epoch of this run was complete yet: it starts again.", flush=True)
        options.resume = False
    if (run / "checkpoint.pt").exists() and not options.resume:
        raise ValueError(f"{run} holds a run already: add --resume to go on with it, or give another folder.")
    parts = divide(options.folders, config.seed, config.picture)
    if is_first():
        _warn_of_learned_images(config, parts)
    names = {part: [annotation.name for annotation in chosen] for part, chosen in parts.items()}
    split = {"folders": [str(folder) for folder in options.folders], **names}
    if options.resume:
        position = _check_same_run(run, config, split)
        check_same_data(run / "config.json", parts)
        check_same_teacher(run / "config.json", config)
        if position.change and is_first():
            after = f"{position.change}, after {len(position.history)} epochs in all"
            print(f"It has another length now: {after}", flush=True)
            note_change(run / "config.json", config, after)
    elif is_first():
        run.mkdir(parents=True, exist_ok=True)
        write_provenance(run / "config.json", config, parts, options.arguments, device)
        with_replacement(run / "split.json", lambda part: part.write_text(json.dumps(split, indent=1)))
    where = " in ".join(describe(device, choose_dtype(device)))
    where += f", {n_processes()} processes" if n_processes() > 1 else ""
    n_train, n_validation, n_test = (len(names[part]) for part in ("train", "validation", "test"))
    print(f"{n_train} images to train on, {n_validation} to validate, {n_test} to test; on {where}", flush=True)
    training, validation = (load_samples(parts[part], config) for part in ("train", "validation"))
    try:
        train(training, validation, config, run, options.resume, device)
    except OSError as error:  # a full disk, above all
        raise OSError(
            f"{_reason(error)} Once it is mended, go on with --resume from the last complete epoch."
        ) from error


def _check_same_run(run: Path, config: TrainConfig, split: dict[str, list[str]]) -> Position:
    """Raise ValueError where a run cannot be resumed with these settings and images: nothing is changed before."""
    position = Checkpoint(run / "checkpoint.pt", config).read()
    if _without_links(read_names(run / "split.json")) != _without_links(split):
        raise ValueError(f"{run} was made with other images: give the same --data, or another folder.")
    return position


def _without_links(split: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return a division with its folders' true paths: a run may be resumed through a link to them."""
    return {**split, "folders": [str(Path(folder).resolve()) for folder in split["folders"]]}


def _evaluate(options: argparse.Namespace) -> None:
    from deepsplit_core.devices import describe
    from deepsplit_core.weights import load_model, path_of, read

    from .results.evaluation import as_table, compare, predict_all, reference_model

    if options.float32 and options.device not in ("auto", "cpu"):
        raise ValueError(f"--float32 is for the processor, and --device is {options.device}: leave one of them out.")
    path = path_of(options.model)
    model = reference_model(path, *read(path)) if options.float32 else load_model(options.model, options.device)
    predicted = predict_all(model, read_split(options.run)[options.part])
    # The scores of the card and of the report are in float32; these are what this machine makes of the file.
    print(f"On {' in '.join(describe(model.device, model.dtype))}:")
    print(as_table(compare(predicted, model.card.splitting)))


def _export(options: argparse.Namespace) -> None:
    from .results.export import check_output, check_sources_stay, doubts_about, export, read_about
    from .run.provenance import check_same_data

    about = read_about(options.about)
    check_output(options.output, options.about)
    parts = read_split(options.run)
    check_same_data(options.run / "config.json", parts)
    check_sources_stay(options.output, options.run)
    for doubt in doubts_about(about["data"], parts):
        print(f"warning: {options.about}: {doubt}", flush=True)
    export(options.run, parts, about, options.output, options.epoch, options.start_share, options.start_thresholds)


def _report(options: argparse.Namespace) -> None:
    from .results.report import write_report

    output = options.output or options.run / "report.html"
    write_report(options.run, read_split(options.run), options.model, output)
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB")


def _reproduce(options: argparse.Namespace) -> None:
    from deepsplit_core.devices import choose_device

    from .reproduction.reproduce import Grid, reproduce

    reproduce(
        Grid(
            data=options.data,
            output=options.output,
            page=options.page,
            config=read_config(options.preset, options.set),
            sets=options.sets,
            systems=options.systems,
            n_seeds=options.seeds,
            side=options.side,
            device=choose_device(options.device),
            arguments=options.arguments,
        )
    )


def _simulate(options: argparse.Namespace) -> None:
    from .simulated import write_simulated

    write_simulated(options.output, options.number, options.seed, options.size, options.diameter, not options.empty)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program(), description="From annotated images to a weights file.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    # Options of several commands.
    data, settings, device = (argparse.ArgumentParser(add_help=False) for _ in range(3))
    data.add_argument(
        "--data", type=named_folder, nargs="+", required=True, dest="folders", help="folders with images/ and labels/"
    )
    settings.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="in place of the preset's value: batch=4"
    )
    device.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N, mps (default: %(default)s)")

    command = commands.add_parser(
        "prepare", parents=[data], help="check folders of annotated images, and write clean copies"
    )
    command.add_argument("--output", type=Path, help="write a copy of each folder in here, under its name")
    command.add_argument("--repair", action="store_true", help="mend the copy, and leave out what cannot be mended")
    command.add_argument("--strict", action="store_true", help="refuse doubtful labels too, not faults alone")
    command.set_defaults(run_command=_prepare)

    command = commands.add_parser(
        "inspect", parents=[data, settings], help="draw cells, contact zone and weights over the images"
    )
    command.add_argument("--output", type=Path, required=True, help="folder for the pictures, PNG")
    command.add_argument("--number", type=int, default=10, help="pictures of each folder (default: %(default)s)")
    command.add_argument(
        "--preset", default="standard", help="whose targets: a preset or TOML file (default: %(default)s)"
    )
    command.set_defaults(run_command=_inspect)

    command = commands.add_parser("train", parents=[data, settings, device], help="train a network on annotated images")
    command.add_argument("--output", type=Path, required=True, help="folder of the run")
    command.add_argument(
        "--preset", help="name of a preset, or a TOML file (default: standard, with --start-from finetune)"
    )
    command.add_argument(
        "--start-from", default="", metavar="MODEL", help="a bundled model or a weights file to start from"
    )
    command.add_argument("--resume", action="store_true", help="go on with the run in the output folder")
    command.set_defaults(run_command=_train)

    command = commands.add_parser("export", help="choose thresholds, measure, and write the weights file")
    command.add_argument("run", type=Path, help="folder of a finished run")
    command.add_argument("--about", type=Path, required=True, help="JSON: name, description and data of the card")
    command.add_argument(
        "--output", type=Path, required=True, help="the weights file, NAME.safetensors; its card goes into NAME.json"
    )
    command.add_argument(
        "--epoch",
        choices=("last", "best"),
        default="",
        help="whose weights to take (default: the last one's if the learning rate fell to zero, else the best one's)",
    )
    command.add_argument(
        "--start-share",
        type=share,
        default=0.0,
        metavar="S",
        help="share of the weights that the run started from to mix in, 0 to 1, so that less is forgotten",
    )
    command.add_argument(
        "--start-thresholds",
        action="store_true",
        help="keep thresholds and lengths of the weights that the run started from, where few images could choose them",
    )
    command.set_defaults(run_command=_export)

    command = commands.add_parser("evaluate", parents=[device], help="score a weights file on images of a run")
    command.add_argument("run", type=Path, help="folder of the run, for its division of the images")
    command.add_argument("--model", required=True, help="name of a bundled model, or a weights file")
    command.add_argument("--part", choices=("train", "validation", "test"), default="test")
    command.add_argument("--float32", action="store_true", help="as the card's scores are made, on the processor")
    command.set_defaults(run_command=_evaluate)

    command = commands.add_parser("report", help="write a page from which to judge a weights file")
    command.add_argument("run", type=Path, help="folder of the run")
    command.add_argument("--model", type=Path, required=True, help="the weights file that export made of the run")
    command.add_argument("--output", type=Path, help="the page (default: report.html in the run's folder)")
    command.set_defaults(run_command=_report)

    command = commands.add_parser(
        "reproduce", parents=[settings, device], help="train and measure every system of the paper's Tables 1 and 2"
    )
    command.add_argument("--data", type=Path, required=True, help=f"folder with the folders {', '.join(SETS)}")
    command.add_argument("--output", type=Path, required=True, help="folder for the runs; goes on with them")
    command.add_argument(
        "--page",
        type=Path,
        default="docs/reproduction.md",
        help="the tables go in here, the results into a folder of its name (default: %(default)s)",
    )
    for option, names in {"--sets": SETS, "--systems": SYSTEMS}.items():
        command.add_argument(
            option,
            nargs="+",
            choices=names,
            default=list(names),
            metavar="NAME",
            help=f"of {', '.join(names)} (default: all)",
        )
    command.add_argument("--seeds", type=int, default=3, help="repetitions of everything (default: %(default)s)")
    command.add_argument("--side", type=int, default=512, help="images are brought to this size (default: %(default)s)")
    command.add_argument("--preset", default="reproduction", help="a preset or TOML file (default: %(default)s)")
    command.set_defaults(run_command=_reproduce)

    command = commands.add_parser("simulate", help="draw images of touching cells with their labels, to try things out")
    command.add_argument("--output", type=Path, required=True, help="folder for images/ and labels/")
    command.add_argument("--number", type=int, required=True, help="how many images")
    command.add_argument("--seed", type=int, default=0, help="another one draws others (default: %(default)s)")
    command.add_argument(
        "--diameter", type=float, default=40, help="typical diameter of a cell in pixels (default: %(default)s)"
    )
    command.add_argument("--size", type=int, default=512, help="side of an image in pixels (default: %(default)s)")
    command.add_argument(
        "--empty", action="store_true", help="fields without a cell, from which a model learns to find none"
    )
    command.set_defaults(run_command=_simulate)
    return parser
