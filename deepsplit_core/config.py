"""The settings of a network, of its pre-processing, of tiling and of splitting, as frozen dataclasses.

They travel inside the weights file (`deepsplit_core.weights`) and with every checkpoint, so that inference
never guesses what training did.
"""

from __future__ import annotations

import dataclasses
import numbers
import sys
from dataclasses import dataclass
from typing import Any, Callable, TypeVar

C = TypeVar("C", bound="Config")
LONGEST_SEED_DISTANCE = 1000.0  # pixels: the time that seeds take grows with the square of it


def _is_number(value: object) -> bool:
    # Compared, as `math.isfinite` fails for whole numbers that no float can hold.
    is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return is_real and bool(abs(value) <= sys.float_info.max)  # type: ignore[arg-type]


# By the type of a field's default: what its value must be, as a question and in words.
_TYPES: dict[type, tuple[Callable[[Any], bool], str]] = {
    bool: (lambda value: isinstance(value, bool), "true or false"),
    int: (lambda value: _is_number(value) and isinstance(value, numbers.Integral), "a whole number"),
    float: (_is_number, "a finite number"),
    str: (lambda value: isinstance(value, str), "a text"),
}


@dataclass(frozen=True)
class Config:
    """A frozen dataclass of plain values that goes to a dictionary and back."""

    @classmethod
    def from_dict(cls: type[C], values: dict[str, Any]) -> C:
        """Build from a dictionary, its parts from dictionaries in it.

        Raises
        ------
        ValueError
            No dictionary, a key that this class does not know, or a value of another type than its default or that it
            refuses.
        """
        if not isinstance(values, dict):
            raise ValueError(f"{cls.__name__} is {values!r}, but it must be a table of its values.")
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(f"{cls.__name__} does not know {unknown}; it knows {known}.")
        for field in dataclasses.fields(cls):
            expected = _TYPES.get(type(field.default))
            if field.name in values and expected and not expected[0](values[field.name]):
                raise ValueError(
                    f"{cls.__name__}.{field.name} is {values[field.name]!r}, but it must be {expected[1]}."
                )
        factories = {field.name: field.default_factory for field in dataclasses.fields(cls)}
        parts: dict[str, Any] = {name: part for name, part in factories.items() if isinstance(part, type)}
        return cls(**{name: parts[name].from_dict(v) if name in parts else v for name, v in values.items()})

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary of plain values, ready for JSON."""
        return dataclasses.asdict(self)

    def _require(self, condition: bool, field: str, expected: str) -> None:
        if not condition:
            raise ValueError(f"{type(self).__name__}.{field} is {getattr(self, field)!r}, but it must be {expected}.")


@dataclass(frozen=True)
class ModelConfig(Config):
    """Which network, and how wide. The defaults are the paper's (section 2, Fig. 2).

    Parameters
    ----------
    architecture : {"unet", "deepsplit", "branch_net", "double_unet"}
    base_width : int
        Feature maps of the first level; every level below has twice as many (64..1024 in the paper).
    n_levels : int
        Encoder blocks. The image is halved ``n_levels - 1`` times.
    dropout : float
        Share of activations that training sets to zero after every block, 0 to 1.
    normalisation : {"none", "batch"}
        "batch" puts batch normalisation before every ReLU. The paper has none. Normalisations whose
        statistics depend on the image are not offered: a tile would see others than the whole image.
    passes : {1, 2}
        2: the segmentation comes from a second trunk with weights of its own, as in the paper, which intersects
        the segmentation of training stage 1 with the separation of stage 2 (4.1). The export of a run sets it.
    """

    architecture: str = "deepsplit"
    base_width: int = 64
    n_levels: int = 5
    dropout: float = 0.2
    normalisation: str = "none"
    passes: int = 1

    def __post_init__(self) -> None:
        names = ("unet", "deepsplit", "branch_net", "double_unet")
        self._require(self.architecture in names, "architecture", f"one of {names}")
        self._require(isinstance(self.base_width, int) and 1 <= self.base_width <= 256, "base_width", "1 to 256")
        self._require(isinstance(self.n_levels, int) and 2 <= self.n_levels <= 7, "n_levels", "2 to 7")
        self._require(0 <= self.dropout < 1, "dropout", "at least 0 and below 1")
        self._require(self.normalisation in ("none", "batch"), "normalisation", "'none' or 'batch'")
        allowed = (1,) if self.architecture == "unet" else (1, 2)
        self._require(self.passes in allowed, "passes", " or ".join(map(str, allowed)))

    @property
    def multiple(self) -> int:
        """Height and width of the network's input are multiples of this, in pixels."""
        return int(2 ** (self.n_levels - 1))


