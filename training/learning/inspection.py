"""``python -m training inspect``: targets drawn over the images, for a person to check before hours of training.

A picture has three panels side by side, and a legend below: the outlines of the cells, each in a colour of its own;
the contact zone, magenta; the weights of the segmentation loss, black = 1 over red and yellow to white = the greatest
of the image. Blue is what is not learned from; in the second panel also where contact is unknown, beside what nobody
annotated.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage.segmentation import find_boundaries

from deepsplit_core.images import write_png
from deepsplit_core.preprocessing import to_grey

from ..data.annotations import Annotated, Annotation
from .config import TrainConfig
from .dataset import Sample, load_samples
from .targets import Targets
from .validation import spread

CONTACT_COLOUR, UNKNOWN_COLOUR = (255, 0, 255), (40, 90, 255)
SMALLEST_SIDE = 512  # smaller images are enlarged, so that single pixels can be seen
GAP = 4  # pixels between panels
Part = str | tuple[int, int, int] | np.ndarray  # of a legend: a text, a colour, a small picture
SWATCH = 14  # pixels: the height of the legend's letters and squares


def write_pictures(annotations: Sequence[Annotation], config: TrainConfig, output: Path, n_pictures: int) -> list[Path]:
    """Write pictures of images spread evenly over the list, as training sees them; returns their files.

    Parameters
    ----------
    annotations : sequence of Annotation
    config : TrainConfig
    output : Path
        Folder for FOLDER/NAME.png.
    n_pictures : int
        At most this many.
    """
    paths = []
    for annotation in spread(annotations, n_pictures):
        annotated, targets = parts_of(load_samples([annotation], config)[0])
        paths.append(output / f"{annotation.name}.png")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        write_png(paths[-1], draw(annotated, targets))
        print(f"{paths[-1]}: {summary(annotated, targets)}", flush=True)
    return paths


def parts_of(sample: Sample) -> tuple[Annotated, Targets]:
    """Return what training learns from, as it is drawn; what nobody annotated has no weight."""
    seg_mask, separation_mask, weight_map, separation_weights = sample.targets.numpy()
    targets = Targets(seg_mask > 0, separation_mask > 0, weight_map, separation_weights)
    return Annotated(sample.image[0].numpy(), sample.labels, weight_map == 0), targets


def summary(annotated: Annotated, targets: Targets) -> str:
    """Say in numbers what the picture shows."""
    is_annotated = ~annotated.ignore
    if not is_annotated.any():
        return "nothing is annotated at the size at which the network sees it"
    shares = {
        "cell": targets.seg_mask[is_annotated],
        "contact": targets.separation_mask[is_annotated],
    }
    text = ", ".join(f"{100 * mask.mean():.1f} % {name}" for name, mask in shares.items())
    weights = targets.weight_map[is_annotated]
    n_cells = np.unique(annotated.labels[annotated.labels > 0]).size
    ignored = f", {100 * annotated.ignore.mean():.0f} % ignored" if annotated.ignore.any() else ""
    return f"{n_cells} cells, {text}{ignored}, weights {weights.min():.2g} to {weights.max():.3g}"


def draw(annotated: Annotated, targets: Targets) -> np.ndarray:
    """Draw the three panels beside each other over the legend: (Y, 3 X + gaps, 3) uint8.

    Small images are enlarged by a whole number.
    """
    enlarge = max(1, -(-SMALLEST_SIDE // max(annotated.image.shape)))
    grey = np.repeat(to_grey(annotated.image)[..., None], 3, axis=-1)
    panels = [_cells(grey, annotated), _contact(grey, targets), _weights(targets)]
    panels = [panel.repeat(enlarge, axis=0).repeat(enlarge, axis=1) for panel in panels]
    gap = np.full((panels[0].shape[0], GAP, 3), 255, np.uint8)
    pictures = np.concatenate([panels[0], gap, panels[1], gap, panels[2]], axis=1)
    low, high = _range_of(targets)
    ramp = _heat(np.tile(np.linspace(0, 3, 61), (SWATCH, 1)))
    texts: list[list[Part]] = [
        ["outlines of cells", UNKNOWN_COLOUR, "not annotated"],
        [CONTACT_COLOUR, "contact zone", UNKNOWN_COLOUR, "not learned from"],
        [f"weight {low:.3g}", ramp, f"{high:.3g}", UNKNOWN_COLOUR, "0: not learned from"],
    ]
    strips = [_legend(panel.shape[1] + GAP, parts) for panel, parts in zip(panels, texts, strict=True)]
    return np.concatenate([pictures, np.concatenate(strips, axis=1)[:, : pictures.shape[1]]])


def _legend(width: int, parts: Sequence[Part]) -> np.ndarray:
    """Return a white strip (Y, width, 3) uint8 with texts, squares of a colour, and small pictures after each other."""
    strip = Image.new("RGB", (width, 2 * SWATCH), "white")
    pen, font, x = ImageDraw.Draw(strip), ImageFont.load_default(SWATCH), SWATCH // 2
    for part in parts:
        if isinstance(part, str):
            pen.text((x, SWATCH), part, "black", font, anchor="lm")
            x += round(pen.textlength(part, font)) + SWATCH
            continue
        swatch = np.broadcast_to(np.array(part, np.uint8), (SWATCH, SWATCH, 3)) if isinstance(part, tuple) else part
        strip.paste(Image.fromarray(swatch), (x, SWATCH // 2))
        x += swatch.shape[1] + SWATCH // 2
    return np.asarray(strip)


def _cells(grey: np.ndarray, annotated: Annotated) -> np.ndarray:
    panel = _tinted(grey, annotated.ignore, UNKNOWN_COLOUR)
    outline = find_boundaries(annotated.labels, mode="inner")
    # Neighbouring numbers are far apart in hue, by the golden ratio; pieces of one cell have one colour.
    values, index = np.unique(annotated.labels[outline], return_inverse=True)
    # The hues run from purple over red and green to cyan, without the blue of what nobody annotated.
    colours = [colorsys.hsv_to_rgb((0.8 + 0.7 * (0.618034 * value % 1)) % 1, 0.9, 1) for value in values]
    panel[outline] = (255 * np.array(colours).reshape(-1, 3))[index].astype(np.uint8)
    return panel


def _contact(grey: np.ndarray, targets: Targets) -> np.ndarray:
    panel = _tinted(grey, targets.separation_weights == 0, UNKNOWN_COLOUR)
    return _tinted(panel, targets.separation_mask & (targets.separation_weights > 0), CONTACT_COLOUR)


def _weights(targets: Targets) -> np.ndarray:
    low, high = _range_of(targets)
    panel = _heat(3 * (targets.weight_map - low) / (high - low))
    panel[targets.weight_map == 0] = UNKNOWN_COLOUR
    return panel


def _range_of(targets: Targets) -> tuple[float, float]:
    """Return the weights that are drawn black and white."""
    weights = targets.weight_map
    return float(min(1.0, weights[weights > 0].min(initial=1))), float(max(2.0, weights.max(initial=0)))


def _heat(level: np.ndarray) -> np.ndarray:
    """Return black, red, yellow, white for 0, 1, 2, 3: (Y, X, 3) uint8 of (Y, X)."""
    return (255 * np.clip(np.stack([level, level - 1, level - 2], axis=-1), 0, 1)).astype(np.uint8)


def _tinted(panel: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Mix 45 % of a colour into the pixels of a mask; the image stays visible."""
    mixed = 0.55 * panel + 0.45 * np.array(colour)
    return np.where(mask[..., None], mixed, panel).astype(np.uint8)
