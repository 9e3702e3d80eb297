"""The last prediction is kept, so that thresholds and splitting can be tried without running the network again."""

from __future__ import annotations

import hashlib
from typing import Callable

import numpy as np

from .config import SegmentConfig
from .segmentation import Prediction
from .weights import sha256_of


class LastPrediction:
    """One prediction, and what it was made of.

    It takes 4 bytes for each pixel of the image, which is why a run over many images keeps none: it never sees an
    image twice.
    """

    def __init__(self) -> None:
        self._key: tuple[object, ...] | None = None
        self._prediction: Prediction | None = None

    def predict(
        self,
        predict: Callable[[np.ndarray, SegmentConfig, np.ndarray | None], Prediction],
        image: np.ndarray,
        config: SegmentConfig,
        mask: np.ndarray | None,
        where: object = None,
    ) -> Prediction:
        """Return what `predict` returned last time if image, mask, model, diameter and device are the same as then.

        Parameters
        ----------
        predict : callable
            `segmentation.predict`, or another with its arguments.
        image, config, mask
            As `segmentation.predict`. Of the config, what belongs to the splitting may differ.
        where : object, optional
            What tells where `predict` runs the network; it has to be equal too.
        """
        key = (_content(image), _content(mask), sha256_of(config.model), config.diameter, config.device, where)
        if self._prediction is None or key != self._key:
            self._prediction = None  # two at once would take twice the memory
            self._prediction = predict(image, config, mask)
            self._key = key
        return self._prediction


def _content(array: np.ndarray | None) -> tuple[object, ...] | None:
    if array is None:
        return None
    array = np.ascontiguousarray(array)
    return array.shape, array.dtype.str, hashlib.blake2b(array.data, digest_size=16).digest()
