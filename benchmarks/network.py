"""The network alone: this inference path beside plain eager float32 and beside a matrix product of the same run.

    .venv/bin/python -m benchmarks.network                             all
    .venv/bin/python -m benchmarks.network DEVICE WIDTH SIZE           the plain path alone, in this process

The plain path runs in a process of its own, as the library's setting of the allocator holds for a whole process. The
work is counted in the operations that this path does, fewer than those of the plain one; a matrix product of
2048 x 2048 (8192 x 8192 on a GPU), in the number type that the inference path uses, gives what the processor can do.
`float32_seconds` and, where the processor has that type, `bfloat16_seconds` are those of this path in floats, whichever
type it chooses here.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from deepsplit_core.architectures import UNet, build
from deepsplit_core.config import ModelConfig, PreprocessingConfig, SplittingConfig, TilingConfig
from deepsplit_core.folding import fold
from deepsplit_core.inference import predict
from deepsplit_core.quantisation import observed
from deepsplit_core.weights import Card, Model, load_model, write

from .plain import plain_decoders
from .timing import medians

WIDTHS = (16, 32, 64)
SIZES = (512, 1024)
MATRIX = {"cpu": 2048, "cuda": 8192}
FLOATS = {"float32": torch.float32}
if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
    FLOATS["bfloat16"] = torch.bfloat16  # elsewhere it is emulated, in hundreds of times the time


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
    product = matrix_product(model)

    def ours() -> None:
        predict(model.network, image, model.device, model.dtype, TilingConfig())
        _wait(model.device)

    def in_floats(converted: Model) -> None:
        predict(converted.network, image, converted.device, converted.dtype, TilingConfig())
        _wait(model.device)

    floats = {name: partial(in_floats, in_type(model, network, dtype)) for name, dtype in FLOATS.items()}

    with torch.inference_mode():
        seconds = medians({"ours": ours, **floats, "product": product}, n_rounds(width))
        with FlopCounterMode(display=False) as counter:
            network(torch.from_numpy(image)[None, None])
    command = [sys.executable, "-m", "benchmarks.network", device, str(width), str(size)]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}  # ours
    naive = float(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout)
    rate, product_rate = counter.get_total_flops() / seconds["ours"], 2 * MATRIX[device] ** 3 / seconds["product"]
    return {
        "device": device,
        "width": width,
        "size": size,
        "dtype": str(model.dtype).removeprefix("torch."),
        "seconds": seconds["ours"],
        **{f"{name}_seconds": seconds[name] for name in FLOATS},
        "naive_seconds": naive,
        "gflop": counter.get_total_flops() / 1e9,
        "matmul_gflops": product_rate / 1e9,
        "of_matmul": rate / product_rate,
        "times_naive": naive / seconds["ours"],
    }


def matrix_product(model: Model) -> Callable[[], None]:
    """Return a call that multiplies two square matrices in the model's number type, on its device."""
    side = MATRIX[model.device.type]
    numbers = torch.randint(-90, 91, (2, side, side), device=model.device)
    if model.dtype != torch.int8:
        one, other = numbers.to(model.dtype)

        def multiply() -> None:
            torch.matmul(one, other)
            _wait(model.device)

        return multiply
    # As the network's convolutions: uint8 by int8; torch's own product of int8 is slow where there is no VNNI.
    activations, weights = numbers[0].abs().to(torch.uint8), numbers[1].to(torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(weights, list(activations.shape))
    scales, zeros = torch.ones(side), torch.zeros(side, dtype=torch.int64)
    constants = (packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], "")
    return lambda: torch.ops.onednn.qlinear_pointwise(activations, 1.0, 0, *constants)


def measure_naive(device: str, width: int, size: int) -> float:
    """Return the median seconds of plain eager float32 in the default layout."""
    network = random_network(width).to(device)
    pixels = torch.from_numpy(draw_image(size))[None, None].to(device)

    def naive() -> None:
        network(pixels)
        _wait(pixels.device)

    with torch.inference_mode(), plain_decoders():
        return medians({"naive": naive}, n_rounds(width))["naive"]


def n_rounds(width: int) -> int:
    """Return how often everything is timed: at width 64 it takes seconds, and few rounds tell as much."""
    return 3 if width == 64 else 7


def draw_image(size: int) -> np.ndarray:
    """Return (size, size) float32 of noise: the time does not depend on what an image shows."""
    return np.random.default_rng(0).random((size, size), dtype=np.float32)


def random_network(width: int) -> UNet:
    """Return a DeepSplit as the bundled ones, with random weights, in evaluation mode."""
    torch.manual_seed(0)
    return build(ModelConfig(base_width=width, dropout=0.0, normalisation="batch")).eval()


def as_loaded(network: UNet, device: str) -> Model:
    """Return the network as the library loads it from a weights file; it stays in floats, with statistics of noise."""
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
        with torch.inference_mode(), observed(network):
            network(torch.from_numpy(draw_image(256))[None, None])
        write(path, card, network.state_dict())
        return load_model(str(path), device)


def in_type(model: Model, network: UNet, dtype: torch.dtype) -> Model:
    """Return a model as it is loaded where that type of float is the fastest, from its network as it was built."""
    folded = fold(copy.deepcopy(network)).to(model.device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model._replace(network=folded, dtype=dtype)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":  # which goes on by itself
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    if arguments := sys.argv[1:]:
        print(measure_naive(arguments[0], int(arguments[1]), int(arguments[2])))
    else:
        print(json.dumps(measure(), indent=1))
