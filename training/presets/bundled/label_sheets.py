"""Label unlabelled images of endothelium with the tenth `cells`, for the eleventh and the twelfth to learn from.

    python training/presets/bundled/label_sheets.py IMAGES cells_tenth.safetensors OUTPUT

IMAGES is the folder of the unlabelled images. OUTPUT/ground and OUTPUT/edges get two each whose dark ground the tenth
takes for cells in part, OUTPUT/sheet two others. Eight views of each image, turned and mirrored, are averaged. Then
what a person saw in the outlines is put right: ground is no cell, and what is doubtful counts neither as cell nor as
background.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from skimage.segmentation import find_boundaries

from deepsplit_core import Prediction, SegmentConfig, predict, split_prediction
from deepsplit_core.images import read_image
from deepsplit_core.splitting import consecutive
from deepsplit_core.weights import read
from training.data.annotations import Annotated
from training.data.prepare import write_annotated
from training.results.evaluation import reference_model

GROUND = 0.52  # of the median grey value of cells: what is darker is ground, where a grey value tells the two apart


class Seen(NamedTuple):
    """What a person saw in the outlines of an image; a box is (top, bottom, left, right)."""

    doubtful: tuple[tuple[int, int, int, int], ...] = ()  # the sheet lies in folds, or is out of focus
    ground: tuple[tuple[int, int, int, int], ...] = ()  # as bright as cells, or taken for some together with them
    has_dark_ground: bool = False


SEEN = {
    "ground/endothelium_13": Seen(has_dark_ground=True),
    "ground/endothelium_14": Seen(has_dark_ground=True, doubtful=((0, 60, 730, 824),)),
    "edges/endothelium_15": Seen(ground=((0, 42, 0, 914), (618, 649, 0, 914))),
    "edges/endothelium_17": Seen(
        ground=((15, 185, 350, 401), (140, 260, 0, 70), (260, 310, 0, 40)), doubtful=((0, 60, 0, 205),)
    ),
    "sheet/endothelium_11": Seen(doubtful=((70, 170, 80, 205), (80, 172, 212, 305), (0, 110, 40, 120))),
    "sheet/endothelium_22": Seen(doubtful=((0, 130, 150, 330),)),
}


def averaged(image: np.ndarray, weights: Path) -> tuple[Prediction, SegmentConfig]:
    """Return what the network says of an image (Y, X), averaged over eight views at the size found in the first."""
    card, tensors = read(weights)
    model = reference_model(weights, card, tensors)
    first = predict(image, SegmentConfig(model=str(weights)), load=lambda *_: model)
    config = SegmentConfig(model=str(weights), diameter=first.scale * card.diameter)
    total = np.zeros((2, *image.shape), np.float32)
    for turns in range(4):
        for step in (1, -1):
            view = np.ascontiguousarray(np.rot90(image, turns)[:, ::step])
            seen = predict(view, config, load=lambda *_: model).probabilities.astype(np.float32)
            total += np.rot90(seen[:, :, ::step], -turns, (1, 2))
    return first._replace(probabilities=(total / 8).astype(np.float16)), config


def label(image: np.ndarray, weights: Path, seen: Seen) -> Annotated:
    """Return an image (Y, X) with its cells, and what counts neither as cell nor as background."""
    prediction, config = averaged(image, weights)
    cells = split_prediction(prediction, config).labels
    numbers = np.arange(1, cells.max() + 1)
    if seen.has_dark_ground:
        grey = ndimage.median(ndimage.gaussian_filter(image.astype(float), 2), cells, numbers)
        cells[np.isin(cells, numbers[grey < GROUND * np.median(grey)])] = 0
    bare = inside(seen.ground, image)
    share_in_ground = np.bincount(cells.ravel(), weights=bare.ravel()) / np.maximum(np.bincount(cells.ravel()), 1)
    cells[(share_in_ground > 0.5)[cells] | bare] = 0
    numbers = np.unique(cells[cells > 0])
    # Contact in the middle of a cell is a border that was not closed; giants and crumbs are mistakes as a rule.
    depth = ndimage.distance_transform_edt(~find_boundaries(cells, mode="thick") | (cells == 0))
    contact = np.where(depth > max(2, 5 * prediction.scale), prediction.probabilities[1].astype(np.float32), 0)
    worst = np.array([np.percentile(contact[cells == number], 97) for number in numbers])
    areas = np.bincount(cells.ravel())[numbers]
    is_odd = (worst > 0.5) | (areas > 4 * np.median(areas)) | (areas < 0.1 * np.median(areas))
    ignore = np.isin(cells, numbers[is_odd]) | inside(seen.doubtful, image)
    ignore |= np.isin(cells, np.unique(cells[ignore & (cells > 0)]))  # a cell counts whole or not at all
    return Annotated(image, consecutive(np.where(ignore, 0, cells)), ignore)


def inside(boxes: tuple[tuple[int, int, int, int], ...], image: np.ndarray) -> np.ndarray:
    """Return which pixels of an image (Y, X) lie in any of the boxes: bool (Y, X)."""
    is_inside = np.zeros(image.shape, bool)
    for top, bottom, left, right in boxes:
        is_inside[top:bottom, left:right] = True
    return is_inside


def main(images: str, weights: str, output: str) -> None:
    """Write the folders."""
    for name, seen in SEEN.items():
        folder, stem = name.split("/")
        image = read_image(Path(images) / f"{stem}.tif")
        annotated = label(image, Path(weights), seen)
        write_annotated(Path(output) / folder, stem, annotated)
        print(f"{name}: {annotated.labels.max()} cells, {annotated.ignore.mean():.0%} ignored", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
