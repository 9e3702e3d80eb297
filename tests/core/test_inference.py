"""The network over a whole image: tiled equals whole, whatever the size."""

import copy
from typing import NamedTuple

import numpy as np
import pytest
import torch
from networks import random_network

from deepsplit_core import inference
from deepsplit_core.config import TilingConfig
from deepsplit_core.inference import predict, resize
from deepsplit_core.weights import build_network, path_of, read

CPU, FLOAT = torch.device("cpu"), torch.float32
STEP = 2**-11  # between two float16 below 1
MULTIPLE = 4  # of the three levels of `random_network`
HALO = 40  # as wide as the network's reach, which `test_halo_of_these_tests_is_the_reach` measures


def probabilities(network, image, **tiling):
    return predict(network, image, CPU, FLOAT, TilingConfig(**tiling))


def noise(shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def reach(network, n=96):
    """The furthest that a pixel of the input is from one of the output that depends on it."""
    network, furthest = copy.deepcopy(network), 0
    for parameter in network.parameters():
        parameter.data.abs_()  # no ReLU is ever silent
    for offset in range(MULTIPLE):
        image = torch.from_numpy(noise((1, 1, n, n), offset)).requires_grad_()
        y = n // 2 + offset
        network(image)[0, :, y, y].sum().backward()
        touched = torch.nonzero(image.grad[0, 0])
        furthest = max(furthest, int((touched - y).abs().max()))
    return furthest


def live_network(architecture):
    """A random network whose answers are far from constant."""
    network = random_network(architecture, base_width=3, seed=1)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, 0.1, 0.3)
    return network


@pytest.mark.parametrize("architecture", ["deepsplit", "unet", "branch_net"])
def test_halo_of_these_tests_is_the_reach(architecture):
    assert 16 < reach(random_network(architecture)) <= HALO


@pytest.mark.parametrize("architecture", ["deepsplit", "unet", "branch_net"])
@pytest.mark.parametrize("shape", [(1, 1), (15, 17), (300, 37), (129, 128), (97, 250)])
def test_tiled_equals_whole(architecture, shape):
    network = live_network(architecture)
    whole = probabilities(network, noise(shape), tile=512, halo=0)
    tiled = probabilities(network, noise(shape), tile=128, halo=HALO)
    assert whole.shape == (2, *shape)
    np.testing.assert_allclose(tiled, whole, atol=STEP)


def test_without_a_halo_seams_show():
    """The comparison above can fail."""
    network, image = live_network("deepsplit"), noise((200, 131))
    whole = probabilities(network, image, tile=512, halo=0)
    assert np.abs(probabilities(network, image, tile=128, halo=0) - whole).max() > 1e-3


@pytest.mark.parametrize("batch", [2, 3, 100])
def test_tiles_of_a_batch_do_not_mix(batch):
    network, image = random_network(), noise((150, 90))
    one = probabilities(network, image, tile=64, halo=16, batch=1)
    np.testing.assert_allclose(probabilities(network, image, tile=64, halo=16, batch=batch), one, atol=STEP)


def test_unet_finds_no_contact():
    both = probabilities(random_network("unet"), noise((30, 40)))
    assert both[0].any()
    assert not both[1].any()


def test_probabilities_are_sigmoids_of_the_logits():
    network, image = random_network(), noise((32, 48))
    with torch.no_grad():
        logits = network(torch.from_numpy(image)[None, None])[0].double().numpy()
    np.testing.assert_allclose(probabilities(network, image), 1 / (1 + np.exp(-logits)), atol=STEP)


def test_a_network_without_numbers_is_an_error():
    """Not an image without cells."""
    network = random_network()
    next(network.parameters()).data[:] = torch.nan
    with pytest.raises(RuntimeError, match="The network computed NaN"):
        probabilities(network, noise((20, 20)))


def test_image_is_not_modified():
    image = noise((33, 21))
    before = image.copy()
    probabilities(random_network(), image)
    assert np.array_equal(image, before)


def test_default_halo_hides_the_seams_of_the_bundled_model():
    """The reach of five levels is wider than the halo: what is left of the difference is small."""
    path = path_of("nuclei")
    network = build_network(path, *read(path))
    image = torch.nn.functional.avg_pool2d(torch.from_numpy(noise((1, 1, 400, 104))), 9, stride=1).numpy()[0, 0]
    image = np.clip((image - image.min()) / (image.max() - image.min()), 0, 1)
    whole = predict(network, image, CPU, FLOAT, TilingConfig(tile=1024))
    tiled = predict(network, image, CPU, FLOAT, TilingConfig(tile=256))
    assert np.abs(tiled - whole).max() < 0.05
    assert np.mean((tiled > 0.5) != (whole > 0.5)) < 1e-3


