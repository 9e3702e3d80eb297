"""The weights file: safetensors with a JSON card in its header, so that a network is rebuilt from its file alone.

Reading a card needs neither torch nor the whole file, and nothing is ever unpickled.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import struct
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .config import Config, ModelConfig, PreprocessingConfig, SplittingConfig

if TYPE_CHECKING:
    import torch

    from .architectures import UNet

FORMAT_VERSION = 1
CARD_KEY = "deepsplit"
LARGEST_HEADER = 1_000_000  # bytes; a header of ours has some 20,000
BUNDLED = Path(__file__).parent / "models"


class WeightsError(ValueError):
    """A weights file cannot be used; the message names the file and the reason."""


@dataclass(frozen=True)
class Card:
    """What a weights file says of itself.

    Attributes
    ----------
    name, description : str
    network : ModelConfig
    preprocessing : PreprocessingConfig
    splitting : SplittingConfig
        Thresholds and lengths chosen on validation images, in pixels of the training images.
    diameter : float
        Of the cells that the model knows, in pixels: the typical one of a training image (`sizes.typical_diameter`),
        the median over images; or the size that all are brought to. Of `nuclei` and `cells-phase` the median cell.
    data : list of dict
        Training images: name, source, licence, number of images.
    known_failures : str
        Where the model is known to be wrong, for a person who chooses one.
    metrics : dict
        Scores on held-out test images, by data set.
    training : dict
        Configuration of the run with its seed, versions, numbers of images, and which weights it started from.
    format_version : int
    """

    name: str
    description: str
    network: ModelConfig
    preprocessing: PreprocessingConfig
    splitting: SplittingConfig
    diameter: float
    data: list[dict[str, Any]] = field(default_factory=list)
    known_failures: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """Return the card as JSON."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Card:
        """Build from JSON; ValueError where it is of a later version or a value is missing, unknown or wrong."""
        try:
            values = json.loads(text) if isinstance(text, str) else None
        except RecursionError as error:
            raise ValueError("its card is no JSON object") from error
        if not isinstance(values, dict):
            raise ValueError("its card is no JSON object")
        version = values.get("format_version")
        if version != FORMAT_VERSION:
            raise ValueError(
                f"its format has the version {version}, this deepsplit reads version {FORMAT_VERSION}: update deepsplit"
            )
        names = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(values) - names)
        if unknown:
            raise ValueError(f"its card has unknown entries {unknown}")
        parts: dict[str, type[Config]] = {
            "network": ModelConfig,
            "preprocessing": PreprocessingConfig,
            "splitting": SplittingConfig,
        }
        try:
            for name, part in parts.items():
                values[name] = part.from_dict(values[name])
            card = cls(**values)
        except (KeyError, TypeError) as error:
            raise ValueError(f"its card is incomplete ({error})") from error
        if not isinstance(card.diameter, (int, float)) or not 1 <= card.diameter <= 10_000:
            raise ValueError(f"its cell diameter is {card.diameter} pixels, expected 1 to 10,000")
        if card.preprocessing.diameter and abs(card.preprocessing.diameter - card.diameter) > 0.1:  # rounded in a card
            raise ValueError(
                f"it sees cells at {card.preprocessing.diameter} pixels, but its cell diameter is {card.diameter}"
            )
        if not isinstance(card.data, list) or not all(isinstance(entry, dict) for entry in card.data):
            raise ValueError("its training images are no list of JSON objects")
        for name in ("metrics", "training"):
            if not isinstance(getattr(card, name), dict):
                raise ValueError(f"its entry {name!r} is {getattr(card, name)!r}, expected a JSON object")
        for name in ("name", "description", "known_failures"):
            if not isinstance(getattr(card, name), str):
                raise ValueError(f"its entry {name!r} is {getattr(card, name)!r}, expected a text")
        if not card.name.isprintable():  # CellProfiler cannot store every character
            raise ValueError(f"its entry 'name' is {card.name!r}, expected printable characters")
        return card


