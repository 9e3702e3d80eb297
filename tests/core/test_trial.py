"""A try of a model on a device tells what was used, or why it cannot be."""

import re

import pytest

from deepsplit_core import WeightsError, trial, try_device
from deepsplit_core.config import TilingConfig


def test_it_names_model_device_numbers_and_time(tiny_weights, monkeypatch):
    monkeypatch.setattr(trial, "TilingConfig", lambda tile=256: TilingConfig(tile=tile))
    sentence = try_device(str(tiny_weights), "cpu")
    expected = r"The model tiny runs on cpu \(threads: \d+\) in (float32|bfloat16|int8): \d+\.\d\d s for "
    assert re.fullmatch(expected + r"the network on 256 x 256 pixels in tiles of 256\.", sentence)


def test_a_missing_device_or_file_is_an_error(tiny_weights):
    with pytest.raises(RuntimeError, match="'cuda:99' was asked for"):
        try_device(str(tiny_weights), "cuda:99")
    with pytest.raises(WeightsError, match="neither a bundled model"):
        try_device("none.safetensors", "cpu")
