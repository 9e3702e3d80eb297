"""The network in 8-bit integers: the same function to the step of uint8, exactly the same however it is run."""

import pytest
import torch
from networks import card_of, random_network
from torch import nn

from deepsplit_core import devices
from deepsplit_core.config import TilingConfig
from deepsplit_core.inference import predict
from deepsplit_core.quantisation import (
    NARROW,
    WIDE,
    ZERO,
    QuantisedAddition,
    QuantisedHead,
    _rounded,
    interleaved,
    is_statistic,
    observed,
    of_four_parts,
    quantise,
)
from deepsplit_core.weights import WeightsError, build_network, load_model, path_of, read, write

CPU = torch.device("cpu")
needs_int8 = pytest.mark.skipif(not devices.has_fast_int8(CPU), reason="this processor has neither VNNI nor AVX2")
ARCHITECTURES = ["unet", "deepsplit", "branch_net", "double_unet"]


def images(n=6, shape=(32, 48), seed=0):
    return torch.rand((n, 1, *shape), generator=torch.Generator().manual_seed(seed))


def observe(network, views):
    """The network's tensors with the statistics of these images, each on its own."""
    with torch.inference_mode(), observed(network):
        for view in views:
            network(view[None])
    return network.state_dict()


@pytest.fixture(params=[*ARCHITECTURES, "two passes", "no normalisation"])
def network(request):
    settings = {"architecture": request.param} if request.param in ARCHITECTURES else {}
    passes = 2 if request.param == "two passes" else 1
    normalisation = "none" if request.param == "no normalisation" else "batch"
    network = random_network(**settings, base_width=8, normalisation=normalisation, passes=passes)
    generator = torch.Generator().manual_seed(1)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.5, 0.5, generator=generator)
            layer.running_var.uniform_(0.5, 2.0, generator=generator)
    return network


@needs_int8
def test_the_function_is_the_same_to_some_steps_of_uint8(network):
    with torch.inference_mode():
        expected = network(images())
        observe(network, images(40, seed=1))
        found = quantise(network)(images())
    assert found.dtype == torch.float32
    error = (found - expected).std(dim=(0, 2, 3)) / expected.std(dim=(0, 2, 3))
    assert (error < (0.06 if devices.has_vnni() else 0.08)).all(), error
    # Rounding to nearest shifts nothing.
    shift = (found - expected).mean(dim=(0, 2, 3)) / expected.std(dim=(0, 2, 3))
    assert (shift.abs() < 0.02).all(), shift


@needs_int8
@pytest.mark.parametrize(("n_in", "n_out", "side"), [(2, 8, 20), (16, 16, 33), (48, 16, 24), (64, 3, 16)])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sums_are_exact(n_in, n_out, side, sign):
    """All activations and all weights are the largest that there are: 16 bits would not hold wider codes."""
    codes = WIDE if devices.has_vnni() else NARROW
    plain = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False).requires_grad_(False)
    plain.weight.fill_(sign)
    ones = torch.ones(n_in)
    with torch.inference_mode():
        expected = plain(torch.ones(1, n_in, side, side))
        x = torch.full((1, n_in, side, side), codes.activation, dtype=torch.uint8)
        quantised = QuantisedHead(plain.weight, torch.zeros(n_out), codes, ones, ones)
        found = quantised(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected)


