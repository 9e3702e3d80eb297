"""Where the network runs, and with which numbers. A device that is asked for and missing is an error."""

from __future__ import annotations

import platform
from pathlib import Path

import torch


def choose_device(name: str) -> torch.device:
    """Return the device of that name.

    Parameters
    ----------
    name : str
        "auto" (the first of CUDA, MPS, CPU that is there), "cpu", "cuda", "cuda:N" or "mps".

    Raises
    ------
    ValueError
        No such device name.
    RuntimeError
        The device is not on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and (kind != "cuda" or not number.isdigit())):
        raise ValueError(f"The device is {name!r}, but it must be 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'.")
    if kind == "cuda" and torch.cuda.device_count() <= int(number or 0):
        raise RuntimeError(
            f"Device {name!r} was asked for, but torch {torch.__version__} sees {torch.cuda.device_count()} CUDA "
            "devices: choose 'auto' or 'cpu', or install a CUDA build of torch and the driver."
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise RuntimeError(
            f"Device 'mps' was asked for, but torch {torch.__version__} does not have it here: choose 'auto' or 'cpu'."
        )
    # "cuda" and "cuda:0" are one device, and one model in memory.
    return torch.device(kind, int(number or 0)) if kind == "cuda" else torch.device(kind)


def choose_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where it is faster (CUDA from Ampere on, CPUs with AMX, AMD's with AVX512-BF16), else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float32
    if device.type == "cpu" and _cpu_is_faster_in_bfloat16():
        return torch.bfloat16
    return torch.float32


def has_fast_int8(device: torch.device) -> bool:
    """Say whether 8-bit integers are faster than float32: three times with VNNI, 1.9 times with AVX2."""
    return device.type == "cpu" and (has_vnni() or _cpu_has("avx2")) and _has_int8_convolutions()


def has_vnni() -> bool:
    """Say whether the processor adds products of 8-bit integers in 32 bits."""
    return _cpu_has("vnni")


def describe(device: torch.device, dtype: torch.dtype) -> tuple[str, str]:
    """Return names of the device and of the number type for logs and measurements: ("cuda:0", "bfloat16")."""
    return str(device), str(dtype).replace("torch.", "")


def product_name(device: torch.device) -> str:
    """Return what a person calls the device: "NVIDIA H200", "threads: 16"."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return "Apple graphics" if device.type == "mps" else f"threads: {torch.get_num_threads()}"


def _has_int8_convolutions() -> bool:
    operator = getattr(torch.ops.onednn, "qconv2d_pointwise", None)
    # torch 2.5 has it, with its arguments in another order.
    return operator is not None and operator.binary._schema.arguments[3].name == "qw"


def _cpu_has(feature: str) -> bool:
    # torch has no public question for it, and older ones have not all of these.
    return bool(getattr(torch.cpu, f"_is_{feature}_supported", bool)())


def _cpu_is_faster_in_bfloat16() -> bool:
    """Decide by the kind of processor, not by a trial: every process on it then computes the same labels."""
    # Without both, bfloat16 is emulated.
    # AVX512-BF16 has twice the rate of float32 on AMD's processors and half of it on Intel's (benchmarks/README.md).
    return _cpu_has("amx_tile") or (_cpu_has("avx512_bf16") and _is_amd())


def _is_amd() -> bool:
    cpuinfo = Path("/proc/cpuinfo")  # Linux; elsewhere platform.processor() tells
    return "AuthenticAMD" in (cpuinfo.read_text() if cpuinfo.exists() else platform.processor())
