"""Random views of an annotated image: shifts, flips, rotations, elastic deformation (paper, 3.2; Simard 2003).

Image and targets are sampled through one grid of coordinates, so they move together; targets are sampled at the
nearest pixel, so no new value appears. Scale and intensity go beyond the paper. So does a new view in every step: the
paper derives 19 further images from each original, which `fixed_copies` does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional

from deepsplit_core.config import Config


@dataclass(frozen=True)
class AugmentationConfig(Config):
    """How far a view may differ from the original; 0 or 1 switches a part off.

    Parameters
    ----------
    fixed_copies : int
        Each image is seen as its original and as so many fixed views of it, the same in every epoch (19 in the paper,
        3.2). 0: every view is a new one.
    undeformed : float
        Share of the views, 0 to 1, that are cut out of the image as it is, turned by quarter turns and mirrored alone:
        in any other one resampling smooths the noise and moves outlines by up to half a pixel.
    zoom : float
        The view is enlarged by 1/zoom to zoom, evenly in the logarithm.
    elastic : float
        Standard deviation of the displacement in pixels.
    elastic_period : int
        Distance in pixels between independent displacements.
    gamma : float
        Grey values (0 to 1) are raised to 1/gamma to gamma.
    contrast : float
        Grey values are multiplied by 1 - contrast to 1 + contrast.
    dimmed : float
        Share of the views, 0 to 1, whose grey values are divided by 1 to 10, evenly in the logarithm: so dim are cells
        beside something bright, which takes the contrast of the whole image.
    noise : float
        Largest standard deviation of added Gaussian noise.
    blur : float
        Largest standard deviation of a Gaussian blur in pixels.
    """

    fixed_copies: int = 0
    undeformed: float = 0.0
    zoom: float = 1.0
    elastic: float = 4.0
    elastic_period: int = 32
    gamma: float = 1.0
    contrast: float = 0.0
    dimmed: float = 0.0
    noise: float = 0.0
    blur: float = 0.0

    def __post_init__(self) -> None:
        for field in ("zoom", "gamma"):
            self._require(getattr(self, field) >= 1, field, "at least 1")
        for field in ("undeformed", "contrast", "dimmed"):
            self._require(0 <= getattr(self, field) <= 1, field, "0 to 1")
        for field in ("fixed_copies", "elastic", "noise", "blur"):
            self._require(getattr(self, field) >= 0, field, "at least 0")
        self._require(self.blur <= 8, "blur", "at most 8 pixels")
        self._require(self.elastic_period >= 4, "elastic_period", "at least 4 pixels")


def random_view(
    image: Tensor, targets: Tensor, size: int, config: AugmentationConfig, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Cut a random square out of an image, randomly deformed or not (`AugmentationConfig.undeformed`).

    Parameters
    ----------
    image : (1, Y, X) float tensor, 0 to 1
    targets : (C, Y, X) float tensor
    size : int
        Side of the view in pixels.
    config : AugmentationConfig
    generator : torch.Generator
        The view depends on its state alone.

    Returns
    -------
    image : (1, size, size) float tensor
    targets : (C, size, size) float tensor
        Values of the given targets only. Beyond the image's border both are mirrored.
    """
    if config.undeformed and _uniform(0, 1, generator) < config.undeformed:
        view, seen = _undeformed_view(image, targets, size, generator)
        return _vary_intensity(view, config, generator), seen
    grid = _random_grid(image.shape[-2:], size, config, generator)[None]
    view = functional.grid_sample(image[None], grid, mode="bilinear", padding_mode="reflection", align_corners=False)[0]
    seen = functional.grid_sample(targets[None], grid, mode="nearest", padding_mode="reflection", align_corners=False)[
        0
    ]
    return _vary_intensity(view, config, generator), seen


