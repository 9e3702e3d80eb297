"""Number types and memory layout, on the CPU; what a GPU does is tested where there is one."""

import dataclasses
import os
import subprocess
import sys

import pytest
import torch
from networks import random_network

from training.learning import hardware
from training.learning.hardware import autocast, device_of, memory_format, n_loaders, place, to_device
from training.learning.schedule import begin, outputs, stage_loss, stages_of
from training.run import loop

CPU = torch.device("cpu")


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def dtype(request, monkeypatch):
    """What the device computes in: the processor can do both, if only one fast."""
    monkeypatch.setattr(hardware, "choose_dtype", lambda device: request.param)
    return request.param


def test_network_computes_in_the_devices_numbers_and_keeps_its_own(dtype):
    network = random_network()
    with autocast(CPU):
        assert network(torch.rand(1, 1, 16, 16)).dtype == dtype
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_losses_and_gradients_are_float32(config, batch, dtype):
    network, stage = random_network(), stages_of(dataclasses.replace(config, schedule="simultaneous"))[0]
    assert {logits.dtype for logits in outputs(network, batch[0], stage)} == {torch.float32}
    loss = stage_loss(network, *batch, stage)
    loss.backward()
    assert loss.dtype == torch.float32
    assert {parameter.grad.dtype for parameter in network.parameters()} == {torch.float32}
    # As float32 says, to the 8 bits of bfloat16, which every layer rounds to.
    with torch.no_grad():
        exact = network(batch[0])
    for found, expected in zip(outputs(network, batch[0], stage), exact.split(1, dim=1), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=float(expected.std()))


def is_channels_last(tensor):
    return tensor.is_contiguous(memory_format=torch.channels_last)


def test_weights_and_images_are_channels_last(config, samples, tmp_path, monkeypatch):
    seen = []

    def spy(network, images, *rest):
        weights = [p for p in network.parameters() if p.dim() == 4]
        seen.append(all(map(is_channels_last, [*weights, to_device(images, images, CPU)[0]])))
        return stage_loss(network, images, *rest)

    monkeypatch.setattr(loop, "stage_loss", spy)
    loop.train(samples[:4], samples[4:], dataclasses.replace(config, freeze_trunk=False), tmp_path, False, CPU)
    assert seen
    assert all(seen)


def test_apples_graphics_get_the_default_layout():
    assert memory_format(torch.device("mps")) == torch.contiguous_format


def test_copy_of_the_trunk_is_where_the_network_is(config):
    plain = dataclasses.replace(config.network, dropout=0.0, normalisation="none")
    config = dataclasses.replace(config, network=plain, freeze_trunk=False)
    network = place(random_network(), CPU)
    begin(network, stages_of(config)[1], config)
    assert device_of(network.segmentation) == device_of(network)
    assert all(is_channels_last(p) for p in network.segmentation.parameters() if p.dim() == 4)


@pytest.mark.parametrize(
    ("device", "n_cores", "n_processes", "expected"),
    [("cpu", 64, 1, 1), ("cuda", 64, 1, 8), ("cuda", 6, 1, 5), ("cuda", 16, 4, 3), ("cuda", None, 1, 1)],
)
def test_a_gpu_gets_as_many_loaders_as_there_are_cores(device, n_cores, n_processes, expected, monkeypatch):
    monkeypatch.setattr(hardware.os, "cpu_count", lambda: n_cores)
    monkeypatch.setattr(hardware, "n_processes", lambda: n_processes)
    assert n_loaders(torch.device(device)) == expected


# torch warns of more processes than cores.
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_result_does_not_depend_on_the_number_of_loaders(config, samples, tmp_path, monkeypatch):
    weights = []
    for number in (1, 3):
        monkeypatch.setattr(loop, "n_loaders", lambda device, number=number: number)
        run = tmp_path / str(number)
        run.mkdir()
        weights.append(loop.train(samples[:4], samples[4:], config, run, False, CPU).state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


MANY_IMAGES = """
import multiprocessing, resource, sys
import numpy as np, torch
from training.learning.config import TrainConfig
from training.learning.dataset import RandomBatches, Sample
from training.run.loop import load_views

if __name__ == "__main__":
    multiprocessing.set_start_method("forkserver")  # as Python 3.14 has it
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    sample = Sample(torch.zeros(1, 32, 32), torch.ones(4, 32, 32), np.ones((32, 32), np.int32))
    samples = [Sample(sample.image.clone(), sample.targets.clone(), sample.labels) for _ in range(200)]
    config = TrainConfig(view=32, batch=2, epoch_steps=1)
    views = load_views(RandomBatches(samples, config, 0), 0, 1, config, torch.nn.Linear(1, 1))
    print([images.shape for images, _ in views])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="others have no such limit")
def test_many_images_are_not_too_many_files(root, tmp_path):
    script = tmp_path / "many.py"
    script.write_text(MANY_IMAGES)
    command, environment = [sys.executable, str(script)], {**os.environ, "PYTHONPATH": str(root)}
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert run.stdout.strip() == "[torch.Size([2, 1, 32, 32])]", run.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_run_on_a_gpu_is_resumed_on_it(config, samples, tmp_path):
    config = dataclasses.replace(config, freeze_trunk=False)
    network = loop.train(samples[:4], samples[4:], config, tmp_path, False, torch.device("cuda", 0))
    assert device_of(network).type == "cuda"
    loop.train(samples[:4], samples[4:], config, tmp_path, True, torch.device("cuda", 0))
