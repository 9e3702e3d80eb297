"""DeepSplit: splits touching cells in microscopy images (Torr et al. 2020).

A U-Net with two decoders gives two probabilities for each pixel, of being cell and of being contact between two
cells; their intersection, cleaned up by a watershed that cuts along short borders only, gives the cells.

>>> from deepsplit_core import segment
>>> labels = segment(image, model="nuclei")  # doctest: +SKIP

Importing this package loads neither torch nor scikit-image: they come when the first image is segmented.
"""

from .config import ModelConfig, PreprocessingConfig, SegmentConfig, SplittingConfig, TilingConfig
from .metrics import Scores, evaluate, evaluate_all
from .segmentation import Prediction, Segmentation, predict, segment, split_prediction
from .splitting import Split, split
from .weights import Card, Model, WeightsError, bundled_models, load_model, read_card

__version__ = "0.1.0"

__all__ = [
    "Card",
    "Model",
    "ModelConfig",
    "Prediction",
    "PreprocessingConfig",
    "Scores",
    "SegmentConfig",
    "Segmentation",
    "Split",
    "SplittingConfig",
    "TilingConfig",
    "WeightsError",
    "bundled_models",
    "evaluate",
    "evaluate_all",
    "load_model",
    "predict",
    "read_card",
    "segment",
    "split",
    "split_prediction",
]