def original_view(image: Tensor, targets: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Cut the middle square out of an image as it is; arguments and results are those of `random_view`."""
    return _square(image, size, 0.5, 0.5), _square(targets, size, 0.5, 0.5)


def _undeformed_view(image: Tensor, targets: Tensor, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Cut a random square out of an image, turned and mirrored without resampling."""
    y, x = (_uniform(0, 1, generator) for _ in range(2))
    n_turns, is_mirrored = (int(torch.randint(n, (), generator=generator)) for n in (4, 2))
    view, seen = (torch.rot90(_square(planes, size, y, x), n_turns, (1, 2)) for planes in (image, targets))
    return (view.flip(2), seen.flip(2)) if is_mirrored else (view, seen)


def _square(planes: Tensor, size: int, y: float, x: float) -> Tensor:
    """Cut a square out of (C, Y, X) planes, 0 as far up or left and 1 as far down or right as they reach."""
    before = [max(0, size - n) // 2 for n in planes.shape[1:]]
    pads = [(n, max(0, size - side) - n) for n, side in zip(before, planes.shape[1:], strict=True)]
    ways = [max(0, side - size) for side in planes.shape[1:]]
    top, left = (min(n, int(share * (n + 1))) for share, n in zip((y, x), ways, strict=True))
    square = planes[:, top : top + size, left : left + size].numpy()
    return torch.from_numpy(np.pad(square, [(0, 0), *pads], mode="symmetric"))


def _uniform(low: float, high: float, generator: Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _random_grid(shape: Sequence[int], size: int, config: AugmentationConfig, generator: Generator) -> Tensor:
    """Coordinates (size, size, 2) for grid_sample: x, y of the image in -1..1."""
    axis = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    angle = _uniform(0, 2 * math.pi, generator)
    scale = math.exp(_uniform(-1, 1, generator) * math.log(config.zoom))
    flip = -1.0 if _uniform(0, 1, generator) < 0.5 else 1.0
    x_image = (flip * math.cos(angle) * x - math.sin(angle) * y) / scale
    y_image = (flip * math.sin(angle) * x + math.cos(angle) * y) / scale
    if config.elastic:
        # A coarse grid of independent displacements, interpolated smoothly: Simard's smoothed random field.
        n = max(2, size // config.elastic_period + 1)
        field = config.elastic * torch.randn((1, 2, n, n), generator=generator)
        field = functional.interpolate(field, size=(size, size), mode="bicubic", align_corners=True)[0]
        y_image, x_image = y_image + field[0], x_image + field[1]
    centres = []
    for n_pixels in shape:
        # The centre keeps the view inside where the image is large enough; a smaller image is seen whole.
        margin = min(size / (2 * scale), n_pixels / 2)
        centres.append(_uniform(margin, n_pixels - margin, generator))
    return torch.stack([2 * (x_image + centres[1]) / shape[1] - 1, 2 * (y_image + centres[0]) / shape[0] - 1], dim=-1)


def _vary_intensity(view: Tensor, config: AugmentationConfig, generator: Generator) -> Tensor:
    if config.blur:
        view = _blur(view, _uniform(0, config.blur, generator))
    if config.gamma > 1:
        view = view.clamp(min=0) ** math.exp(_uniform(-1, 1, generator) * math.log(config.gamma))
    if config.contrast:
        view = view * _uniform(1 - config.contrast, 1 + config.contrast, generator)
    if config.noise:
        view = view + _uniform(0, config.noise, generator) * torch.randn(view.shape, generator=generator)
    view = view.clamp(0, 1)
    if config.dimmed and _uniform(0, 1, generator) < config.dimmed:
        view = view / 10 ** _uniform(0, 1, generator)  # with its noise, as a bright thing beside it would
    return view


def _blur(view: Tensor, sigma: float) -> Tensor:
    if sigma < 0.3:  # narrower than a pixel: no visible change
        return view
    radius = math.ceil(3 * sigma)
    axis = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-(axis**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    padded = functional.pad(view[None], [radius] * 4, mode="reflect")
    return functional.conv2d(functional.conv2d(padded, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))[0]
