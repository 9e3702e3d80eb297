"""A try of a model on a device: what would be used, and how long one tile takes."""

from __future__ import annotations

import time
from typing import Callable

import numpy as np

from .config import TilingConfig
from .weights import Model, load_model


def try_device(model: str, device: str, load: Callable[[str, str], Model] = load_model) -> str:
    """Run the network on one tile of noise, and tell in a sentence what it ran on and how long it took.

    Parameters
    ----------
    model, device : str
        As `weights.load_model`.
    load : callable, optional
        Gives the model of a name on a device, as `load_model` does.

    Raises
    ------
    ValueError, RuntimeError, ImportError
        As `load_model`; or the device is out of memory.
    """
    loaded = load(model, device)
    # Imported once the model is there, so that a missing torch is reported by load_model.
    from .devices import describe, product_name
    from .inference import predict_in_memory

    tile = TilingConfig().tile
    image = np.random.default_rng(0).random((tile, tile), np.float32)
    seconds = []
    for _ in range(2):  # the shortest time counts: the first run on a graphics card prepares it
        start = time.perf_counter()
        _, tile = predict_in_memory(loaded.network, image, loaded.device, loaded.dtype, TilingConfig(tile=tile))
        seconds.append(time.perf_counter() - start)
    where, dtype = describe(loaded.device, loaded.dtype)
    return (
        f"The model {loaded.card.name} runs on {where} ({product_name(loaded.device)}) in {dtype}: "
        f"{min(seconds):.2f} s for the network on {image.shape[0]} x {image.shape[1]} pixels in tiles of {tile}."
    )
