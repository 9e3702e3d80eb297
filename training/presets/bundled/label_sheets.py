"""Label four unlabelled images of endothelium with the tenth `cells`, for the eleventh to learn from.

    python training/presets/bundled/label_sheets.py IMAGES cells_tenth.safetensors OUTPUT

IMAGES is the folder of the unlabelled images. OUTPUT/ground gets two whose dark ground the tenth takes for cells in
part, OUTPUT/sheet two others. Eight views of each image, turned and mirrored, are averaged. Then what a person saw in
the outlines is put right: ground is no cell, and what is doubtful counts neither as cell nor as background.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage.segmentation import find_boundaries

from deepsplit_core import Prediction, SegmentConfig, predict, split_prediction
from deepsplit_core.images import read_image
from deepsplit_core.splitting import consecutive
from deepsplit_core.weights import read
from training.annotations import Annotated
from training.evaluation import reference_model
from training.prepare import write_annotated

GROUND = 0.52  # of the median grey value of cells: what is darker is ground, in images that have any
# Rows and columns in which outlines are doubtful: the sheet lies in folds, or is out of focus.
DOUBTFUL = {
    "ground/endothelium_13": [],
    "ground/endothelium_14": [(0, 60, 730, 824)],
    "sheet/endothelium_11": [(70, 170, 80, 205), (80, 172, 212, 305), (0, 110, 40, 120)],
    "sheet/endothelium_22": [(0, 130, 150, 330)],
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


def label(image: np.ndarray, weights: Path, has_ground: bool, doubtful: list[tuple[int, int, int, int]]) -> Annotated:
    """Return an image (Y, X) with its cells, and what counts neither as cell nor as background."""
    prediction, config = averaged(image, weights)
    cells = split_prediction(prediction, config).labels
    numbers = np.arange(1, cells.max() + 1)
    if has_ground:
        grey = ndimage.median(ndimage.gaussian_filter(image.astype(float), 2), cells, numbers)
        cells[np.isin(cells, numbers[grey < GROUND * np.median(grey)])] = 0
    numbers = np.unique(cells[cells > 0])
    # Contact in the middle of a cell is a border that was not closed; giants and crumbs are mistakes as a rule.
    depth = ndimage.distance_transform_edt(~find_boundaries(cells, mode="thick") | (cells == 0))
    contact = np.where(depth > max(2, 5 * prediction.scale), prediction.probabilities[1].astype(np.float32), 0)
    worst = np.array([np.percentile(contact[cells == number], 97) for number in numbers])
    areas = np.bincount(cells.ravel())[numbers]
    is_odd = (worst > 0.5) | (areas > 4 * np.median(areas)) | (areas < 0.1 * np.median(areas))
    ignore = np.isin(cells, numbers[is_odd])
    for top, bottom, left, right in doubtful:
        ignore[top:bottom, left:right] = True
    ignore |= np.isin(cells, np.unique(cells[ignore & (cells > 0)]))  # a cell counts whole or not at all
    return Annotated(image, consecutive(np.where(ignore, 0, cells)), ignore)


def main(images: str, weights: str, output: str) -> None:
    """Write both folders."""
    for name, doubtful in DOUBTFUL.items():
        folder, stem = name.split("/")
        image = read_image(Path(images) / f"{stem}.tif")
        annotated = label(image, Path(weights), folder == "ground", doubtful)
        write_annotated(Path(output) / folder, stem, annotated)
        print(f"{name}: {annotated.labels.max()} cells, {annotated.ignore.mean():.0%} ignored", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