@dataclass(frozen=True)
class PreprocessingConfig(Config):
    """How grey values become the network's input.

    Parameters
    ----------
    method : {"equalise", "percentile"}
        "equalise": histogram equalisation (paper, 3.2). "percentile": the grey values at the two
        percentiles become 0 and 1; values outside are clipped.
    low, high : float
        The percentiles, 0 to 100, of the pixels of the whole image.
    shrink : float
        Pixels of the image for each pixel that the network sees: 2 halves both sides, which takes a quarter of the
        time and lets the network see twice as far. For cells that are large in the images trained on.
    diameter : float
        The network sees every image at the scale at which its typical cell (`sizes.typical_diameter`) is so many
        pixels across; 0: as it is, but for `shrink`. For cells of all sizes.
    """

    method: str = "equalise"
    low: float = 1.0
    high: float = 99.8
    shrink: float = 1.0
    diameter: float = 0.0

    def __post_init__(self) -> None:
        self._require(self.method in ("equalise", "percentile"), "method", "'equalise' or 'percentile'")
        self._require(0 <= self.low < self.high, "low", f"at least 0 and below high ({self.high})")
        self._require(self.high <= 100, "high", "at most 100")
        self._require(1 <= self.shrink <= 8, "shrink", "1 to 8")
        self._require(self.diameter == 0 or self.diameter >= 8, "diameter", "0 or at least 8 pixels")
        self._require(not self.diameter or self.shrink == 1, "shrink", "1 where diameter says how large cells are")


@dataclass(frozen=True)
class TilingConfig(Config):
    """How an image is cut up for the network.

    Parameters
    ----------
    tile : int
        Longest side of a tile in pixels, a multiple of 16. It bounds the memory that the network takes.
    halo : int
        Pixels, a multiple of 16, that a tile reads beyond what it keeps, so that no seam shows.
    batch : int
        Tiles that go through the network at once.
    """

    tile: int = 1024
    halo: int = 64
    batch: int = 1

    def __post_init__(self) -> None:
        self._require(self.halo >= 0, "halo", "at least 0")
        self._require(self.tile > 2 * self.halo, "tile", f"more than twice the halo ({self.halo})")
        self._require(self.batch >= 1, "batch", "at least 1")


@dataclass(frozen=True)
class SplittingConfig(Config):
    """How probabilities become cells (paper, 3.2 "Post-processing" and 4.1). Lengths in pixels, areas in square pixels.

    Parameters
    ----------
    segmentation_threshold : float
        A pixel is foreground from this segmentation probability on.
    separation_threshold : float
        A foreground pixel is contact between two cells from this separation probability on.
    smallest_cell : float
        Segments with a smaller area are dropped.
    smallest_share : float
        But none with at least this share of the area of the image's typical cell (`bands.typical_area`), so that
        cells which are all small are kept; 1: `smallest_cell` alone counts. Where the typical cell is smaller than
        `smallest_cell` itself there is nothing but dust.
    largest_hole : float
        Holes inside one cell are filled up to this area.
    watershed : bool
        Cut what is still merged where two watershed regions meet along a short border.
    longest_cut : float
        Borders up to this length become cuts; longer ones are inner edges of one cell.
    neck : float
        A border becomes a cut only if it is at most this share of the width of the narrower of its two pieces:
        the inner borders of a thin cell are short, but as long as the cell is wide.
    seed_distance : float
        Seeds of the watershed are at least this far apart.
    contact_to_cells : bool
        Give contact pixels back to the nearest cell, so that touching cells share a border without a gap.
    """

    segmentation_threshold: float = 0.5
    separation_threshold: float = 0.5
    smallest_cell: float = 20.0
    smallest_share: float = 0.25
    largest_hole: float = 100.0
    watershed: bool = True
    longest_cut: float = 8.0
    neck: float = 0.8
    seed_distance: float = 6.0
    contact_to_cells: bool = True

    def __post_init__(self) -> None:
        # At 0 the pixels outside a mask, and those of a constant image, would be cell.
        self._require(0 < self.segmentation_threshold <= 1, "segmentation_threshold", "above 0 and at most 1")
        self._require(0 <= self.separation_threshold <= 1, "separation_threshold", "0 to 1")
        for field in ("smallest_cell", "largest_hole", "longest_cut", "neck"):
            self._require(getattr(self, field) >= 0, field, "at least 0")
        self._require(0 <= self.smallest_share <= 1, "smallest_share", "0 to 1")
        is_possible = 1 <= self.seed_distance <= LONGEST_SEED_DISTANCE
        self._require(is_possible, "seed_distance", f"1 to {LONGEST_SEED_DISTANCE:,.0f} pixels")

    def scaled(self, factor: float) -> SplittingConfig:
        """Return the same settings for an image that is enlarged by `factor`."""
        return dataclasses.replace(
            self,
            smallest_cell=self.smallest_cell * factor**2,
            largest_hole=self.largest_hole * factor**2,
            longest_cut=self.longest_cut * factor,
            seed_distance=min(max(1.0, self.seed_distance * factor), LONGEST_SEED_DISTANCE),
        )


