"""The network alone: this inference path beside plain eager float32 and beside a matrix product of the same run.

    .venv/bin/python -m benchmarks.network

The work is counted in floating-point operations of the network as it was trained; a matrix product of 2048 x 2048, in
the number type that the inference path uses, gives what the processor can do.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from deepsplit_core.architectures import UNet, build
from deepsplit_core.config import ModelConfig, PreprocessingConfig, SplittingConfig, TilingConfig
from deepsplit_core.inference import predict
from deepsplit_core.weights import Card, Model, load_model, write

from .timing import medians

WIDTHS = (16, 32, 64)
SIZES = (512, 1024)
MATRIX = 2048


def measure() -> list[dict[str, Any]]:
    """Return one row for each device, width and size: seconds, and the rates as ratios of one run."""
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    if len(devices) == 1:
        print("There is no CUDA device: its rows are left out.", file=sys.stderr)
    return [_measure(width, size, device) for device in devices for width in WIDTHS for size in SIZES]


def _measure(width: int, size: int, device: str) -> dict[str, Any]:
    network = random_network(width)
    model = as_loaded(network, device)
    image = np.random.default_rng(0).random((size, size), dtype=np.float32)
    plain = network.to(model.device)
    pixels = torch.from_numpy(image)[None, None].to(model.device)
    one, other = (torch.randn(MATRIX, MATRIX, device=model.device).to(model.dtype) for _ in range(2))

    def ours() -> None:
        predict(model.network, image, model.device, model.dtype, TilingConfig())
        _wait(model.device)

    def naive() -> None:
        plain(pixels)
        _wait(model.device)

    def product() -> None:
        one @ other
        _wait(model.device)

    with torch.inference_mode():
        # The plain path at width 64 takes seconds: few rounds tell as much.
        seconds = medians({"ours": ours, "naive": naive, "product": product}, n_rounds=3 if width == 64 else 7)
        with FlopCounterMode(display=False) as counter:
            plain(pixels)
    rate = counter.get_total_flops() / seconds["ours"]
    return {
        "device": device,
        "width": width,
        "size": size,
        "dtype": str(model.dtype).removeprefix("torch."),
        "seconds": seconds["ours"],
        "naive_seconds": seconds["naive"],
        "gflop": counter.get_total_flops() / 1e9,
        "matmul_gflops": 2 * MATRIX**3 / seconds["product"] / 1e9,
        "of_matmul": rate / (2 * MATRIX**3 / seconds["product"]),
        "times_naive": seconds["naive"] / seconds["ours"],
    }


def random_network(width: int) -> UNet:
    """Return a DeepSplit as the bundled ones, with random weights, in evaluation mode."""
    torch.manual_seed(0)
    return build(ModelConfig(base_width=width, dropout=0.0, normalisation="batch")).eval()


def as_loaded(network: UNet, device: str) -> Model:
    """Return the network as the library loads it from a weights file."""
    width = network.segmentation_head.in_channels
    card = Card(
        name="random",
        description="Random weights for a benchmark",
        network=ModelConfig(base_width=width, dropout=0.0, normalisation="batch"),
        preprocessing=PreprocessingConfig("percentile"),
        splitting=SplittingConfig(),
        diameter=30.0,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.safetensors"
        write(path, card, network.state_dict())
        return load_model(str(path), device)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":  # which goes on by itself
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