class Model(NamedTuple):
    """A network in memory, ready to run.

    Attributes
    ----------
    network : UNet
        In evaluation mode, on the device and of the number type.
    card : Card
    sha256 : str
        Of the weights file.
    device : torch.device
    dtype : torch.dtype
    """

    network: UNet
    card: Card
    sha256: str
    device: torch.device
    dtype: torch.dtype


def bundled_models() -> dict[str, str]:
    """Return the names of the models that come with deepsplit, and the sha256 of their files."""
    hashes: dict[str, str] = json.loads((BUNDLED / "sha256.json").read_text(encoding="utf-8"))
    return hashes


def path_of(model: str) -> Path:
    """Return the path of a bundled model's file, or the path given.

    Raises
    ------
    WeightsError
        There is neither a bundled model nor a file of that name.
    """
    if model in bundled_models():
        return BUNDLED / f"{model}.safetensors"
    path = Path(model)
    if not path.is_file():
        names = ", ".join(sorted(bundled_models()))
        raise WeightsError(f"{model!r} is neither a bundled model ({names}) nor an existing weights file.")
    return path


def sha256_of(model: str) -> str:
    """Return the sha256 of a model's file, without torch.

    Raises
    ------
    WeightsError
        The file is missing or cannot be read, or a bundled file is not the one that was published.
    """
    path = path_of(model)
    try:
        status = path.stat()
        sha256 = _sha256(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise WeightsError(f"The weights file {path} cannot be read: {error.strerror}.") from error
    published = bundled_models().get(model, sha256)
    if sha256 != published:
        raise WeightsError(f"{path} is damaged: its sha256 is {sha256}, expected {published}. Install deepsplit again.")
    return sha256


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, size: int, modified: int) -> str:
    """Hash a file, once as long as its size and time of modification stay."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_card(path: Path) -> Card:
    """Read the card from the header of a weights file, without torch; nobody may change it, as it is kept.

    Raises
    ------
    WeightsError
        The file is missing, cut, foreign, damaged, or of a later version.
    """
    path = Path(path)
    try:
        status = path.stat()
        return _card(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise WeightsError(f"The weights file {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise WeightsError(f"{path} is not a usable DeepSplit weights file: {str(error).rstrip('.')}.") from error


# CellProfiler asks a module for its settings many times at every change of a pipeline, and they show the card.
@functools.lru_cache(maxsize=64)
def _card(path: Path, size: int, modified: int) -> Card:
    """Read a card, once as long as its file's size and time of modification stay."""
    if path.suffix in (".pt", ".pth"):
        raise ValueError("it is a checkpoint; `python -m training export` makes a weights file of it")
    with open(path, "rb") as file:
        start = file.read(8)
        if len(start) < 8:
            raise ValueError(f"it has {len(start)} bytes")
        (n_header,) = struct.unpack("<Q", start)
        if n_header > LARGEST_HEADER:
            raise ValueError("it does not start with a safetensors header")
        text = file.read(n_header)
    if len(text) < n_header:
        raise ValueError("it ends within its header: the copy or download was cut")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError("it does not start with a safetensors header") from error
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or CARD_KEY not in metadata:
        raise ValueError("it is a safetensors file without DeepSplit's card: weights of another program")
    return Card.from_json(metadata[CARD_KEY])


def read(path: Path) -> tuple[Card, dict[str, torch.Tensor]]:
    """Read card and tensors of a weights file.

    Raises
    ------
    WeightsError
        As `read_card`, or the tensors are damaged.
    """
    import safetensors.torch

    card = read_card(path)
    try:
        # From bytes, not from a memory map: a file that another program replaces must not change a running model.
        return card, safetensors.torch.load(path.read_bytes())
    except MemoryError:
        raise
    except OSError as error:
        raise WeightsError(f"The weights file {path} cannot be read: {error.strerror}.") from error
    except Exception as error:  # safetensors raises a type of its own, not a ValueError
        raise WeightsError(
            f"{path} is not a usable DeepSplit weights file: its tensors are damaged ({error})."
        ) from error


