"""Drawn images of touching cells whose truth is known: shapes, stain, optics, camera, in that order.

What is drawn: cells of very variable shape and size, alone, in islands or in confluent sheets; bright and dim ones side
by side; stains of the cytoplasm, of its fibres, of the membrane or of several; flat cells that fade towards their edge;
nuclei brighter or darker than the cytoplasm, as with a GFP-YAP marker (paper, section 1); uneven light, blur, photon
and camera noise. Also fields without a cell, of light, dirt and noise, which a plate has too. A seed gives the same
image each time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from scipy import ndimage
from skimage.measure import label

from deepsplit_core.splitting import consecutive

LARGEST_GREY = 4095  # of a camera with 12 bits


class Simulated(NamedTuple):
    """A drawn image and its truth.

    Attributes
    ----------
    image : (Y, X) uint16 array
    labels : (Y, X) int32 array
        0 = background, 1..n = one cell each, 4-connected; touching cells share a border without a gap. Parts of
        one cell that the image's border cuts apart are cells of their own.
    """

    image: np.ndarray
    labels: np.ndarray


def simulate(
    seed: int, shape: tuple[int, int] = (512, 512), diameter: float = 40.0, has_cells: bool = True
) -> Simulated:
    """Draw one image.

    Parameters
    ----------
    seed : int
        Kind of tissue, stain, optics and camera are drawn from it as well.
    shape : (int, int)
        Y and X.
    diameter : float
        Typical diameter of a cell in pixels.
    has_cells : bool
        False draws an empty field, whose labels are 0.
    """
    if diameter < 8 or min(shape) < diameter:
        raise ValueError(
            f"Cells of {diameter:g} pixels in an image of {shape} cannot be drawn: the diameter must be at least 8, "
            "and the image at least as large as a cell."
        )
    rng = np.random.default_rng(seed)
    # The scene reaches beyond the image, whose border then cuts cells, membranes and haze as a camera's does.
    margin = round(diameter)
    scene = (shape[0] + 2 * margin, shape[1] + 2 * margin)
    labels = draw_shapes(rng, scene, diameter) if has_cells else np.zeros(scene, np.int32)
    density = draw_stain(rng, labels, diameter) if has_cells else draw_dirt(rng, scene)
    image = take_picture(rng, density, diameter)
    if not has_cells and rng.random() < 0.5:
        # Resampled, registered or compressed images have smooth noise, whose grain looks like small cells.
        image = np.round(ndimage.gaussian_filter(image.astype(float), rng.uniform(0.4, 2))).astype(np.uint16)
    inside = (slice(margin, -margin), slice(margin, -margin))
    return Simulated(image[inside].copy(), label(labels[inside], connectivity=1).astype(np.int32))


def draw_shapes(rng: Generator, shape: tuple[int, int], diameter: float) -> np.ndarray:
    """Return labels (Y, X) int32: each pixel belongs to the cell that is nearest in the cell's own measure."""
    spacing = diameter * rng.uniform(0.8, 1.1)
    centres = _scatter(rng, shape, spacing)
    kind = rng.choice(["full", "gaps", "islands"])
    if kind == "gaps":
        centres = centres[rng.random(len(centres)) < rng.uniform(0.3, 0.95)]
    elif kind == "islands":
        centres = centres[_is_island(rng, centres, shape, diameter * rng.uniform(2, 6))]
    # A sheet covers everything; elsewhere a cell ends a little beyond its own outline.
    reach = 2.5 if kind != "islands" and rng.random() < 0.5 else rng.uniform(0.9, 1.4)
    amount, flow, aligned = rng.uniform(0.1, 0.5), rng.uniform(0, np.pi), rng.uniform(0, 1)
    # Borders wind on the scale of the cell, which gives protrusions, and on that of a few pixels.
    wound = diameter * sum(
        size * np.stack([_smooth_noise(rng, shape, diameter * period) for _ in shape])
        for size, period in ((rng.uniform(0.02, 0.15), 0.6), (rng.uniform(0.0, 0.03), 0.15))
    )
    nearest = np.full(shape, reach)
    labels = np.zeros(shape, np.int32)
    for number, centre in enumerate(centres, start=1):
        radius = spacing / 2 * np.exp(rng.normal(0, amount / 2))
        stretch = np.exp(rng.normal(0, amount))
        angle = flow + (1 - aligned) * rng.uniform(0, np.pi)
        window = _window(centre, reach * radius * max(stretch, 1 / stretch) + 0.5 * diameter, shape)
        y, x = np.mgrid[window] + wound[(slice(None), *window)] - centre[:, None, None]
        along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        distance = np.hypot(along / stretch, across * stretch) / radius
        is_nearer = distance < nearest[window]
        nearest[window][is_nearer] = distance[is_nearer]
        labels[window][is_nearer] = number
    return _largest_pieces(labels, smallest=0.05 * diameter**2)


