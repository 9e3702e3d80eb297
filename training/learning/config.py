"""What a training run is: one frozen dataclass, which travels in the checkpoint."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from deepsplit_core.config import Config, ModelConfig, PreprocessingConfig

from .augmentation import AugmentationConfig
from .targets import TargetConfig


@dataclass(frozen=True)
class TrainConfig(Config):
    """One run.

    Parameters
    ----------
    network, preprocessing, targets, augmentation : Config
    start_from : str
        A bundled model or a weights file whose weights the run starts from; empty: from random ones.
    teacher : str
        A bundled model or a weights file whose probabilities are mixed into both masks of the targets; empty: none.
    teacher_share : float
        Share of the teacher's probabilities, 0 to 1, beside the annotation.
    schedule : {"cumulative", "simultaneous"}
        First segmentation, then separation (paper, 4.1), or both from scratch (4.2); see `schedule.stages_of`.
    seed : int
        Of the division of the images, the first weights and the random views.
    picture : str
        A regular expression that finds in the file name of an image, without ending, which picture or movie it is a
        piece or a frame of; if it has groups, what these match counts alone. Those of one picture, in one folder, stay
        in one part of the division (`division.pictures_of`). Empty: each image by itself.
    balance_folders : bool
        Each data folder is seen equally often, however many images it holds. False: each image.
    empty_share : float
        Share of the views, 0 to 1, that are of images without a cell, if there are any; 0: drawn as all others.
    view : int
        Side of a training view in pixels.
    batch : int
        Views in a step.
    segmentation_epochs, separation_epochs : int
        Longest lengths of stage 1 and stage 2; both together are that of the simultaneous schedule.
    epoch_steps : int
        Steps of an epoch; after each one the validation images are looked at.
    patience : int
        A stage has converged, and ends, when this many epochs brought no better validation loss; 0: never.
    optimiser : {"adam", "sgd", "momentum", "adagrad", "adadelta"}
        The paper tested these and took Adam (3.2). "momentum" is SGD with a momentum of 0.9.
    learning_rate : float
        Of the optimiser. The default is right for Adam alone: 1e-2 to 1e-1 for the SGDs, 1e-2 for AdaGrad, 1 for
        AdaDelta.
    learning_rate_schedule : {"cosine", "constant"}
        "cosine": it falls to zero along half a cosine over each stage.
    validation_images : int
        At most this many are looked at after an epoch, at most twice the view's side of each; 0: all.
    picture_epochs : int
        After so many epochs, and after the last of a stage that has its full length, a picture of a validation image
        is written; 0: none.
    freeze_trunk : bool
        Stage 2 trains the separation part alone. The segmentation then stays that of stage 1, which the paper
        intersects with the separation of stage 2, and one pass gives both. False retrains all as the paper does:
        the weights file then holds the trunk of stage 1 as well, and a prediction takes two passes.
    one_pass : bool
        Where stage 2 retrains all: both results are those of stage 2, and nothing of stage 1 is kept. The weights file
        is smaller, and a prediction takes half the time.
    segmentation_loss_weight : float
        Of the segmentation loss in stage 2, beside 1 for the separation (0.3 in the paper).
    """

    network: ModelConfig = field(default_factory=ModelConfig)
    preprocessing: PreprocessingConfig = field(default_factory=PreprocessingConfig)
    targets: TargetConfig = field(default_factory=TargetConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    start_from: str = ""
    teacher: str = ""
    teacher_share: float = 0.5
    schedule: str = "cumulative"
    seed: int = 0
    picture: str = ""
    balance_folders: bool = False
    empty_share: float = 0.0
    view: int = 256
    batch: int = 8
    segmentation_epochs: int = 20
    separation_epochs: int = 20
    epoch_steps: int = 100
    patience: int = 0
    optimiser: str = "adam"
    learning_rate: float = 1e-3
    learning_rate_schedule: str = "cosine"
    validation_images: int = 50
    picture_epochs: int = 5
    freeze_trunk: bool = True
    one_pass: bool = False
    segmentation_loss_weight: float = 0.3

    def __post_init__(self) -> None:
        for name in ("batch", "segmentation_epochs", "separation_epochs", "epoch_steps"):
            self._require(getattr(self, name) >= 1, name, "at least 1")
        multiple = self.network.multiple
        self._require(self.view > 0 and self.view % multiple == 0, "view", f"a multiple of {multiple}, above 0")
        reach = math.ceil(3 * self.augmentation.blur)  # the blur mirrors so many pixels at the borders of a view
        self._require(self.view > reach, "view", f"above {reach}, three times augmentation.blur")
        choices = {
            "schedule": ("cumulative", "simultaneous"),
            "optimiser": ("adam", "sgd", "momentum", "adagrad", "adadelta"),
            "learning_rate_schedule": ("cosine", "constant"),
        }
        for name, allowed in choices.items():
            self._require(getattr(self, name) in allowed, name, f"one of {allowed}")
        for name in ("seed", "patience", "validation_images", "picture_epochs"):
            self._require(getattr(self, name) >= 0, name, "at least 0")
        self._require(0 <= self.teacher_share <= 1, "teacher_share", "0 to 1")
        self._require(0 <= self.empty_share < 1, "empty_share", "0 to 1, below 1")
        if self.network.passes != 1:
            raise ValueError("network.passes is 2, but the export of a run sets it: leave it out.")
        try:
            re.compile(self.picture)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"picture is '{self.picture}', which is no regular expression: {error}.") from error
        self._require(self.segmentation_loss_weight > 0, "segmentation_loss_weight", "above 0")
        self._require(self.learning_rate > 0, "learning_rate", "above 0")


def differences(then: TrainConfig, now: TrainConfig) -> str:
    """Say in which settings two configurations differ: "seed: then 1, now 2"."""
    before, after = dict(flat(then.to_dict())), dict(flat(now.to_dict()))
    return "; ".join(f"{key}: then {before[key]!r}, now {after[key]!r}" for key in after if before[key] != after[key])


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Return nested tables as (dotted key, value)."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