def write(path: Path, card: Card, tensors: dict[str, torch.Tensor]) -> str:
    """Write a weights file, complete or not at all, and return its sha256."""
    import safetensors.torch

    from .images import with_replacement

    content = safetensors.torch.save(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, metadata={CARD_KEY: card.to_json()}
    )
    with_replacement(path, lambda part: part.write_bytes(content))
    return hashlib.sha256(content).hexdigest()


def build_network(path: Path, card: Card, tensors: dict[str, torch.Tensor]) -> UNet:
    """Rebuild the network of a card, in evaluation mode on the CPU in float32.

    Raises
    ------
    WeightsError
        Tensors are missing, left over, or of another shape than the card's network has, or hold what is no number.
    """
    import torch

    from .architectures import ARCHITECTURES
    from .quantisation import add_statistics, is_statistic

    # On the meta device a network has shapes and no memory: what the card asks for is checked before it is allocated.
    # `build` would draw first weights, for which torch loads its compiler there: seconds of every start.
    with torch.device("meta"):
        network = ARCHITECTURES[card.network.architecture](card.network)
        if any(is_statistic(name) for name in tensors):
            add_statistics(network)
    expected = network.state_dict()
    wrong = sorted(
        set(expected) ^ set(tensors)
        | {name for name in set(expected) & set(tensors) if expected[name].shape != tensors[name].shape}
    )
    if wrong:
        raise WeightsError(
            f"{path} is not a usable DeepSplit weights file: {len(wrong)} tensors do not fit the network of its card "
            f"({card.network.architecture}, width {card.network.base_width}), such as {wrong[0]!r}."
        )
    # Complex numbers, and negative variances and largest or mean activations, give NaN or the wrong cells.
    bad = [name for name, values in tensors.items() if values.is_complex()]
    fitting = {name: values.to(expected[name].dtype) for name, values in tensors.items() if name not in bad}
    for name, values in fitting.items():
        is_positive = is_statistic(name) or name.endswith("running_var")
        if not values.isfinite().all() or (is_positive and (values < 0).any()):
            bad.append(name)
    if bad:
        raise WeightsError(
            f"{path} is not a usable DeepSplit weights file: {len(bad)} tensors hold NaN, infinity or what cannot be, "
            f"such as {bad[0]!r}. The training went wrong, or the file is damaged."
        )
    network.load_state_dict(fitting, assign=True)
    return network.eval()


_loaded: dict[tuple[str, str], Model] = {}
_lock = threading.Lock()


def load_model(model: str, device: str = "auto") -> Model:
    """Return a model that is ready to run; a process holds one for each (file content, device).

    Parameters
    ----------
    model : str
        Name of a bundled model, or path of a weights file.
    device : str
        See `devices.choose_device`.

    Raises
    ------
    WeightsError
        The file is missing or cannot be used, or a bundled file is not the one that was published.
    """
    # A thread that waits for the others sleeps, and leaves its core to other programs: several that segment at once
    # take a fifth to a half less time. It is OpenMP's own setting, read when torch is imported; a user's own stays.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        import torch

        from .devices import choose_device, choose_dtype, has_fast_int8
        from .folding import fold
        from .quantisation import is_statistic, quantise
    except ImportError as error:
        raise ImportError(
            f"DeepSplit's network needs torch, which {sys.executable} cannot import ({error}): "
            f'"{sys.executable}" -m pip install torch'
        ) from error

    where = choose_device(device)
    path, sha256 = path_of(model), sha256_of(model)
    with _lock:
        key = (sha256, str(where))
        if key not in _loaded:
            card, tensors = read(path)
            if sha256_of(model) != sha256:
                raise WeightsError(f"The weights file {path} was replaced while it was read: try again.")
            network = build_network(path, card, tensors)
            if has_fast_int8(where) and any(is_statistic(name) for name in tensors):
                network, dtype = quantise(network), torch.int8
            else:
                network, dtype = fold(network), choose_dtype(where)  # in float32, before it is rounded
                network = network.to(device=where, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
            _loaded[key] = Model(network, card, sha256, where, dtype)
        return _loaded[key]
