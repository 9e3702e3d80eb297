"""The whole flow on one screen: image -> pre-processing -> network -> probabilities -> splitting -> labels."""

from __future__ import annotations

import time
from typing import Any, Callable, NamedTuple

import numpy as np

from .config import SegmentConfig, TilingConfig
from .preprocessing import check_image, is_constant, preprocess
from .splitting import consecutive, drop_at_border, split
from .weights import Card, Model, load_model

LARGEST_SCALE = 10  # an image enlarged further would hold no more detail, and fill the memory


class Prediction(NamedTuple):
    """What the network says of an image.

    Attributes
    ----------
    probabilities : (2, Y, X) float32 array, 0 to 1
        Segmentation and separation, at the size of the image given.
    card : Card
        Of the model that was used.
    scale : float
        Pixels of the image given for each pixel that the network saw.
    sha256, device, dtype : str
        Weights, device and number type that were used.
    seconds : float
        Time of pre-processing and network; loading the model is not in it.
    mask : (Y, X) bool array or None
        Where cells may be.
    """

    probabilities: np.ndarray
    card: Card
    scale: float
    sha256: str
    device: str
    dtype: str
    seconds: float
    mask: np.ndarray | None


class Segmentation(NamedTuple):
    """The cells of an image and how they came about.

    Attributes
    ----------
    labels : (Y, X) int32 array
        0 = background, 1..n = one cell each.
    all_labels : (Y, X) int32 array
        The same, before cells at the border were discarded.
    n_cuts : int
        Borders along which the watershed cut.
    prediction : Prediction
    seconds : float
        Time of splitting.
    """

    labels: np.ndarray
    all_labels: np.ndarray
    n_cuts: int
    prediction: Prediction
    seconds: float


def segment(image: np.ndarray, model: str = "nuclei", **settings: Any) -> np.ndarray:
    """Split the cells of an image.

    Parameters
    ----------
    image : (Y, X) array of any integer, float or bool type
    model : str
        Name of a bundled model, or path of a weights file.
    **settings
        Fields of `SegmentConfig`: diameter, device, thresholds, sizes, watershed, contact_to_cells, discard_border.

    Returns
    -------
    (Y, X) int32 array
        0 = background, 1..n = one cell each.

    Raises
    ------
    ValueError
        The image, a setting or the weights file cannot be used; the message says why and what would do.
    RuntimeError
        The device is not on this machine.

    Examples
    --------
    >>> labels = segment(image, diameter=30)  # doctest: +SKIP
    """
    config = SegmentConfig.from_dict({"model": model, **settings})
    return split_prediction(predict(image, config), config).labels


def predict(
    image: np.ndarray,
    config: SegmentConfig,
    mask: np.ndarray | None = None,
    load: Callable[[str, str], Model] = load_model,
) -> Prediction:
    """Run pre-processing and network.

    Parameters
    ----------
    image : (Y, X) array of any integer, float or bool type
    config : SegmentConfig
        Its model, diameter and device are used here; everything else belongs to `split_prediction`.
    mask : (Y, X) bool array, optional
        Outside of it there are no cells, and its grey values do not count.
    load : callable, optional
        Gives the model of a name on a device, as `load_model` does.
    """
    image = check_image(image)
    if mask is not None and mask.shape != image.shape:
        raise ValueError(f"The mask has the shape {mask.shape}, its image {image.shape}: they must be equal.")
    model = load(config.model, config.device)
    scale = _scale(config, model.card)
    # Imported once the model is there, so that a missing torch is reported by load_model.
    from . import inference
    from .devices import describe

    start = time.perf_counter()
    if is_constant(image, mask):  # nothing stands out from anything
        probabilities = np.zeros((2, *image.shape), np.float32)
    else:
        seen = preprocess(image, model.card.preprocessing, mask)
        seen = inference.resize(seen, tuple(max(1, round(n / scale)) for n in image.shape))
        probabilities = inference.predict(model.network, seen, model.device, model.dtype, TilingConfig())
        probabilities = inference.resize(probabilities, image.shape)
    if mask is not None:
        probabilities[:, ~mask] = 0
    seconds = time.perf_counter() - start
    return Prediction(
        probabilities, model.card, scale, model.sha256, *describe(model.device, model.dtype), seconds, mask
    )


def _scale(config: SegmentConfig, card: Card) -> float:
    scale = config.diameter / card.diameter if config.diameter else 1.0
    if not 1 / LARGEST_SCALE <= scale <= LARGEST_SCALE:
        raise ValueError(
            f"The expected cell diameter is {config.diameter:g} pixels, but the model's cells have {card.diameter:g}: "
            f"it may be at most {LARGEST_SCALE} times as large or small. Check the diameter, or resample the image."
        )
    return scale


def split_prediction(prediction: Prediction, config: SegmentConfig) -> Segmentation:
    """Turn a prediction into cells, with the model's own settings where `config` does not say otherwise."""
    start = time.perf_counter()
    labels, n_cuts = split(prediction.probabilities, config.splitting(prediction.card.splitting, prediction.scale))
    if prediction.mask is not None:  # filling holes does not know it: a small hole in it may lie inside a cell
        labels = consecutive(np.where(prediction.mask, labels, 0))
    kept = drop_at_border(labels) if config.discard_border else labels
    return Segmentation(kept, labels, n_cuts, prediction, time.perf_counter() - start)