def draw_stain(rng: Generator, labels: np.ndarray, diameter: float) -> np.ndarray:
    """Return the stain's density (Y, X) float, about 1 in a cell of middling brightness and 0 outside."""
    is_border = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        is_border |= (labels != np.roll(labels, 1, axis)) | (labels != np.roll(labels, -1, axis))
    depth = ndimage.distance_transform_edt(~is_border)
    n = int(labels.max(initial=0))
    brightness = np.append(0, np.exp(rng.normal(0, rng.uniform(0.1, 0.6), n)))
    # A cell is thicker towards its middle, and never even.
    thickness = rng.uniform(0.2, 1) + 1 - np.exp(-depth / (diameter * rng.uniform(0.05, 0.3)))
    grain = np.exp(rng.uniform(0, 0.3) * _smooth_noise(rng, labels.shape, diameter * rng.uniform(0.05, 0.3)))
    body = brightness[labels] * thickness * grain
    cells = np.arange(1, n + 1)
    centres = np.array(ndimage.maximum_position(depth, labels, cells)).reshape(-1, 2)
    if rng.random() < 0.3:
        body = body * _fading(rng, labels, centres, diameter)
    if rng.random() < 0.3:
        body = body * _fibres(rng, labels, diameter)
    if rng.random() < 0.7:
        body = body * _nuclei(rng, labels, depth, centres, diameter)
    width = max(0.6, diameter * rng.uniform(0.01, 0.04))
    patches = np.exp(rng.uniform(0.1, 0.6) * _smooth_noise(rng, labels.shape, diameter * 0.2))
    membrane = np.exp(-(depth**2) / (2 * width**2)) * patches * (ndimage.maximum_filter(labels, 3) > 0)
    share = rng.choice([0.0, 1.0, rng.uniform(0.2, 0.8)], p=[0.4, 0.25, 0.35])
    density = (1 - share) * body + share * (rng.uniform(1, 4) * membrane + rng.uniform(0, 0.3) * body)
    specks = np.zeros(labels.shape)
    n_specks = rng.poisson(np.exp(rng.uniform(np.log(0.1), np.log(10))) * n)
    specks[tuple(rng.integers(0, labels.shape, (n_specks, 2)).T)] = rng.uniform(2, 20, n_specks)
    return density + ndimage.gaussian_filter(specks, 1.0)


def draw_dirt(rng: Generator, shape: tuple[int, int]) -> np.ndarray:
    """Return the density (Y, X) float of what lies in a field without cells: a few bright specks, often none."""
    dirt = np.zeros(shape)
    n_specks = rng.poisson(np.exp(rng.uniform(np.log(0.1), np.log(30))))
    dirt[tuple(rng.integers(0, shape, (n_specks, 2)).T)] = np.exp(rng.uniform(0, np.log(100), n_specks))
    return ndimage.gaussian_filter(dirt, rng.uniform(0.5, 1.2))


def take_picture(rng: Generator, density: np.ndarray, diameter: float) -> np.ndarray:
    """Return what a microscope and its camera make of a stain: (Y, X) uint16."""
    light = np.exp(rng.uniform(0, 0.4) * _smooth_noise(rng, density.shape, max(density.shape) * 0.7))
    sharp = ndimage.gaussian_filter(density, rng.uniform(0.5, 1.5))
    haze = ndimage.gaussian_filter(density, diameter * rng.uniform(0.3, 1))  # from above and below the focus
    seen = light * (sharp + rng.uniform(0, 0.4) * haze + rng.uniform(0.02, 0.3))
    n_photons = np.exp(rng.uniform(np.log(20), np.log(2000)))
    counted = rng.poisson(seen * n_photons) / n_photons + rng.normal(0, rng.uniform(0, 0.03), seen.shape)
    exposed = counted * rng.uniform(0.3, 0.9) * LARGEST_GREY / np.percentile(seen, 99.5) + rng.uniform(0, 200)
    return np.clip(np.round(exposed), 0, LARGEST_GREY).astype(np.uint16)


