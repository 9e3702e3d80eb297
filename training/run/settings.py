"""The configuration of a run from a preset or a TOML file, from what the command line sets, and from weights."""

from __future__ import annotations

import contextlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deepsplit_core.weights import path_of, read_card

from ..learning.config import TrainConfig

PRESETS = Path(__file__).parents[1] / "presets"
SIZES = ("shrink", "diameter")  # of the pre-processing: at another size of cell, trained weights are a start as well
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", dict: "a table"}


def read_config(name: str, settings: Sequence[str] = (), start_from: str = "") -> TrainConfig:
    """Return the configuration of a run.

    Parameters
    ----------
    name : str
        Of a preset, or the path of a TOML file.
    settings : sequence of str
        KEY=VALUE each, in place of what the preset says; see `read_setting`.
    start_from : str
        A bundled model or a weights file. The run takes network and pre-processing from its card, in place of a
        preset's, but for the size of cells, where the preset has one; a file or a setting that asks for others
        contradicts it, unless it is that size.

    Raises
    ------
    ValueError
        No such preset or file, an unknown key, a value that it does not take, or a contradiction.
    """
    path = PRESETS / f"{name}.toml"
    is_preset = path.is_file()
    path = path if is_preset else Path(name)
    if not path.is_file():
        presets = sorted(preset.stem for preset in PRESETS.glob("*.toml"))
        raise ValueError(f"{name!r} is neither a preset ({', '.join(presets)}) nor a TOML file.")
    chosen: dict[str, Any] = {"start_from": start_from} if start_from else {}
    for setting in settings:
        chosen = merge(chosen, read_setting(setting))
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        for part in (values, chosen):
            check_kinds(part, TrainConfig().to_dict())
        sizes = {key: value for key, value in values.get("preprocessing", {}).items() if key in SIZES}
        asked = merge({"preprocessing": sizes} if is_preset else values, chosen)
        values = take_from_card(merge(values, chosen), asked)
        return TrainConfig.from_dict(values)
    except (tomllib.TOMLDecodeError, TypeError, ValueError) as error:
        raise ValueError(f"{' '.join([str(path), *settings])}: {error}") from error


def read_setting(text: str) -> dict[str, Any]:
    """Return KEY=VALUE as a table: "network.base_width=32" as {"network": {"base_width": 32}}.

    The value is TOML; a single word or a path needs no quotes, which a shell would take away.
    """
    key, _, value = text.partition("=")
    word = value.strip()
    is_text = re.fullmatch(r"(\.{0,2}/|~|[A-Za-z])[\w./\\:~-]*", word) and word not in ("true", "false", "inf", "nan")
    try:
        return tomllib.loads(f"{key} = '{word}'" if is_text else f"{key} = {value}")
    except tomllib.TOMLDecodeError as error:
        if word and "'" not in word:  # a path with a space, say; what should have been a number is refused as a text
            with contextlib.suppress(tomllib.TOMLDecodeError):
                return tomllib.loads(f"{key} = '{word}'")
        raise ValueError(f"--set {text}: expected KEY=VALUE, such as network.base_width=32 ({error}).") from error


def merge(values: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` with `others` in their place, table by table."""
    merged = {**values, **others}
    for key in values.keys() & others.keys():
        if isinstance(values[key], Mapping) and isinstance(others[key], Mapping):
            merged[key] = merge(values[key], others[key])
    return merged


def take_from_card(values: dict[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with network and pre-processing of the weights that the run starts from, if it does.

    Targets are theirs, too, where the preset has none: few images would first unlearn a contact zone of another width.
    What is asked for stands beside the rest of them.

    Parameters
    ----------
    values : dict
    asked : mapping
        What a person has asked for, as opposed to what a preset brings: it must agree with the card.
    """
    if not values.get("start_from"):
        return values
    card = read_card(path_of(values["start_from"]))
    # The second trunk of a file with two passes is a result; the network itself is what is trained on.
    parts = {"network": {**card.network.to_dict(), "passes": 1}, "preprocessing": card.preprocessing.to_dict()}
    for part, theirs in parts.items():
        fixed = {key: value for key, value in theirs.items() if key not in SIZES}
        others = {key: value for key, value in asked.get(part, {}).items() if fixed.get(key, value) != value}
        if others:
            raise ValueError(
                f"{part} is asked to have {others}, but {values['start_from']} has "
                f"{ ({key: theirs[key] for key in others}) }: weights fit one network only. Leave these settings out."
            )
    taken = {part: {**theirs, **asked.get(part, {})} for part, theirs in parts.items()}
    if values.get("targets", {}) == asked.get("targets", {}):
        taken["targets"] = {**card.training.get("config", {}).get("targets", {}), **asked.get("targets", {})}
    return {**values, **taken}


def check_kinds(values: Mapping[str, Any], like: Mapping[str, Any], prefix: str = "") -> None:
    """Raise ValueError where a value is not of the kind of the default; unknown keys are left to `Config`."""
    for key in values.keys() & like.keys():
        value, kind = values[key], type(like[key])
        is_whole_float = kind is float and type(value) is int
        if type(value) is not kind and not is_whole_float:
            raise ValueError(f"{prefix}{key} is {value!r}, but it must be {KINDS[kind]}.")
        if kind is dict:
            check_kinds(value, like[key], f"{prefix}{key}.")
