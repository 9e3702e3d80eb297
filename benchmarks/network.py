"""The network alone: this inference path beside plain eager float32 and beside a matrix product of the same run.

    .venv/bin/python -m benchmarks.network                             all
    .venv/bin/python -m benchmarks.network DEVICE WIDTH SIZE           the plain path alone, in this process

The plain path runs in a process of its own, as the library's setting of the allocator holds for a whole process. The
work is counted in the floating-point operations that this path does, fewer than the plain one's; a matrix product of
2048 x 2048, in the number type that the inference path uses, gives what the processor can do. `other_type_seconds` are
those of this path in the type that it did not choose, of bfloat16 and float32.
"""

from __future__ import annotations

import copy
import json
import subprocess
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

from .plain import plain_decoders
from .timing import medians

WIDTHS = (16, 32, 64)
SIZES = (512, 1024)
MATRIX = 2048


def measure() -> list[dict[str, Any]]:
    """Return one row for each device, width and size: seconds, and the rates as ratios of one run."""
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    if len(devices) == 1:
        print("There is no CUDA device: its rows are left out.", file=sys.stderr)
    return [_measure(device, width, size) for device in devices for width in WIDTHS for size in SIZES]


def _measure(device: str, width: int, size: int) -> dict[str, Any]:
    network = random_network(width)
    model = as_loaded(network, device)
    image = draw_image(size)
    one, other = (torch.randn(MATRIX, MATRIX, device=model.device).to(model.dtype) for _ in range(2))

    def ours() -> None:
        predict(model.network, image, model.device, model.dtype, TilingConfig())
        _wait(model.device)

    other_type = torch.float32 if model.dtype == torch.bfloat16 else torch.bfloat16
    converted = in_type(model, other_type)

    def in_other_type() -> None:
        predict(converted.network, image, model.device, other_type, TilingConfig())
        _wait(model.device)

    def product() -> None:
        one @ other
        _wait(model.device)

    with torch.inference_mode():
        seconds = medians({"ours": ours, "other": in_other_type, "product": product})
        with FlopCounterMode(display=False) as counter:
            network(torch.from_numpy(image)[None, None])
    command = [sys.executable, "-m", "benchmarks.network", device, str(width), str(size)]
    naive = float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    rate, product_rate = counter.get_total_flops() / seconds["ours"], 2 * MATRIX**3 / seconds["product"]
    return {
        "device": device,
        "width": width,
        "size": size,
        "dtype": str(model.dtype).removeprefix("torch."),
        "seconds": seconds["ours"],
        "other_type_seconds": seconds["other"],
        "naive_seconds": naive,
        "gflop": counter.get_total_flops() / 1e9,
        "matmul_gflops": product_rate / 1e9,
        "of_matmul": rate / product_rate,
        "times_naive": naive / seconds["ours"],
    }


def measure_naive(device: str, width: int, size: int) -> float:
    """Return the median seconds of plain eager float32 in the default layout."""
    network = random_network(width).to(device)
    pixels = torch.from_numpy(draw_image(size))[None, None].to(device)

    def naive() -> None:
        network(pixels)
        _wait(pixels.device)

    with torch.inference_mode(), plain_decoders():
        # At width 64 it takes seconds: few rounds tell as much.
        return medians({"naive": naive}, n_rounds=3 if width == 64 else 7)["naive"]


def draw_image(size: int) -> np.ndarray:
    """Return (size, size) float32 of noise: the time does not depend on what an image shows."""
    return np.random.default_rng(0).random((size, size), dtype=np.float32)


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


def in_type(model: Model, dtype: torch.dtype) -> Model:
    """Return a copy of a model that computes in another type of number; weights stay rounded, which takes no time."""
    return model._replace(network=copy.deepcopy(model.network).to(dtype), dtype=dtype)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":  # which goes on by itself
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    if arguments := sys.argv[1:]:
        print(measure_naive(arguments[0], int(arguments[1]), int(arguments[2])))
    else:
        print(json.dumps(measure(), indent=1))