def _scatter(rng: Generator, shape: tuple[int, int], spacing: float) -> np.ndarray:
    """Return centres (n, 2) on a loosened grid that reaches beyond the image."""
    y, x = (np.arange(-spacing, n + 2 * spacing, spacing) for n in shape)
    grid = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1)
    grid[1::2, :, 1] += spacing / 2  # every other row is shifted: six neighbours
    centres: np.ndarray = grid.reshape(-1, 2) + rng.normal(0, 0.2 * spacing, (grid.size // 2, 2))
    return centres


def _is_island(rng: Generator, centres: np.ndarray, shape: tuple[int, int], period: float) -> np.ndarray:
    """Return which centres (n, 2) lie in islands, about `period` pixels across, that cover a part of it: (n,) bool."""
    height = _smooth_noise(rng, shape, period)
    y, x = (np.clip(at, 0, n - 1).astype(int) for at, n in zip(centres.T, shape, strict=True))
    is_island: np.ndarray = height[y, x] > np.quantile(height, rng.uniform(0.3, 0.8))
    return is_island if is_island.any() else np.ones(len(centres), bool)


def _window(centre: np.ndarray, reach: float, shape: tuple[int, ...]) -> tuple[slice, slice]:
    low = np.clip(np.floor(centre - reach), 0, shape).astype(int)
    high = np.clip(np.ceil(centre + reach) + 1, 0, shape).astype(int)
    return slice(low[0], high[0]), slice(low[1], high[1])


def _smooth_noise(rng: Generator, shape: tuple[int, ...], period: float) -> np.ndarray:
    """Return noise (Y, X) of mean 0 and standard deviation 1 or so, smooth over `period` pixels."""
    coarse = rng.normal(size=[int(np.ceil(n / period)) + 3 for n in shape])
    at = np.mgrid[tuple(slice(n) for n in shape)] / period + 1
    return ndimage.map_coordinates(coarse, at, order=3, mode="nearest") * 1.5


def _fading(rng: Generator, labels: np.ndarray, centres: np.ndarray, diameter: float) -> np.ndarray:
    """Return factors (Y, X): about 1 around each cell's centre (n, 2), and less towards the edge of a flat cell."""
    away = np.mgrid[tuple(slice(n) for n in labels.shape)] - np.vstack([[0, 0], centres]).T[:, labels]
    least = rng.uniform(0.1, 0.6)
    factors: np.ndarray = least + (1 - least) * np.exp(-np.hypot(*away) / (diameter * rng.uniform(0.2, 0.8)))
    return factors


def _fibres(rng: Generator, labels: np.ndarray, diameter: float) -> np.ndarray:
    """Return factors (Y, X) around 1: filaments that run in one direction in a cell, in another in the next."""
    length, width = diameter * rng.uniform(0.3, 1.5), max(1.0, diameter * rng.uniform(0.015, 0.06))
    angle = rng.uniform(0, np.pi) + rng.normal(0, rng.uniform(0.1, 1.5), int(labels.max(initial=0)) + 1)
    cos, sin = np.cos(angle)[labels], np.sin(angle)[labels]
    y, x = np.mgrid[tuple(slice(n) for n in labels.shape)]
    noise = rng.normal(size=(64, 512))  # it is met again only far away, or in cells that run elsewhere
    at = np.stack([(sin * y + cos * x) / length, (cos * y - sin * x) / width])
    factors: np.ndarray = np.exp(rng.uniform(0.2, 0.7) * ndimage.map_coordinates(noise, at, order=3, mode="grid-wrap"))
    return factors


def _nuclei(rng: Generator, labels: np.ndarray, depth: np.ndarray, centres: np.ndarray, diameter: float) -> np.ndarray:
    """Return factors (Y, X): 1 in the cytoplasm, above or below it in one round nucleus where a cell is deepest."""
    cells = np.arange(1, len(centres) + 1)
    deepest = ndimage.maximum(depth, labels, cells)
    # Dark and bright ones in one image: YAP goes in and out of the nucleus, and may leave the cytoplasm dim.
    ratios = np.exp(rng.normal(rng.uniform(-0.8, 2.0), rng.uniform(0, 0.5), cells.size))
    size, softness = rng.uniform(0.35, 0.7), 0.05 * diameter
    factors = np.ones(labels.shape)
    for cell, centre, deep, ratio in zip(cells, centres, deepest, ratios, strict=True):
        radius = min(size * deep + 1, 0.35 * diameter)
        window = _window(centre, radius + 3 * softness, labels.shape)
        y, x = np.mgrid[window] - centre[:, None, None]
        inside = 1 / (1 + np.exp((np.hypot(y, x) - radius) / (0.3 * softness)))
        factors[window] += (ratio - 1) * inside * (labels[window] == cell)
    return factors


def _largest_pieces(labels: np.ndarray, smallest: float) -> np.ndarray:
    """Keep the largest 4-connected piece of each cell, if it is large enough, without holes, and renumber."""
    kept = np.zeros_like(labels)
    for cell, window in enumerate(ndimage.find_objects(labels), start=1):
        if window is None:
            continue
        pieces, _ = ndimage.label(labels[window] == cell)
        areas = np.bincount(pieces.ravel())[1:]
        if areas.max() >= smallest:
            piece = pieces == 1 + areas.argmax()
            # A cell that another one surrounds stays: it is no hole.
            kept[window][piece | (ndimage.binary_fill_holes(piece) & (kept[window] == 0))] = cell
    return consecutive(kept)