def test_weights_are_rounded_up_or_down_and_keep_the_sum_of_each_kernel():
    weights = torch.randn((7, 5, 3, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 30
    rounded = _rounded(weights)
    assert torch.equal(rounded, rounded.round()) and ((rounded - weights).abs() < 1).all()
    assert torch.equal(rounded.sum(dim=(2, 3)), weights.sum(dim=(2, 3)).round())
    # Of two weights, the one that is nearer to the integer above goes there.
    assert _rounded(torch.tensor([[[[0.6, 0.7]]], [[[-0.2, 1.4]]]])).tolist() == [[[[0, 1]]], [[[0, 1]]]]


@needs_int8
def test_a_convolution_keeps_the_sum_of_each_kernel():
    """Eight weights of 0.4 of a step: rounded to nearest, each would be 0."""
    codes = WIDE if devices.has_vnni() else NARROW
    weights = torch.full((1, 1, 3, 3), 0.4 / codes.weight)
    weights[0, 0, 1, 1] = 1
    x = torch.full((1, 1, 8, 8), codes.activation, dtype=torch.uint8).to(memory_format=torch.channels_last)
    head = QuantisedHead(weights, torch.zeros(1), codes, torch.ones(1), torch.zeros(1))
    assert head(x)[0, 0, 4, 4].item() == pytest.approx(1 + 3 / codes.weight, abs=1e-4)


def test_four_parts_put_together_are_the_convolution_of_what_is_up_sampled():
    generator = torch.Generator().manual_seed(0)
    below = torch.randint(0, 4, (2, 3, 5, 7), generator=generator).double()
    weights = torch.randint(-2, 3, (4, 3, 3, 3), generator=generator).double()
    expected = nn.functional.conv2d(nn.functional.interpolate(below, scale_factor=2), weights, padding=1)
    parts = nn.functional.conv2d(below, of_four_parts(weights), padding=1)
    found = interleaved(parts.contiguous(memory_format=torch.channels_last))
    assert torch.equal(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)


@needs_int8
def test_sums_from_below_that_the_bias_takes_back_widen_the_range():
    """Features below add 3 to a map from which the bias takes 2.5: sums are 6 times as large as results."""
    network = random_network("unet", base_width=2)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    block, one_below = network.decoder.blocks[:2]
    with torch.no_grad():
        one_below[2].bias[0] = 1
        block[0].weight[0, 0, 1, 1], block[0].bias[0] = 3, -2.5
        block[2].weight[0, 0, 1, 1] = network.segmentation_head.weight[0, 0] = 1
        assert (network(images()) == 0.5).all()
    observe(network, images())
    assert block.largest_below.tolist() == [3, 0] and block.largest_between.tolist() == [0.5, 0]
    with torch.inference_mode():
        found = quantise(network)(images())
    assert ((found - 0.5).abs() < 0.02).all()


def test_narrow_codes_fit_into_16_bits():
    assert 2 * NARROW.activation * NARROW.weight < 2**15 <= 2 * (NARROW.activation + 1) * (NARROW.weight + 1)


@needs_int8
def test_narrow_codes_stay_narrow_where_sums_are_added():
    """Also on a processor that would hold wider ones."""
    ones = torch.ones(4)
    addition = QuantisedAddition(torch.full((4, 4, 3, 3), 100.0), torch.zeros(4), NARROW, ones, ones)
    x = torch.full((1, 4, 8, 8), NARROW.activation, dtype=torch.uint8).to(memory_format=torch.channels_last)
    assert addition(x, torch.full_like(x, ZERO)).max() == NARROW.activation


@needs_int8
def test_between_its_ends_there_are_integers_alone(network):
    observe(network, images())
    types = set()
    quantised = quantise(network)
    for name, layer in quantised.named_modules():
        if not list(layer.children()) and not name.endswith("head"):
            layer.register_forward_hook(lambda _layer, _arguments, result: types.add(result.dtype))
    with torch.inference_mode():
        quantised(images())
    assert types == {torch.uint8}


@needs_int8
def test_threads_tiles_and_batches_change_no_bit():
    network = random_network(base_width=8, normalisation="batch")
    observe(network, images(shape=(64, 64)))
    quantised, image = quantise(network), images(1, (150, 170))[0, 0].numpy()
    before = torch.get_num_threads()

    def found(**tiling):
        return predict(quantised, image, CPU, torch.int8, TilingConfig(**{"halo": 32, **tiling})).tobytes()

    try:
        torch.set_num_threads(1)
        alone = found(tile=128)
        torch.set_num_threads(2)
        assert found(tile=128) == found(tile=128, batch=3) == alone
    finally:
        torch.set_num_threads(before)


@needs_int8
def test_activations_beyond_the_range_are_clipped_and_dead_maps_stay_dead():
    """What is brighter than all that was seen gets the largest code; a map that was always 0 divides by nothing."""
    network = random_network(base_width=8)
    first = network.encoder.blocks[0][0]
    first.bias.data[0] = -1e3
    with torch.inference_mode():
        observe(network, images())
        assert network.encoder.blocks[0].largest_between[0] == 0
        quantised = quantise(network)
        bright = quantised(images() * 100)
        assert bright.isfinite().all()
        codes = quantised.encoder.blocks[0](images() * 100)
        assert codes.max() == (WIDE if devices.has_vnni() else NARROW).activation
        assert (quantised.encoder.blocks[0][0](images())[:, 0] == 0).all()


def test_statistics_are_of_nine_images_in_ten_and_means():
    """Of a network that hands the image on: 10 images of one value each, .1 to 1."""
    network = random_network("unet", base_width=2)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        network.encoder.blocks[0][0].weight[0, 0, 1, 1] = 2
    values = torch.arange(1, 11) / 10
    observe(network, values[:, None, None, None].expand(10, 1, 16, 16))
    block = network.encoder.blocks[0]
    torch.testing.assert_close(block.largest_inputs, torch.tensor([0.91]))  # 9 parts of the way from .1 to 1, of 10
    torch.testing.assert_close(block.largest_between, torch.tensor([1.82, 0.0]))
    torch.testing.assert_close(block.mean_between, torch.tensor([1.1, 0.0]))
    torch.testing.assert_close(block.largest_outputs, torch.zeros(2))


def test_observing_leaves_no_hook_and_the_same_weights(network):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    after = observe(network, images())
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert all(is_statistic(name) for name in after.keys() - before.keys())
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in network.modules())
    observed_once = {name: tensor.clone() for name, tensor in after.items()}
    with torch.inference_mode():
        network(images() * 9)
    assert all(torch.equal(tensor, observed_once[name]) for name, tensor in network.state_dict().items())


@pytest.fixture
def weights(tmp_path):
    network = random_network()
    path = tmp_path / "observed.safetensors"
    write(path, card_of(network), observe(network, images()))
    return path


@pytest.mark.parametrize("is_fast", [True, False])
def test_a_file_with_statistics_runs_in_integers_where_they_are_fast(weights, monkeypatch, is_fast):
    if is_fast and not devices.has_fast_int8(CPU):
        pytest.skip("this processor has neither VNNI nor AVX2")
    monkeypatch.setattr(devices, "has_fast_int8", lambda device: is_fast)
    monkeypatch.setattr("deepsplit_core.weights._loaded", {})  # a process keeps a model
    model = load_model(str(weights), "cpu")
    assert (model.dtype == torch.int8) == is_fast
    image = images(1, (40, 50))[0, 0].numpy()
    found = predict(model.network, image, CPU, model.dtype, TilingConfig())
    reference = build_network(weights, *read(weights))
    expected = predict(reference, image, CPU, torch.float32, TilingConfig())
    assert abs(found.astype("float32") - expected).mean() < 0.02


def test_a_file_without_statistics_runs_in_floats(tmp_path):
    network = random_network(seed=5)
    path = tmp_path / "plain.safetensors"
    write(path, card_of(network), network.state_dict())
    assert load_model(str(path), "cpu").dtype != torch.int8


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.full((2,), -1.0), "hold NaN, infinity or what cannot be"),
        (torch.full((2,), float("nan")), "hold NaN, infinity or what cannot be"),
        (torch.full((2,), float("inf")), "hold NaN, infinity or what cannot be"),
        (torch.ones(3), r"1 tensors do not fit .* such as 'encoder.blocks.0.largest_between'"),
        (None, r"1 tensors do not fit .* such as 'encoder.blocks.0.largest_between'"),
    ],
    ids=["negative", "nan", "infinite", "of another shape", "missing"],
)
def test_statistics_that_cannot_be(weights, value, message):
    card, tensors = read(weights)
    del tensors["encoder.blocks.0.largest_between"]
    if value is not None:
        tensors["encoder.blocks.0.largest_between"] = value
    with pytest.raises(WeightsError, match=message):
        build_network(weights, card, tensors)


def test_the_bundled_models_have_statistics():
    for name in ("nuclei", "cells", "cells-phase"):
        assert any(map(is_statistic, read(path_of(name))[1]))
        assert (load_model(name, "cpu").dtype == torch.int8) == devices.has_fast_int8(CPU)
