"""The whole flow on one screen: image -> pre-processing -> network -> probabilities -> splitting -> labels."""

from __future__ import annotations

import dataclasses
import logging
import time
from typing import Any, Callable, NamedTuple

import numpy as np

from .bands import areas_of
from .config import SegmentConfig, SplittingConfig, TilingConfig
from .outlines import borders, touches_image_border, touches_mask_border
from .preprocessing import check_image, is_constant, preprocess
from .seeding import Seeds
from .sizes import brightest_window, estimated_scale
from .splitting import consecutive, split
from .weights import Card, Model, load_model

LOGGER = logging.getLogger(__name__)
LARGEST_SCALE = 10  # an image enlarged further would hold no more detail, and fill the memory
LARGEST_ESTIMATE = 4  # of a scale: what seems still smaller or larger is hardly a cell
LOOKS = 3  # at most, to find out how large the cells are


class Prediction(NamedTuple):
    """What the network says of an image.

    Attributes
    ----------
    probabilities : (2, Y, X) float16 array, 0 to 1
        Segmentation and separation, at the size of the image given.
    card : Card
        Of the model that was used.
    scale : float
        Pixels of the image given for each pixel of the images that the model was trained on.
    sha256, device, dtype : str
        Weights, device and number type that were used.
    seconds : float
        Time of pre-processing and network; loading the model is not in it.
    mask : (Y, X) bool array or None
        Where cells may be.
    tile : int
        The longest side that a tile of the image may have had, in the network's pixels; 0 for a constant image, which
        it does not see.
    """

    probabilities: np.ndarray
    card: Card
    scale: float
    sha256: str
    device: str
    dtype: str
    seconds: float
    mask: np.ndarray | None
    tile: int


class Segmentation(NamedTuple):
    """The cells of an image and how they came about.

    Attributes
    ----------
    labels : (Y, X) int32 array
        0 = background, 1..n = one cell each.
    small_removed_labels : (Y, X) int32 array
        The same and, with the numbers after theirs, the cells that were discarded, but for those that are too small.
    small : (Y, X) int32 array
        What is too small, for the model or for the config, with numbers of its own.
    touching : (Y, X) int32 array
        All cells that were found, also those that were discarded for their size or place, with the contact pixels
        given back, whether or not the config asks for it.
    numbers : (n,) int array
        The number of each cell of `labels` in `touching`.
    seeds : (n,) int array or None
        The seed of each cell of `labels`.
    n_cuts : int
        Pairs of cells between which the watershed cut; with seeds, all that share a border.
    splitting : SplittingConfig
        The settings in effect.
    prediction : Prediction
    seconds : float
        Time of splitting.
    """

    labels: np.ndarray
    small_removed_labels: np.ndarray
    small: np.ndarray
    touching: np.ndarray
    numbers: np.ndarray
    seeds: np.ndarray | None
    n_cuts: int
    splitting: SplittingConfig
    prediction: Prediction
    seconds: float

    @property
    def all_labels(self) -> np.ndarray:
        """`small_removed_labels`, and after their numbers what is too small: (Y, X) int32."""
        if not self.small.any():
            return self.small_removed_labels
        n = self.small_removed_labels.max(initial=0)
        return np.where(self.small > 0, consecutive(self.small) + n, self.small_removed_labels).astype(np.int32)


def segment(image: np.ndarray, model: str = "nuclei", **settings: Any) -> np.ndarray:
    """Split the cells of an image.

    Parameters
    ----------
    image : (Y, X) array of any integer, float or bool type
        See `preprocessing.check_image`.
    model : str
        Name of a bundled model, or path of a weights file.
    **settings
        Fields of `SegmentConfig`: diameter, device, thresholds, sizes, watershed, contact_to_cells, and what is
        discarded.

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

    The network looks at the image as it is, and once or twice again at the size of the cells found, if the model does
    not see those well (`sizes.estimated_scale`) and the config does not say how large they are. A model that sees all
    cells at one size (`PreprocessingConfig.diameter`) finds that out where a large image is brightest
    (`sizes.brightest_window`).

    Parameters
    ----------
    image : (Y, X) array of any integer, float or bool type
    config : SegmentConfig
        Its model, diameter and device are used here; everything else belongs to `split_prediction`.
    mask : (Y, X) bool array, optional
        Outside of it there are no cells, and grey values do not count in the normalisation. The network still sees
        what lies there, so that cells at the mask's border look as they are.
    load : callable, optional
        Gives the model of a name on a device, as `load_model` does.
    """
    mask = None if mask is None else np.asarray(mask, bool)
    image = check_image(image, mask)
    model = load(config.model, config.device)
    scale = scale_of(config, model.card)
    # Imported once the model is there, so that a missing torch is reported by load_model.
    from .devices import describe

    start = time.perf_counter()
    if is_constant(image, mask):  # nothing stands out from anything
        probabilities, tile = np.zeros((2, *image.shape), np.float16), 0
    else:
        seen = preprocess(image, model.card.preprocessing, mask)
        is_one_size = model.card.preprocessing.diameter > 0
        is_estimated = not config.diameter and model.card.diameter > 0  # 0: a network that has no file yet
        window = slice(None), slice(None)
        if is_one_size and is_estimated:
            window = brightest_window(seen if mask is None else seen * mask)
        within = None if mask is None else mask[window]
        probabilities, tile = _look(seen[window], within, model, scale)
        for _ in range(LOOKS - 1 if is_estimated else 0):
            better = estimated_scale(probabilities, model.card.splitting, scale, model.card.diameter, is_one_size)
            better = min(max(better, 1 / LARGEST_ESTIMATE), LARGEST_ESTIMATE)
            if better == scale:
                break
            LOGGER.info("Typical cells are %.0f pixels across: looking again.", better * model.card.diameter)
            scale = better
            probabilities, tile = _look(seen[window], within, model, scale)
        if probabilities.shape[1:] != image.shape:
            probabilities, tile = _look(seen, mask, model, scale)
    seconds = time.perf_counter() - start
    return Prediction(
        probabilities, model.card, scale, model.sha256, *describe(model.device, model.dtype), seconds, mask, tile
    )


