"""A device is there, or asking for it is an error."""

import pytest
import torch

from deepsplit_core import devices
from deepsplit_core.devices import choose_device, choose_dtype, describe, has_fast_int8


@pytest.fixture
def machine(monkeypatch):
    """Pretend a machine with so many CUDA devices, and with MPS or not."""

    def pretend(n_cuda=0, mps=False, capability=(8, 0)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: n_cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: n_cuda)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


@pytest.mark.parametrize(("n_cuda", "mps", "kind"), [(0, False, "cpu"), (1, False, "cuda"), (0, True, "mps")])
def test_auto_takes_the_fastest_there_is(machine, n_cuda, mps, kind):
    machine(n_cuda, mps)
    assert choose_device("auto").type == kind


def test_cpu_is_taken_where_it_is_asked_for(machine):
    machine(n_cuda=2, mps=True)
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(("name", "n_cuda"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2), ("mps", 1)])
def test_missing_device_is_an_error_not_another_device(machine, name, n_cuda):
    machine(n_cuda)
    with pytest.raises(RuntimeError, match=rf"[Dd]evice '{name}' was asked for, .* choose 'auto' or 'cpu'"):
        choose_device(name)


def test_numbered_device(machine):
    machine(n_cuda=2)
    assert choose_device("cuda:1") == torch.device("cuda", 1)


def test_one_name_for_the_first_cuda_device(machine):
    """Else "cuda" and "cuda:0" would be two models in memory."""
    machine(n_cuda=1)
    assert str(choose_device("cuda")) == str(choose_device("cuda:0")) == str(choose_device("auto"))


@pytest.mark.parametrize("name", ["", "gpu", "cuda:x", "cuda:-1", "cpu:0", "mps:1", "CPU", "cuda:0:1"])
def test_unknown_names_are_refused(machine, name):
    machine(n_cuda=1, mps=True)
    with pytest.raises(ValueError, match=rf"The device is '{name}', but it must be 'auto', 'cpu', 'cuda'"):
        choose_device(name)


@pytest.mark.parametrize(("capability", "dtype"), [((7, 5), torch.float32), ((8, 0), torch.bfloat16)])
def test_bfloat16_on_cuda_from_ampere_on(machine, capability, dtype):
    machine(n_cuda=1, capability=capability)
    assert choose_dtype(torch.device("cuda:0")) == dtype


@pytest.mark.parametrize(
    ("amx", "avx512", "amd", "dtype"),
    [
        (True, True, False, torch.bfloat16),
        (False, True, True, torch.bfloat16),
        (False, True, False, torch.float32),
        (False, False, True, torch.float32),
    ],
    ids=["Intel with AMX", "AMD", "Intel without AMX", "older"],
)
def test_bfloat16_on_a_cpu_that_is_faster_in_it(monkeypatch, amx, avx512, amd, dtype):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    monkeypatch.setattr(devices, "_is_amd", lambda: amd)
    assert choose_dtype(torch.device("cpu")) == dtype


def test_torch_that_does_not_know_the_cpu(monkeypatch):
    for question in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, question, raising=False)
    assert choose_dtype(torch.device("cpu")) == torch.float32


@pytest.mark.parametrize(
    ("device", "vnni", "avx2", "is_fast"),
    [
        ("cpu", True, True, True),
        ("cpu", False, True, True),
        ("cpu", False, False, False),
        ("cuda", True, True, False),
        ("mps", True, True, False),
    ],
)
def test_int8_on_a_cpu_that_is_faster_in_it(monkeypatch, device, vnni, avx2, is_fast):
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: vnni, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx2_supported", lambda: avx2, raising=False)
    assert has_fast_int8(torch.device(device)) == is_fast


def test_torch_that_does_not_know_of_int8(monkeypatch):
    for question in ("_is_vnni_supported", "_is_avx2_supported"):
        monkeypatch.delattr(torch.cpu, question, raising=False)
    assert not has_fast_int8(torch.device("cpu"))


def test_torch_with_the_operators_in_another_form(monkeypatch):
    """As in torch 2.5: the sums come before the weights."""
    schema = torch._C.parse_schema("f(Tensor qx, float x_scale, int x_zp, Tensor qaccum, Tensor qw) -> Tensor")
    binary = type("Operator", (), {"_schema": schema})
    monkeypatch.setattr(torch.ops.onednn, "qconv2d_pointwise", type("Packet", (), {"binary": binary}))
    monkeypatch.setattr(torch.cpu, "_is_avx2_supported", lambda: True, raising=False)
    assert not has_fast_int8(torch.device("cpu"))


def test_float32_on_mps():
    assert choose_dtype(torch.device("mps")) == torch.float32


def test_names_for_logs():
    assert describe(torch.device("cuda:1"), torch.bfloat16) == ("cuda:1", "bfloat16")
