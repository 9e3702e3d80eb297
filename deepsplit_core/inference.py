"""The network over a whole image, tile by tile: image (Y, X) -> probabilities (2, Y, X)."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import torch
from torch.nn import functional

from .allocator import keep_memory, release_memory
from .architectures import UNet
from .config import TilingConfig
from .tiling import plan

LOGGER = logging.getLogger(__name__)
MANY_TILES = 16  # splitting a larger image takes as much memory as the network; getting it again costs little beside it
BAND_ROWS = 256  # of an image that is made narrower at once
SMALLEST_TILE = 256  # pixels; half of the side of a smaller one would be halo


def predict(
    network: UNet, image: np.ndarray, device: torch.device, dtype: torch.dtype, tiling: TilingConfig
) -> np.ndarray:
    """Run the network over an image of any size.

    Parameters
    ----------
    network : UNet
        In evaluation mode, on the device and of the number type, in channels-last layout (`weights.load_model`).
    image : (Y, X) float32 array, 0 to 1
        Pre-processed.
    device : torch.device
    dtype : torch.dtype
    tiling : TilingConfig
        Bounds the memory that the network takes, whatever the size of the image.

    Returns
    -------
    (2, Y, X) float16 array, 0 to 1
        Segmentation and separation probability. A network without a separation decoder finds no contact: 0.
        float16 has steps of 0.0005 at most, a tenth of what bfloat16 computes with.

    Raises
    ------
    RuntimeError
        The network computed NaN, or ran out of memory.
    """
    if device.type == "cpu":
        keep_memory()
    probabilities = np.zeros((2, *image.shape), np.float16)
    tiles = plan(image.shape, tiling, network.multiple)
    pixel_type = torch.float32 if dtype == torch.int8 else dtype  # a network of integers takes the image as it is
    with torch.inference_mode():
        for start in range(0, len(tiles), tiling.batch):
            batch = tiles[start : start + tiling.batch]
            pixels = torch.from_numpy(np.stack([tile.cut(image)[None] for tile in batch]))
            pixels = pixels.to(device, pixel_type, memory_format=torch.channels_last)
            logits = network(pixels).float()
            if logits.sum().isnan():
                raise RuntimeError(
                    "The network computed NaN in place of probabilities: its weights are damaged or its training went "
                    "wrong. Take another weights file."
                )
            results = torch.sigmoid(logits).half().cpu().numpy()
            for tile, result in zip(batch, results):
                tile.paste(result, probabilities[: network.n_outputs])
    if len(tiles) > MANY_TILES:
        release_memory()
    return probabilities


def predict_in_memory(
    network: UNet, image: np.ndarray, device: torch.device, dtype: torch.dtype, tiling: TilingConfig
) -> tuple[np.ndarray, int]:
    """Do as `predict`, with tiles of half the side each time that a graphics card runs out of memory.

    Returns
    -------
    probabilities : (2, Y, X) float16 array, 0 to 1
    tile : int
        The longest side of a tile that fitted, in pixels.

    Raises
    ------
    RuntimeError
        Not even the smallest tile fitted. Another device is never used instead.
    """
    while True:
        try:
            return predict(network, image, device, dtype, tiling), tiling.tile
        except RuntimeError as error:
            if device.type == "cpu" or not _is_out_of_memory(error):
                raise
            smaller = tiling.tile // 2
            if smaller < SMALLEST_TILE:
                raise RuntimeError(
                    f"The device {device} has too little free memory for a tile of {tiling.tile} pixels ({error}). "
                    "Close other programs that use it, let fewer CellProfiler workers run at once (File > "
                    "Preferences), or select the CPU as device."
                ) from error
        # Outside of the handler: the error held what the network had allocated.
        if device.type == "cuda":
            torch.cuda.empty_cache()
        LOGGER.warning("Device %s is out of memory with tiles of %d pixels: trying %d.", device, tiling.tile, smaller)
        tiling = dataclasses.replace(tiling, tile=smaller)


def _is_out_of_memory(error: RuntimeError) -> bool:
    # MPS has no error type of its own for it.
    return isinstance(error, torch.cuda.OutOfMemoryError) or "out of memory" in str(error)


def resize(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Resample (..., Y, X) of any float type linearly to another Y, X; what shrinks is smoothed first."""
    if image.shape[-2:] == tuple(shape):
        return image
    planes = image.reshape(-1, *image.shape[-2:])
    n_rows, n_columns = shape
    resized = np.empty((len(planes), *shape), image.dtype)
    for plane, result in zip(planes, resized):
        if n_columns < plane.shape[1]:  # first the rows, which is the same: of few at a time, as torch needs float32
            bands = np.array_split(plane, -(-len(plane) // BAND_ROWS))
            plane = np.concatenate([_resized_plane(band, (len(band), n_columns)) for band in bands])
        result[:] = _resized_plane(plane, (n_rows, n_columns))
    return resized.reshape(*image.shape[:-2], *shape)


def _resized_plane(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    pixels = torch.from_numpy(np.ascontiguousarray(plane, np.float32))[None, None]
    resized = functional.interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=True)
    result: np.ndarray = resized[0, 0].numpy()
    return result


def shrink(image: np.ndarray, factor: float) -> np.ndarray:
    """Resample (..., Y, X) so that one pixel stands for `factor` of the image, below 1 for an enlarged one."""
    return resize(image, tuple(max(1, round(n / factor)) for n in image.shape[-2:]))
