"""Where a run comes from: configuration, data, versions and command, in `config.json` of its folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import deepsplit_core
from deepsplit_core import weights
from deepsplit_core.devices import choose_dtype, describe
from deepsplit_core.images import with_replacement

from ..data.annotations import Annotation
from ..data.copies import short_digest
from ..learning.config import TrainConfig
from ..learning.distributed import program


def sha256_of_images(annotations: Sequence[Annotation]) -> str:
    """Return the sha256 over names and bytes of all files, in the order of the images' names.

    Each file counts as its image's name, its folder and its bytes. In place of the bytes, a folder with one mask for
    each cell has the digest of its files' names and bytes.
    """
    return _digest(
        part
        for annotation in sorted(annotations, key=lambda annotation: annotation.name)
        for field in dataclasses.fields(annotation)
        if isinstance(path := getattr(annotation, field.name), Path)
        for part in (annotation.name.encode(), field.name.encode(), _content(path))
    ).hexdigest()


def _content(path: Path) -> bytes:
    if path.is_file():
        return path.read_bytes()
    files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    return _digest(part for file in files for part in (file.name.encode(), file.read_bytes())).digest()


def _digest(parts: Iterable[bytes]) -> hashlib._Hash:
    """Digest parts, each preceded by its length, so that no two lists of parts run together to one."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest


def versions() -> dict[str, str]:
    """Return the versions that a result may depend on."""
    return {
        "deepsplit": deepsplit_core.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def write_provenance(
    path: Path,
    config: TrainConfig,
    parts: Mapping[str, Sequence[Annotation]],
    arguments: Sequence[str],
    device: torch.device,
) -> None:
    """Write `config.json`, complete or not at all."""
    values = {
        "command": f"{program()} {shlex.join(arguments)}",
        "seed": config.seed,
        "config": config.to_dict(),
        "start_from_sha256": weights.sha256_of(config.start_from) if config.start_from else "",
        "teacher_sha256": weights.sha256_of(config.teacher) if config.teacher else "",
        "data": _data(parts),
        "learned": " ".join(sorted(set().union(map(short_digest, parts["train"]), *learned_by(config).values()))),
        "versions": versions(),
        "device": dict(zip(("name", "dtype"), describe(device, choose_dtype(device)), strict=True)),
        "threads": torch.get_num_threads(),
    }
    with_replacement(path, lambda part: part.write_text(json.dumps(values, indent=1), encoding="utf-8"))


def note_change(path: Path, config: TrainConfig, change: str) -> None:
    """Write down in `config.json` that a run goes on with another configuration, and what was changed."""
    values = json.loads(path.read_text(encoding="utf-8"))
    values.update(config=config.to_dict(), changes=[*values.get("changes", []), change])
    with_replacement(path, lambda part: part.write_text(json.dumps(values, indent=1), encoding="utf-8"))


def learned_by(config: TrainConfig) -> dict[str, set[str]]:
    """Return which images, by their `copies.short_digest`, the weights learned that a run starts from or is taught by.

    Nothing of bundled models, whose images are other people's, or of files that do not tell it.
    """
    files = sorted({config.start_from, config.teacher} - {"", *weights.bundled_models()})
    return {file: set(weights.read_card(weights.path_of(file)).training.get("learned", "").split()) for file in files}


def check_same_data(path: Path, parts: Mapping[str, Sequence[Annotation]]) -> None:
    """Raise ValueError where the files are not those that the run was started with."""
    if not path.is_file():
        raise ValueError(f"{path} is missing: it says which images the run was made with. Start a new run.")
    saved, found = json.loads(path.read_text(encoding="utf-8"))["data"], _data(parts)
    if saved != found:
        raise ValueError(
            f"The images or labels have changed since {path.parent} was started (then {saved}, now {found}): "
            "put them back as they were, or start a new run in another folder."
        )


def check_same_teacher(path: Path, config: TrainConfig) -> None:
    """Raise ValueError where the teacher's weights are not those that the run was started with."""
    if config.teacher and json.loads(path.read_text(encoding="utf-8"))["teacher_sha256"] != weights.sha256_of(
        config.teacher
    ):
        raise ValueError(
            f"The teacher {config.teacher} is another file than when {path.parent} was started: put it back as it was, "
            "or start a new run in another folder."
        )


def _data(parts: Mapping[str, Sequence[Annotation]]) -> dict[str, Any]:
    everything = [annotation for chosen in parts.values() for annotation in chosen]
    return {"images": {part: len(chosen) for part, chosen in parts.items()}, "sha256": sha256_of_images(everything)}
