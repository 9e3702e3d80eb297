"""DeepSplit: splits touching cells in microscopy images (Torr et al. 2020).

A U-Net with two decoders gives two probabilities for each pixel, of being cell and of being contact between two
cells; their intersection, cleaned up by a watershed that cuts along short borders only, gives the cells.

>>> from deepsplit_core import segment
>>> labels = segment(image, model="nuclei")  # doctest: +SKIP

Importing this package loads neither torch nor scikit-image: they come when the first image is segmented.
"""

from .bands import centres
from .card_page import card_page
from .clumps import Clumps, find_clumps
from .config import ModelConfig, PreprocessingConfig, SegmentConfig, SplittingConfig, TilingConfig
from .last_prediction import LastPrediction
from .measurements import CellMeasurements, measure_cells
from .metrics import Scores, evaluate, evaluate_all
from .outlines import border_pixels
from .preprocessing import check_image
from .seeding import Seeds, combine_seeds
from .segmentation import Prediction, Segmentation, predict, scale_of, segment, split_prediction
from .splitting import Split, split
from .trial import try_device
from .weights import Card, Model, WeightsError, bundled_models, load_model, read_card

__version__ = "0.1.0"

__all__ = [
    "Card",
    "CellMeasurements",
    "Clumps",
    "LastPrediction",
    "Model",
    "ModelConfig",
    "Prediction",
    "PreprocessingConfig",
    "Scores",
    "Seeds",
    "SegmentConfig",
    "Segmentation",
    "Split",
    "SplittingConfig",
    "TilingConfig",
    "WeightsError",
    "border_pixels",
    "bundled_models",
    "card_page",
    "centres",
    "check_image",
    "combine_seeds",
    "evaluate",
    "evaluate_all",
    "find_clumps",
    "load_model",
    "measure_cells",
    "predict",
    "read_card",
    "scale_of",
    "segment",
    "split",
    "split_prediction",
    "try_device",
]
