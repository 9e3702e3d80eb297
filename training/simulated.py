"""``python -m training simulate``: a folder of drawn images with their labels, as training takes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tqdm import tqdm

from .data.annotations import Annotated
from .data.prepare import write_annotated
from .simulation import simulate


def write_simulated(output: Path, n_images: int, seed: int, size: int, diameter: float, has_cells: bool = True) -> None:
    """Write images/NAME.tif and labels/NAME.tif, uint16 each; every file complete or not at all.

    Parameters
    ----------
    output : Path
        A new or an empty folder.
    n_images : int
    seed : int
        From 0 on. Each image has a seed of its own, so that folders with different seeds have no image in common.
    size : int
        Pixels a side.
    diameter : float
        Typical diameter of a cell in pixels.
    has_cells : bool
        False draws empty fields, whose labels are 0.

    Raises
    ------
    ValueError
        The folder holds files already, there would be no image, or an image holds more cells than uint16 can number.
    """
    for option, value, least in (("--number", n_images, 1), ("--seed", seed, 0)):
        if value < least:
            raise ValueError(f"{option} is {value}, but it must be at least {least}.")
    if output.exists() and any(output.iterdir()):
        raise ValueError(f"{output} holds files already: give another folder.")
    for number in tqdm(range(n_images), "drawing", leave=False, disable=None):
        own_seed = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
        image, labels = simulate(own_seed, (size, size), diameter, has_cells)
        if labels.max() > np.iinfo(np.uint16).max:
            raise ValueError(f"An image of {size} x {size} pixels holds {labels.max()} cells: give a smaller --size.")
        write_annotated(output, f"drawn{number:04d}", Annotated(image, labels, np.zeros(labels.shape, bool)))
    print(f"{output}: {n_images} images of {size} x {size} pixels")
