"""Annotated images in memory, and the random batches that the network learns from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from deepsplit_core.config import PreprocessingConfig
from deepsplit_core.inference import shrink
from deepsplit_core.preprocessing import is_constant, preprocess
from deepsplit_core.segmentation import LARGEST_ESTIMATE, LARGEST_SCALE
from deepsplit_core.sizes import typical_diameter

from ..data.annotations import Annotation
from .augmentation import original_view, random_view
from .config import TrainConfig
from .distributed import share_of
from .targets import make_targets


class Sample(NamedTuple):
    """One annotated image, ready for training.

    Attributes
    ----------
    image : (1, Y, X) float32 tensor, 0 to 1
    targets : (4, Y, X) float32 tensor
        Segmentation mask, separation mask, weights of the segmentation loss, weights of the separation loss.
    labels : (Y, X) int32 array
    folder : str
        The data folder that the image is from.
    """

    image: Tensor
    targets: Tensor
    labels: np.ndarray
    folder: str = ""


def load_samples(annotations: Sequence[Annotation], config: TrainConfig) -> list[Sample]:
    """Read, pre-process and derive the targets, once for the whole training."""
    samples = []
    for annotation in annotations:
        image, labels, ignore = annotation.read()
        if is_constant(image):
            raise ValueError(f"{annotation.image_path} has one grey value everywhere: nothing can be learned from it.")
        scale = pixels_for_one(labels, config.preprocessing)
        if config.preprocessing.diameter and not 1 / LARGEST_ESTIMATE <= scale <= LARGEST_SCALE:
            raise ValueError(
                f"{annotation.labels_path} has cells of {scale * config.preprocessing.diameter:.3g} pixels, which are "
                f"to be brought to {config.preprocessing.diameter:g}: an image is enlarged at most {LARGEST_ESTIMATE} "
                f"times and shrunk at most {LARGEST_SCALE} times. Mend the labels, leave the image out or, if all "
                "cells are so small or large, start from a model that sees images as they are, such as nuclei."
            )
        image = preprocess(image, config.preprocessing)
        if config.preprocessing.diameter and not labels.any():
            # Without cells there is no true size: `segment` may enlarge it up to so many times, and here its name says
            # by which of five factors it is. A corner fills no more memory.
            scale = LARGEST_ESTIMATE ** -(crc32(annotation.name.encode()) % 5 / 4)
            corner = tuple(slice(max(1, round(n * scale))) for n in image.shape)
            image, labels, ignore = image[corner], labels[corner], ignore[corner]
        image = shrink(image, scale)[None]
        labels, ignore = (nearest(part, image.shape[1:]) for part in (labels, ignore))
        targets = np.stack(make_targets(labels, config.targets, ignore)).astype(np.float32)
        folder = annotation.name.split("/")[0]
        samples.append(Sample(torch.from_numpy(image), torch.from_numpy(targets), labels, folder))
    return samples


def pixels_for_one(labels: np.ndarray, config: PreprocessingConfig) -> float:
    """Return how many pixels of an image stand for one that the network sees, when the cells are known."""
    found = typical_diameter(labels) if config.diameter else 0.0
    return found / config.diameter if found else config.shrink


def nearest(labels: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Resample (Y, X) to another shape; every pixel takes the value at its middle, so that no new one appears."""
    y, x = (((np.arange(n) + 0.5) * side / n).astype(int) for n, side in zip(shape, labels.shape, strict=True))
    return labels[np.ix_(y, x)]


class RandomBatches(Dataset):
    """The batches of a stage: item `step` is the same in every run with the seed, so a resumed run sees the same.

    Views are drawn when they are asked for, each from a seed of its own; none is kept, fixed copies neither. Of
    several processes each draws its share of the batch.

    Parameters
    ----------
    samples : sequence of Sample
    config : TrainConfig
    stage : int
        Number of the stage; each has views of its own. Fixed copies are the same in all stages.
    """

    def __init__(self, samples: Sequence[Sample], config: TrainConfig, stage: int) -> None:
        # Tensors alone: where loaders are new processes (Windows), each gets a copy of anything else.
        self.planes = [annotated_part(sample, config.view // 2) for sample in samples]
        self.config, self.stage = config, stage
        self.numbers = share_of(range(config.batch))
        # What is drawn from: a group is drawn first, then an image in it.
        self.empty = [number for number, s in enumerate(samples) if not s.labels.any()] if config.empty_share else []
        groups: dict[str, list[int]] = {}
        for number, sample in enumerate(samples):
            if number not in self.empty:
                groups.setdefault(sample.folder if config.balance_folders else "all", []).append(number)
        self.groups = list(groups.values())

    def __len__(self) -> int:
        """Return the number of steps of all stages, which none exceeds."""
        return (self.config.segmentation_epochs + self.config.separation_epochs) * self.config.epoch_steps

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """Return images (N, 1, view, view) and targets (N, 4, view, view), float32."""
        views = [self._view(step, number) for number in self.numbers]
        images, targets = (torch.stack(part) for part in zip(*views, strict=True))
        return images, targets

    def _view(self, step: int, number: int) -> tuple[Tensor, Tensor]:
        config = self.config
        generator = seeded(config.seed, self.stage, step, number)
        if self.empty and float(torch.rand((), generator=generator)) < config.empty_share:
            group = self.empty
        else:
            group = self.groups[int(torch.randint(len(self.groups), (), generator=generator))]
        chosen = group[int(torch.randint(len(group), (), generator=generator))]
        if not config.augmentation.fixed_copies:
            return random_view(*self.planes[chosen], config.view, config.augmentation, generator)
        copy = int(torch.randint(1 + config.augmentation.fixed_copies, (), generator=generator))
        return fixed_view(*self.planes[chosen], chosen, copy, config)


def annotated_part(sample: Sample, margin: int) -> tuple[Tensor, Tensor]:
    """Return image and targets of what was annotated, and a margin around it: other views would teach nothing."""
    is_annotated = sample.targets[2].numpy() > 0
    if not is_annotated.any():  # shrunk, a few annotated pixels may be none
        return sample.image, sample.targets
    inside = [np.flatnonzero(is_annotated.any(axis=axis)) for axis in (1, 0)]
    rows, columns = (slice(max(0, found[0] - margin), found[-1] + 1 + margin) for found in inside)
    return sample.image[:, rows, columns], sample.targets[:, rows, columns]


def fixed_view(image: Tensor, targets: Tensor, number: int, copy: int, config: TrainConfig) -> tuple[Tensor, Tensor]:
    """Return one of the fixed views of an image, whose number in the run this is; copy 0 is the original."""
    if copy == 0:
        return original_view(image, targets, config.view)
    return random_view(image, targets, config.view, config.augmentation, seeded(config.seed, number, copy))


def seeded(*numbers: int) -> torch.Generator:
    """Return a generator whose numbers have nothing to do with those of any other seed."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))
