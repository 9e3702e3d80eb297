"""A grey image of any type becomes the network's input (paper, 3.2 "Pre-processing"): numpy in, float32 out."""

from __future__ import annotations

import math

import numpy as np

from .config import PreprocessingConfig

_COLOUR_CHANNELS = (3, 4)


def check_image(image: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Return the image as an array, or say what is wrong with it.

    Parameters
    ----------
    image : (Y, X) array of any integer, float or bool type
        Or (Y, X, 3 or 4), where three equal channels are a grey image stored as a colour one, and a fourth is opacity.
    mask : (Y, X) bool array, optional
        NaN and infinity outside of it, as a division leaves them beside a cropped well, become the median inside.

    Returns
    -------
    (Y, X) array
        In the machine's own byte order.

    Raises
    ------
    ValueError
        It is not a grey 2-D image, has no pixels, holds NaN or infinity inside the mask, or is a masked array; or
        the mask has another shape.
    """
    if np.ma.is_masked(image):
        raise ValueError(
            "The image is a masked array, whose masked pixels would be segmented like any other: give its data, and "
            "what is inside as the argument `mask` of `deepsplit_core.predict`."
        )
    image = np.asarray(image)
    if image.dtype.kind == "U":
        raise ValueError(f"The image is the text {str(image)[:80]!r}: read the file first (`skimage.io.imread`).")
    if image.dtype.kind not in "buif":
        raise ValueError(f"The image has values of type {image.dtype}, but integers, floats or bools are needed.")
    image = image.astype(image.dtype.newbyteorder("="), copy=False)  # FITS files have the other one
    is_colour = image.ndim == 3 and image.shape[-1] in _COLOUR_CHANNELS
    if image.ndim != 2 and not is_colour:
        raise ValueError(
            f"The image has {image.ndim} dimensions (shape {image.shape}), but a 2-D grey image (Y, X) is needed: "
            "choose one plane or one channel."
        )
    if mask is not None and mask.shape != image.shape[:2]:
        raise ValueError(f"The mask has the shape {mask.shape}, its image {image.shape[:2]}: they must be equal.")
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        inside = image if mask is None else image[mask]
        n_bad = int(np.count_nonzero(~np.isfinite(inside)))
        if n_bad:
            raise ValueError(
                f"The image holds NaN or infinity in {n_bad} of {image.size} values, but finite grey values are "
                "needed: replace them before segmenting (ImageMath in CellProfiler)."
            )
        image = np.where(np.isfinite(image), image, np.median(inside) if inside.size else 0).astype(image.dtype)
    if is_colour and image.size and (image[..., 1:3] == image[..., :1]).all():
        image = image[..., 0]
    elif is_colour:
        raise ValueError(
            f"The image has {image.shape[-1]} colour channels (shape {image.shape}), but one grey channel (Y, X) is "
            "needed: convert it to grey (ColorToGray in CellProfiler) or choose the channel of the cells."
        )
    if image.size == 0:
        raise ValueError(f"The image has no pixels (shape {image.shape}): choose another region or file.")
    return image


def is_constant(image: np.ndarray, mask: np.ndarray | None = None) -> bool:
    """Return whether all pixels (inside the mask) have one grey value, so that there is nothing to segment."""
    values = image if mask is None else image[mask]
    return values.size == 0 or bool(values.min() == values.max())


def preprocess(image: np.ndarray, config: PreprocessingConfig, mask: np.ndarray | None = None) -> np.ndarray:
    """Bring the grey values to the range that the network was trained on.

    Parameters
    ----------
    image : (Y, X) array
        Checked by `check_image` and not constant.
    config : PreprocessingConfig
        As recorded in the weights file.
    mask : (Y, X) bool array, optional
        The grey values are judged inside it alone.

    Returns
    -------
    (Y, X) float32 array, 0 to 1
        Nothing depends on the unit of the grey values: 12-bit counts and the same image in 0..1 give the same.
    """
    # float32 has 7 digits: enough for bool, 8 and 16 bits; a narrow range of a wider type may lie beyond them.
    is_wide = image.dtype.itemsize > 2 and image.dtype != np.float32
    if image.dtype.kind in "iu" and image.dtype.itemsize == 8:  # a large offset would take all digits of a float
        image = image.astype(np.uint64) - image.min().astype(np.uint64)  # right modulo 2**64, and so right
    image = image.astype(np.float64 if is_wide else np.float32)
    values = image.ravel() if mask is None else image[mask]
    if config.method == "equalise":
        return _equalise(image, values)
    # Rounded to the image's type: two percentiles may differ by less than it can tell.
    low, high = np.percentile(values, [config.low, config.high]).astype(image.dtype)
    if high == low:  # almost all pixels are equal, a few are not
        low, high = values.min(), values.max()
    with np.errstate(over="ignore"):
        span = high - low
    if not 0 < span < math.inf:
        raise ValueError(
            f"The grey values reach from {low:g} to {high:g}, a range that {image.dtype} cannot tell: bring them to "
            "everyday size, by subtracting what all have in common and dividing."
        )
    # In place: `image` is a copy, and a large one.
    image -= low
    image /= span
    return np.clip(image, 0, 1, out=image).astype(np.float32, copy=False)


def to_grey(image: np.ndarray) -> np.ndarray:
    """Stretch a (Y, X) image for a person's eyes, from the 0.5th to the 99.5th percentile: (Y, X) uint8."""
    if is_constant(image):
        return np.zeros(image.shape, np.uint8)
    return (255 * preprocess(image, PreprocessingConfig("percentile", low=0.5, high=99.5))).astype(np.uint8)


def _equalise(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Replace each grey value by the share of pixels that are not brighter, exactly: bins would move it about."""
    levels, counts = np.unique(values, return_counts=True)
    shares = np.concatenate([[0], np.cumsum(counts) / values.size]).astype(np.float32)
    return shares[np.searchsorted(levels, image, side="right")]