@dataclass(frozen=True)
class SegmentConfig(Config):
    """What a user asks for one image. None means: as the model's card says. Lengths are pixels of the image given.

    Parameters
    ----------
    model : str
        Name of a bundled model, or path of a weights file.
    diameter : float
        Expected cell diameter in pixels; 0: that of the model, or estimated where it does not see the cells well
        (`segmentation.predict`). The image is rescaled to the model's own diameter for the network, and the labels
        come back at full size.
    device : str
        "auto", "cpu", "cuda", "cuda:N" or "mps".
    segmentation_threshold, separation_threshold, smallest_cell, largest_hole, longest_cut : float or None
    watershed, contact_to_cells : bool or None
        See `SplittingConfig`. Under seeds only the smallest cell that is set here counts, not the model's own.
    largest_cell : float or None
        Cells with a larger area are discarded; None: there is no limit.
    discard_border : bool
        Discard cells that touch the border of the image.
    discard_mask_border : bool
        Discard cells that touch the border of the image's mask.
    """

    model: str = "nuclei"
    diameter: float = 0.0
    device: str = "auto"
    segmentation_threshold: float | None = None
    separation_threshold: float | None = None
    smallest_cell: float | None = None
    largest_hole: float | None = None
    longest_cut: float | None = None
    watershed: bool | None = None
    contact_to_cells: bool | None = None
    largest_cell: float | None = None
    discard_border: bool = False
    discard_mask_border: bool = False

    def __post_init__(self) -> None:
        self._require(self.diameter == 0 or self.diameter >= 1, "diameter", "0 (as trained) or at least 1 pixel")
        self.splitting(SplittingConfig(), 1.0)  # a wrong setting is refused here, before the network has run
        if self.largest_cell is not None:
            smallest = self.smallest_cell or 0
            self._require(_is_number(self.largest_cell), "largest_cell", "a finite number")
            self._require(self.largest_cell >= smallest, "largest_cell", f"at least the smallest cell ({smallest:g})")

    def splitting(self, trained: SplittingConfig, scale: float) -> SplittingConfig:
        """Return the settings for the image given: the model's own, rescaled, under the user's.

        Parameters
        ----------
        trained : SplittingConfig
            The model's own settings, in pixels of the images that it was trained on.
        scale : float
            Pixels of the image given for each pixel of the model's images.
        """
        names = {field.name for field in dataclasses.fields(SplittingConfig)}
        chosen = {name: value for name, value in self.to_dict().items() if name in names and value is not None}
        own = trained.scaled(scale)
        asked = SplittingConfig.from_dict({**own.to_dict(), **chosen})
        if self.smallest_cell is None:
            return asked
        if asked.smallest_cell < own.smallest_cell:
            return dataclasses.replace(asked, smallest_share=1.0)  # what the user says holds for any image
        # A larger limit than the model's own is for whole cells, once they are split: of one that is dropped before,
        # its neighbours would take the pixels, and pieces below the limit would not be cut off.
        return dataclasses.replace(asked, smallest_cell=own.smallest_cell)
