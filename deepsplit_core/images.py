"""Reading and writing image files: TIFF, PNG."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Union

import numpy as np

if TYPE_CHECKING:
    import tifffile

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
        As stored, also where the file says that 0 is white (one bit, compressed as in a fax: as seen): (Y, X) for a
        grey image, without its opacity; with further axes for colours, planes or pages, where there are several.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is no TIFF or PNG, it cannot be read as one, it holds several images that are no stack, or a PNG's colours or
        opacity have more than 8 bits.
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
    from PIL import Image

    try:
        return _read_tiff(path) if path.suffix.lower() in TIFF_SUFFIXES else _read_png(path, is_labels)
    except (MemoryError, _UnreadableError):
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


class _UnreadableError(ValueError):
    """A file holds what is not read here, or images that are no stack: it need not be damaged."""


def _read_png(path: Path, is_labels: bool) -> np.ndarray:
    import imageio.v2
    from PIL import Image

    with Image.open(path) as picture:
        if picture.format == "PNG" and picture.mode in ("LA", "RGB", "RGBA") and (n_bits := _bits_of_png(path)) > 8:
            raise _UnreadableError(
                f"{path} has colours or opacity of {n_bits} bits, of which 8 would be read: save it as a grey image "
                "without opacity, TIFF or PNG."
            )
        if is_labels and picture.mode == "P":
            return np.asarray(picture)
        if picture.mode == "LA":  # grey values, and how opaque each pixel is
            return np.asarray(picture)[..., 0]
    return np.asarray(imageio.v2.imread(path))


def _bits_of_png(path: Path) -> int:
    """Return the bits of a grey value, or of each colour: a byte of the file's head, which Pillow does not tell."""
    with open(path, "rb") as file:
        return file.read(25)[24]


def _read_tiff(path: Path) -> np.ndarray:
    import tifffile
    from PIL import Image

    # Alone: an OME-TIFF names the files of other channels and positions, which are images of their own.
    with tifffile.TiffFile(path, _multifile=False) as file:
        len(file.pages)  # finds a damaged chain of pages that leads back into itself, which `series` follows for ever
        found = [series for series in file.series if not series.keyframe.is_reduced] or file.series  # no thumbnails
        if len(found) > 1:
            shapes = ", ".join(str(series.shape) for series in found)
            raise _UnreadableError(
                f"{path} holds {len(found)} images, of the shapes {shapes}, that are no stack: save each as a file of "
                "its own."
            )
        series, is_0_white = found[0], found[0].keyframe.photometric == 0
        try:
            return _plane_of(np.asarray(series.asarray()), series)
        except (ValueError, NotImplementedError) as error:
            if not any(words in str(error) for words in ("imagecodecs", "not supported")):
                raise
    # LZW and its like, and numbers of 4 or 12 bits: Pillow brings decoders of its own.
    try:
        with Image.open(path) as file:
            pages = []
            for page in series.pages:
                file.seek(page.index)
                pages.append(np.array(file))
        image = pages[0] if len(pages) == 1 else np.stack(pages).reshape(series.shape)
    except (MemoryError, Image.DecompressionBombError):
        raise
    except Exception as error:  # of any type, as the file may be damaged as well
        raise _UnreadableError(
            f"{path} is not read: its compression ({series.keyframe.compression.name}) or its type of numbers is not "
            f"known here ({error}). Save it uncompressed, or compressed as zip."
        ) from error
    if is_0_white and image.dtype == np.uint8:  # these it has turned round
        image = ~image
    # It knows neither signed bytes nor unsigned numbers of 32 bits, and gives their bits as the type that it knows.
    has_other_sign = {image.dtype.kind, series.dtype.kind} == {"i", "u"} and image.itemsize == series.dtype.itemsize
    return _plane_of(image.view(series.dtype.newbyteorder("=")) if has_other_sign else image, series)


def _plane_of(image: np.ndarray, series: tifffile.TiffPageSeries) -> np.ndarray:
    """Leave out the axes of length 1, in which there is nothing to choose, and how opaque each grey pixel is."""
    axes, opacity = series.axes, series.keyframe.extrasamples
    if len(axes) != image.ndim:
        return image
    if axes.endswith("S") and image.shape[-1] == 2 and opacity and opacity[0] in (1, 2):
        image = image[..., :1]
    return image.reshape([n for n, axis in zip(image.shape, axes) if n > 1 or axis in "YX"])


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


def with_replacement(path: PathLike, write: Callable[[Path], object]) -> None:
    """Call ``write(part)`` with a path beside `path`, then rename it, so that nobody sees a file half-written."""
    path = Path(path)
    # The end of a long name alone: with what is added, no file system would take it.
    part = path.with_name(f".{path.name[-40:]}.{os.getpid()}.part{path.suffix}")
    try:
        write(part)
        _replace(part, path)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(
            f"{path} could not be written ({reason}): choose a folder in which you may write, with room in it."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _replace(part: Path, path: Path) -> None:
    """Rename, and try again where it is refused: on Windows, virus scanners hold a file for a moment."""
    for pause in (0.1, 0.3, 0.6, 1.0):
        try:
            os.replace(part, path)
            return
        except PermissionError:
            time.sleep(pause)
    os.replace(part, path)