def _look(image: np.ndarray, mask: np.ndarray | None, model: Model, scale: float) -> tuple[np.ndarray, int]:
    """Let the network see a pre-processed image with one pixel for `scale` of its own: probabilities, and tile side."""
    from . import inference

    seen = inference.shrink(image, scale * model.card.preprocessing.shrink)
    probabilities, tile = inference.predict_in_memory(model.network, seen, model.device, model.dtype, TilingConfig())
    del seen  # as large as the probabilities, where the image was enlarged
    probabilities = inference.resize(probabilities, image.shape)
    if mask is not None:
        probabilities[:, ~mask] = 0
    return probabilities, tile


def scale_of(config: SegmentConfig, card: Card) -> float:
    """Return how many pixels of the image stand for one of those trained on; ValueError if that is out of range."""
    scale = config.diameter / card.diameter if config.diameter else 1.0
    if not 1 / LARGEST_SCALE <= scale <= LARGEST_SCALE:
        raise ValueError(
            f"The expected cell diameter is {config.diameter:g} pixels, but this model takes "
            f"{card.diameter / LARGEST_SCALE:.3g} to {card.diameter * LARGEST_SCALE:.3g}; its own cells have "
            f"{card.diameter:g}. Check the diameter, or resample the image."
        )
    return scale


def split_prediction(prediction: Prediction, config: SegmentConfig, seeds: Seeds | None = None) -> Segmentation:
    """Turn a prediction into cells, with the model's own settings where `config` does not say otherwise.

    Parameters
    ----------
    prediction : Prediction
    config : SegmentConfig
    seeds : Seeds, optional
        One cell for each; foreground without a seed is no cell. Cells are numbered without gaps: they have their seeds'
        numbers where seeds are 1..n, all inside the mask, and none is discarded.
    """
    start = time.perf_counter()
    shape = prediction.probabilities.shape[1:]
    if seeds is not None and seeds.labels.shape != shape:
        raise ValueError(f"The seeds have the shape {seeds.labels.shape}, the image {shape}: they must be equal.")
    splitting = config.splitting(prediction.card.splitting, prediction.scale)
    if seeds is not None:  # a seed says that there is a cell, whatever the model's cells are like
        splitting = dataclasses.replace(splitting, smallest_cell=0.0, smallest_share=1.0)
    found = split(prediction.probabilities, splitting, None if seeds is None else seeds.labels)
    labels, touching, small = found.labels, found.touching, found.small
    if prediction.mask is not None:  # filling holes does not know it, and a hole in it may lie inside a cell
        labels, touching, small = (np.where(prediction.mask, part, 0) for part in (labels, touching, small))

    areas = areas_of(labels)
    present = np.flatnonzero(areas[1:]) + 1
    is_small = areas < (config.smallest_cell or 0.0)
    is_small[0] = False
    small = np.where(is_small[labels], labels + small.max(initial=0), small) if is_small.any() else small
    keep = ~is_small
    if config.largest_cell is not None:
        keep &= areas <= config.largest_cell
    if config.discard_border:
        keep &= ~touches_image_border(labels)
    if config.discard_mask_border and prediction.mask is not None:
        keep &= ~touches_mask_border(labels, prediction.mask)
    if seeds is not None:
        keep[seeds.n + 1 :] = False
        touching = _renumbered(touching, present)
    kept = present[keep[present]]
    discarded = present[~(keep | is_small)[present]]
    is_as_numbered = seeds is None and kept.size == present.size
    small_removed = labels if is_as_numbered else _renumbered(labels, np.concatenate([kept, discarded]))
    return Segmentation(
        labels=_renumbered(labels, kept) if discarded.size else small_removed,
        small_removed_labels=small_removed,
        small=small,
        touching=touching,
        numbers=np.searchsorted(present, kept) + 1,
        seeds=None if seeds is None else kept,
        n_cuts=found.n_cuts if seeds is None or prediction.mask is None else len(borders(touching).pairs),
        splitting=splitting,
        prediction=prediction,
        seconds=time.perf_counter() - start,
    )


def _renumbered(labels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Give the labels `values` the numbers 1..n, in their order, and set all others to background."""
    number = np.zeros(int(labels.max(initial=0)) + 1, np.int32)
    number[values] = np.arange(1, values.size + 1)
    return number[labels]
