"""The command line: ``deepsplit segment | evaluate | models | engine``."""

from __future__ import annotations

import argparse
import glob
import io
import json
import os
import sys
import textwrap
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Sequence

import numpy as np

from . import __version__
from .images import IMAGE_SUFFIXES, read_image, write_labels, write_png
from .preprocessing import check_image, to_grey
from .weights import bundled_models, path_of, read_card

PIECES_OF_A_CELL = 10  # on average; labels have hardly more than one, and grey values hundreds


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns
    -------
    int
        0 if everything that was asked for was done, else 1; wrong arguments exit with 2.
    """
    options = _parser().parse_args(arguments)
    try:
        code = int(options.run_command(options))
        sys.stdout.flush()
        return code
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        if not (isinstance(error, BrokenPipeError) and _reader_has_gone()):
            print(f"error: {error}", file=sys.stderr)
        return 1


def program() -> None:
    """Be the program `deepsplit`: everything is written and closed when `main` returns, so that it ends at once.

    Python would take torch down piece by piece, which takes most of a second.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # as the errors: a log may have no letters for the name of an image
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = main()
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        code = 130  # as a shell has it
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _reader_has_gone() -> bool:
    """Say whether nobody reads the output any more, as after `deepsplit models | head`; if so, it goes nowhere."""
    try:
        print(flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes what is left when it ends
        return True
    return False


def _segment(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from .config import SegmentConfig
    from .segmentation import predict, scale_of, split_prediction
    from .weights import load_model

    images = _listed(options.images)
    endings = ["_labels.tif"] + ["_overlay.png"] * options.overlay
    _refuse_overwriting(images, options.output, endings)
    images = _without_results(images)
    if options.skip_existing:
        n_given = len(images)
        images = [path for path in images if not all((options.output / f"{path.stem}{e}").is_file() for e in endings)]
        print(f"{n_given - len(images)} of {n_given} images have results in {options.output} already", flush=True)
    config = SegmentConfig(model=options.model, diameter=options.diameter, device=options.device)
    scale_of(config, load_model(config.model, config.device).card)  # what is wrong is said once, not for every image
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"The output folder {options.output} cannot be made: {error.strerror}. Choose another."
        ) from error
    n_failed = 0
    for path in tqdm(images, unit="image", disable=None):
        # An image that cannot be segmented is named and counted; the others are worth having.
        try:
            image = check_image(read_image(path))
            prediction = predict(image, config)
            labels = split_prediction(prediction, config).labels
            write_labels(options.output / f"{path.stem}_labels.tif", labels)
            if options.overlay:
                write_png(options.output / f"{path.stem}_overlay.png", draw_overlay(image, labels))
        except (OSError, ValueError, MemoryError, RuntimeError, OverflowError) as error:
            n_failed += 1
            tqdm.write(f"error: {path}: {error}", file=sys.stderr)
            continue
        is_estimated = prediction.scale != 1 and not config.diameter
        diameter = prediction.scale * prediction.card.diameter
        size = f", taken to be about {diameter:.0f} pixels across" if is_estimated else ""
        tqdm.write(f"{path}: {labels.max()} cells{size}")
    n_written = len(images) - n_failed
    print(f"{n_written} of {len(images)} images written to {options.output}", flush=True)
    return 1 if n_failed else 0


def draw_overlay(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Draw the outlines of the cells on the image.

    Parameters
    ----------
    image : (Y, X) array
    labels : (Y, X) int32 array

    Returns
    -------
    (Y, X, 3) uint8 array
        The grey values from the 0.5th to the 99.5th percentile, and the outermost pixels of each cell in yellow.
    """
    from skimage.segmentation import find_boundaries

    overlay = np.repeat(to_grey(image)[..., None], 3, axis=-1)
    overlay[find_boundaries(labels, mode="inner")] = (255, 220, 0)
    return overlay


def _evaluate(options: argparse.Namespace) -> int:
    from .metrics import Scores, evaluate

    pairs = _pairs(options.predicted, options.truth)
    masks = _ignore_masks(options.ignore, [truth for _, truth in pairs]) if options.ignore else {}

    def compare(predicted: Path, truth: Path) -> Scores:
        ignore = read_image(masks[truth], is_labels=True) > 0 if truth in masks else None
        try:
            return evaluate(_read_labels(predicted), _read_labels(truth), ignore)
        except ValueError as error:
            raise ValueError(f"{predicted} and {truth} cannot be compared: {error}") from error

    report: dict[str, float] = {"images": len(pairs)}
    if options.ignore:
        report["ignore_masks"] = len(masks)
    report.update(sum((compare(*pair) for pair in pairs), Scores()).to_dict())
    if options.json:
        print(json.dumps(report, indent=1))
    else:
        for name, value in report.items():
            print(f"{name:<16}{value:.4f}" if isinstance(value, float) else f"{name:<16}{value}")
    return 0


def _read_labels(path: Path) -> np.ndarray:
    """Read a label image; what looks like a mask, as a single cell in pieces does as well, or a grey image is said."""
    from skimage import measure

    labels = read_image(path, is_labels=True)
    numbers, n_pieces = np.unique(labels[labels != 0]), measure.label(labels, connectivity=1).max(initial=0)
    looks_like = ""
    if numbers.size == 1 and n_pieces > 1:
        looks_like = f"one number, {numbers[0]}, for all its pieces, as a mask has"
    elif n_pieces > PIECES_OF_A_CELL * numbers.size:
        looks_like = f"{numbers.size} numbers for {n_pieces} pieces, as a grey image has"
    if looks_like:
        print(f"warning: {path} has {looks_like}: in a label image each cell has a number of its own.", file=sys.stderr)
    return labels


def _models(options: argparse.Namespace) -> int:
    for name, sha256 in sorted(bundled_models().items()):
        card = read_card(path_of(name))
        network = f"{card.network.architecture}, width {card.network.base_width}"
        estimated = ", estimated in each image" if card.preprocessing.diameter else ""
        print(
            f"{name}: {card.description}\n  sha256 {sha256}\n  cell diameter {card.diameter:g} px{estimated}; {network}"
        )
        for data in card.data:
            print(f"  data {data['name']} ({data['licence']})")
        failures = f"known failures: {card.known_failures or 'not recorded'}"
        print(textwrap.fill(failures, 100, initial_indent="  ", subsequent_indent="    "))
    return 0


def _engine(options: argparse.Namespace) -> int:
    from . import engine
    from .engine.place import Place, find_python, place_of

    if options.stop:
        print("The engine has ended." if engine.stop(options.python) else "No engine is running.")
        return 0
    if options.status:
        print(json.dumps(engine.status(options.python), indent=1))
        return 0
    if find_python(options.python) != find_python(sys.executable):
        raise ValueError("--python goes with --stop and --status: an engine runs in the Python that starts it.")
    from .engine.server import main as serve

    place = Place(options.place) if options.place else place_of(find_python(sys.executable))
    return serve(place, options.idle_minutes, has_log=options.place is not None)


def _listed(paths: Sequence[Path]) -> list[Path]:
    """Return files: of a folder its images, less our own results; of a pattern, as Windows passes it on, its files."""
    images: list[Path] = []
    for path in paths:
        found = [path]
        if path.is_dir():
            found = sorted(filter(_is_image, path.iterdir()))
            found = [file for file in found if not file.stem.endswith(("_labels", "_overlay"))]
        elif not path.exists() and glob.has_magic(str(path)):
            found = sorted(file for file in map(Path, glob.glob(str(path))) if not file.is_dir())
        if not found:
            raise ValueError(f"{path}: there are no images ({' '.join(IMAGE_SUFFIXES)}): give other files or folders.")
        images += found
    return images


def _without_results(images: Sequence[Path]) -> list[Path]:
    """Leave out the results of other images that are given, as a shell gives both for ``*.tif``."""
    results = {f"{path.stem}{ending}" for path in images for ending in ("_labels", "_overlay")}
    if left_out := [str(path) for path in images if path.stem in results]:
        print(f"Left out, as they are results of images given here: {', '.join(left_out)}", file=sys.stderr)
    return [path for path in images if path.stem not in results]


def _refuse_overwriting(images: Sequence[Path], output: Path, endings: Sequence[str]) -> None:
    # Names that differ in capitals alone are one file on Windows and macOS.
    images = [path for path in images if path.suffix.lower() in IMAGE_SUFFIXES]  # others are refused one by one
    counts = Counter(path.stem.casefold() for path in images)
    twice = sorted({path.stem for path in images if counts[path.stem.casefold()] > 1})
    if twice:
        raise ValueError(
            f"Several images are named {', '.join(twice)}: their label files would overwrite each other. "
            "Segment them into different output folders."
        )
    given = {path.resolve() for path in images}
    for path in images:
        for result in (output / f"{path.stem}{ending}" for ending in endings):
            if result.resolve() in given:
                raise ValueError(
                    f"{result} is one of the images, and would be overwritten by the result of {path}: "
                    "choose another output folder, or leave it out."
                )


def _pairs(predicted: Path, truth: Path) -> list[tuple[Path, Path]]:
    """Two files, or the files of two folders joined by name, where predictions may end in `_labels`."""
    if predicted.is_file() and truth.is_file():
        return [(predicted, truth)]
    for path in (predicted, truth):
        if not path.exists():
            raise ValueError(f"There is no {path}: give two label images, or two folders of label images.")
    for path in (predicted, truth):
        if not path.is_dir():
            raise ValueError(f"{path} is not a folder: give two label images, or two folders of label images.")
    by_name = [_label_images(folder) for folder in (predicted, truth)]
    if not any(by_name):
        raise ValueError(f"{predicted} and {truth} hold no label images ({' '.join(IMAGE_SUFFIXES)}).")
    for folder, lonely in ((truth, set(by_name[0]) - set(by_name[1])), (predicted, set(by_name[1]) - set(by_name[0]))):
        if lonely:
            names = ", ".join(sorted(lonely)[:5]) + (" ..." if len(lonely) > 5 else "")
            raise ValueError(
                f"{predicted} and {truth} must hold label images of the same names, but {folder} lacks {len(lonely)}: "
                f"{names}."
            )
    return [(path, by_name[1][name]) for name, path in by_name[0].items()]


def _label_images(folder: Path) -> dict[str, Path]:
    """Return the label images of a folder by the names of their images."""
    by_name: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not _is_image(path) or path.stem.endswith("_overlay"):
            continue
        name = _image_name(path)
        if name in by_name:
            raise ValueError(f"{by_name[name]} and {path} both belong to the image {name}: move one away.")
        by_name[name] = path
    return by_name


def _is_image(path: Path) -> bool:
    """Say whether a file of a folder is an image, by its name. Hidden ones are not: macOS leaves ``._NAME`` behind."""
    is_named_so = path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    return is_named_so and not path.is_dir()


def _image_name(path: Path) -> str:
    """Return the name of the image that a label image belongs to."""
    stem = unicodedata.normalize("NFC", path.stem)  # macOS takes an umlaut apart
    return stem[: -len("_labels")] if stem.endswith("_labels") else stem


def _ignore_masks(ignore: Path, truths: Sequence[Path]) -> dict[Path, Path]:
    """Return the mask of ignored pixels for each annotated image that has one: a file, or a folder's by name."""
    if ignore.is_file():
        if len(truths) != 1:
            raise ValueError(f"{ignore} is one mask, but {len(truths)} images are compared: give a folder of masks.")
        return {truths[0]: ignore}
    if not ignore.is_dir():
        raise ValueError(f"There is no {ignore}: give a mask of the pixels to ignore, or a folder of them.")
    by_name = _label_images(ignore)
    lonely = sorted(set(by_name) - set(map(_image_name, truths)))
    if lonely or not by_name:
        raise ValueError(
            f"{ignore} must hold masks of the annotated images, under their names; without an image: "
            f"{lonely or 'none, it is empty'}."
        )
    return {truth: by_name[_image_name(truth)] for truth in truths if _image_name(truth) in by_name}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="deepsplit", description="Split touching cells in microscopy images.")
    parser.add_argument("--version", action="version", version=f"deepsplit {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")

    command = commands.add_parser("segment", help="write a label image for every image")
    command.add_argument(
        "images", type=Path, nargs="+", metavar="IMAGE", help="grey TIFF or PNG files, or folders of them"
    )
    command.add_argument("--model", default="nuclei", help="a bundled model, or a weights file (default: %(default)s)")
    command.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for NAME_labels.tif")
    command.add_argument(
        "--diameter",
        type=float,
        default=0.0,
        metavar="PX",
        help="expected cell diameter in pixels (default: as trained, or estimated)",
    )
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N, mps (default: %(default)s)")
    command.add_argument("--overlay", action="store_true", help="also write NAME_overlay.png with the outlines")
    command.add_argument(
        "--skip-existing",
        action="store_true",
        help="leave out images whose results are in the folder, whatever they were made with: goes on where it stopped",
    )
    command.set_defaults(run_command=_segment)

    command = commands.add_parser("evaluate", help="compare label images with annotated ones")
    command.add_argument("predicted", type=Path, help="a label image, or a folder of them")
    command.add_argument("truth", type=Path, help="the annotated one, or a folder with files of the same names")
    command.add_argument(
        "--ignore",
        type=Path,
        metavar="DIR_OR_FILE",
        help="masks of pixels that nobody annotated (nonzero), for the images of the same names; they count nowhere",
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run_command=_evaluate)

    command = commands.add_parser("models", help="list the bundled models")
    command.set_defaults(run_command=_models)

    command = commands.add_parser(
        "engine",
        help="run networks for programs whose Python has no torch",
        description="Be the engine of this Python: run networks for programs of the same user whose Python has no "
        "torch. They start it by themselves when they need it.",
    )
    command.add_argument("--status", action="store_true", help="say what the running engine does, as JSON; null: none")
    command.add_argument("--stop", action="store_true", help="end the running engine")
    command.add_argument(
        "--python", type=Path, default=sys.executable, help="whose engine to ask or end (default: own)"
    )
    command.add_argument(
        "--idle-minutes",
        type=float,
        default=5.0,
        metavar="M",
        help="end when nobody has asked for so long (default: %(default)g)",
    )
    command.add_argument("--place", type=Path, help=argparse.SUPPRESS)  # how a client names the folder that it watches
    command.set_defaults(run_command=_engine)
    return parser
