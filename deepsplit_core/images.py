"""Reading and writing image files: TIFF, PNG."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Callable, Union

import numpy as np

PathLike = Union[str, "os.PathLike[str]"]

TIFF_SUFFIXES = (".tif", ".tiff")
IMAGE_SUFFIXES = (*TIFF_SUFFIXES, ".png")


def read_image(path: PathLike, is_labels: bool = False) -> np.ndarray:
    """Read one TIFF or PNG file.

    Parameters
    ----------
    path : path
    is_labels : bool
        Of a PNG with a palette, take the numbers and not the colours, which only show them to a person.

    Returns
    -------
    array
        As stored, also where the file says that 0 is white: (Y, X) for a grey image, with further axes for colours,
        planes or pages.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is no TIFF or PNG, it cannot be read as one, or it holds several images that are no stack.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no image file {path}.")
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise ValueError(
            f"{path} is not read: its name ends in {path.suffix!r}, expected {' '.join(IMAGE_SUFFIXES)}. Save it as "
            "TIFF."
        )
    # Imported here: the command line answers --help without them.
    import imageio.v2
    from PIL import Image

    try:
        if path.suffix.lower() in TIFF_SUFFIXES:
            return _read_tiff(path)
        if is_labels:
            with Image.open(path) as file:
                if file.mode == "P":
                    return np.asarray(file)
        return np.asarray(imageio.v2.imread(path))
    except (MemoryError, _SeveralImagesError):
        raise
    except PermissionError as error:
        raise PermissionError(f"{path} may not be read ({error.strerror}): change its permissions.") from error
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{path} is not read: so large an image has to be a TIFF, uncompressed or compressed as zip ({error})."
        ) from error
    except Exception as error:  # the readers raise dozens of types for a damaged file
        raise ValueError(
            f"{path} could not be read as an image: it is damaged or of another format "
            f"({type(error).__name__}: {error})."
        ) from error


class _SeveralImagesError(ValueError):
    """A file holds images that are no stack: to take the first of them would lose the others."""


def _read_tiff(path: Path) -> np.ndarray:
    import imageio.v2
    import tifffile

    with tifffile.TiffFile(path) as file:
        found = [series for series in file.series if not series.keyframe.is_reduced] or file.series  # no thumbnails
        if len(found) > 1:
            shapes = ", ".join(str(series.shape) for series in found)
            raise _SeveralImagesError(
                f"{path} holds {len(found)} images, of the shapes {shapes}, that are no stack: save each as a file of "
                "its own."
            )
        series, is_0_white = found[0], found[0].keyframe.photometric == 0
        try:
            return np.asarray(series.asarray())
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
    # LZW and its like: Pillow brings decoders of its own.
    with imageio.v2.get_reader(path, format="TIFF-PIL") as reader:
        pages = [np.asarray(reader.get_data(page.index)) for page in series.pages]  # type: ignore[attr-defined]
    image = pages[0] if len(pages) == 1 else np.stack(pages).reshape(series.shape)
    return ~image if is_0_white and image.dtype == np.uint8 else image  # these it has turned round


def write_labels(path: PathLike, labels: np.ndarray) -> None:
    """Write labels as a compressed TIFF, complete or not at all.

    Parameters
    ----------
    path : path ending in .tif or .tiff
    labels : (Y, X) int32 array
        Written as uint16 where all labels fit, which every program opens, else as int32.
    """
    import tifffile

    stored = labels.astype(np.uint16) if labels.max(initial=0) <= np.iinfo(np.uint16).max else labels.astype(np.int32)
    with_replacement(path, lambda part: tifffile.imwrite(part, stored, compression="zlib"))


def write_png(path: PathLike, image: np.ndarray) -> None:
    """Write a (Y, X) or (Y, X, 3) uint8 image as PNG, complete or not at all."""
    import imageio.v2

    with_replacement(path, lambda part: imageio.v2.imwrite(part, image, format="png"))


def to_grey(image: np.ndarray) -> np.ndarray:
    """Stretch a (Y, X) image for a person's eyes, from the 0.5th to the 99.5th percentile: (Y, X) uint8."""
    values = image.astype(np.float32)
    low, high = np.percentile(values, [0.5, 99.5])
    return (255 * np.clip((values - low) / max(float(high - low), 1e-12), 0, 1)).astype(np.uint8)


def with_replacement(path: PathLike, write: Callable[[Path], object]) -> None:
    """Call ``write(part)`` with a path beside `path`, then rename it, so that nobody sees a file half-written."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part{path.suffix}")
    try:
        write(part)
        os.replace(part, path)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(
            f"{path} could not be written ({reason}): choose a folder in which you may write, with room in it."
        ) from error
    finally:
        if part.exists():
            part.unlink()