# Resampling


def test_resize_to_the_same_shape_changes_nothing():
    image = noise((5, 7))
    assert np.array_equal(resize(image, (5, 7)), image)


def test_resize_keeps_a_ramp_a_ramp():
    ramp = np.broadcast_to(np.linspace(0, 1, 40, dtype=np.float32), (40, 40)).copy()
    for n in (20, 80):
        pixel = 40 / n
        expected = ((np.arange(n) + 0.5) * pixel - 0.5) / 39
        inside = slice(n // 8, -n // 8)
        np.testing.assert_allclose(resize(ramp, (n, n))[n // 2, inside], expected[inside], atol=1e-5)


@pytest.mark.parametrize("shape", [(20, 30), (90, 31), (7, 1)])
def test_resize_in_bands_is_resize(monkeypatch, shape):
    image = noise((2, 61, 70))
    whole = resize(image, shape)
    monkeypatch.setattr(inference, "BAND_ROWS", 8)
    assert np.array_equal(resize(image, shape), whole)


def test_resize_averages_where_it_shrinks():
    """Each new pixel stands for 16: what is left of noise is a quarter of its spread, or less."""
    image = noise((128, 128))
    assert resize(image, (32, 32)).std() < image.std() / 4


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1)])
def test_resize_of_and_to_single_pixels(shape):
    np.testing.assert_allclose(resize(np.full((2, *shape), 0.25, np.float32), (3, 2)), np.full((2, 3, 2), 0.25), 1e-6)
    assert resize(noise((2, 9, 8)), shape).shape == (2, *shape)


# Memory of the graphics card, which a network that refuses large tiles stands for


class SmallMemory(torch.nn.Module):
    """A network on a graphics card that has room for tiles up to a size."""

    multiple, n_outputs = 16, 2

    def __init__(self, largest, error):
        super().__init__()
        self.largest, self.error, self.seen = largest, error, []

    def forward(self, pixels):
        self.seen.append(tuple(pixels.shape[-2:]))
        if max(pixels.shape[-2:]) > self.largest:
            raise self.error
        return torch.cat([pixels, -pixels], dim=1)


class Card(NamedTuple):
    """What `predict_in_memory` needs to know of a device that this machine does not have."""

    type: str = "cuda"


@pytest.fixture
def on_a_card(monkeypatch):
    """Run `predict_in_memory` as on a graphics card, with a network that has little memory."""

    def run(network, image, device="cuda", tile=1024):
        def on_cpu(network, image, _, dtype, tiling):
            return predict(network, image, CPU, dtype, tiling)

        monkeypatch.setattr(inference, "predict", on_cpu)
        return inference.predict_in_memory(network, image, Card(device), FLOAT, TilingConfig(tile=tile))

    return run


OUT_OF_MEMORY = [
    ("cuda", torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")),
    ("mps", RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)")),
]


@pytest.mark.parametrize(("device", "error"), OUT_OF_MEMORY)
def test_a_card_out_of_memory_gets_smaller_tiles(on_a_card, caplog, device, error):
    image = noise((1100, 700))
    network = SmallMemory(300, error)
    found, tile = on_a_card(network, image, device)
    assert tile == 256
    assert [max(shape) for shape in network.seen[:3]] == [704, 464, 256]
    np.testing.assert_allclose(found[0], 1 / (1 + np.exp(-image)), atol=STEP)  # nothing is missing
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "out of memory with tiles of 1024 pixels: trying 512" in caplog.text


def test_enough_memory_keeps_the_tile(on_a_card, caplog):
    assert on_a_card(SmallMemory(1024, None), noise((1100, 700)))[1] == 1024
    assert not caplog.records


@pytest.mark.parametrize(("device", "error"), OUT_OF_MEMORY)
def test_too_little_memory_for_any_tile_is_an_error_with_its_cure(on_a_card, device, error):
    network = SmallMemory(100, error)
    with pytest.raises(RuntimeError, match=r"too little free memory for a tile of 256 .*workers.*select the CPU"):
        on_a_card(network, noise((1100, 700)), device)
    assert max(network.seen[-1]) == 256


def test_other_errors_and_those_of_the_processor_stop_at_once(on_a_card):
    for device, error in (("cuda", RuntimeError("an illegal memory access")), ("cpu", OUT_OF_MEMORY[0][1])):
        network = SmallMemory(100, error)
        with pytest.raises(RuntimeError) as caught:
            on_a_card(network, noise((300, 300)), device)
        assert caught.value is error
        assert len(network.seen) == 1
