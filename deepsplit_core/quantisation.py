"""The same network in 8-bit integers, for processors that multiply those faster than float32.

Activations behind a ReLU are 0 and more, so that uint8 holds each feature map from 0 to the largest value that it had
on training images, and what is beyond is clipped; weights are int8 with a factor for each feature map that a
convolution makes (Jacob et al. 2018, doi:10.1109/CVPR.2018.00286). Every feature map has a range of its own: what a
convolution divides its results by, it does with its weights, and the next one multiplies its weights by it. The nine
weights of a kernel are rounded so that they keep their sum, as neighbouring activations are much alike; what is left
shifts a result by what the weights are off times the mean of the activations, and the bias takes that back (Nagel et
al. 2019, doi:10.1109/ICCV.2019.00141). The image itself stays float32, as dim cells beside bright ones have few of 255
grey values, and so do the results.

Processors with VNNI add products in 32 bits. Without it two products at a time are added in 16 bits, and clipped at
32,767: fewer codes are used there, of which no two products add up to that.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import defaultdict
from typing import Iterator, NamedTuple, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .architectures import UNet
from .architectures.blocks import Block, DecoderBlock
from .devices import has_vnni
from .folding import ImageConvolution, fold_normalisation

LARGEST, MEAN = "largest_", "mean_"  # with which the names of what is known of the activations begin
SHARE = 0.9  # of images of which no activation is clipped


class Codes(NamedTuple):
    """The largest integers that stand for activations, from 0 on, and for weights, on both sides of 0."""

    activation: int
    weight: int


WIDE, NARROW = Codes(255, 127), Codes(181, 90)


def add_statistics(network: nn.Module) -> None:
    """Give every block, and the last convolution of every task, a place for statistics of its activations: buffers."""
    for module in _units(network).values():
        for name, n in _n_maps(module).items():
            for statistic in (LARGEST, MEAN):
                module.register_buffer(statistic + name, torch.zeros(n, device=next(module.parameters()).device))


def is_statistic(name: str) -> bool:
    """Say whether a tensor of that name holds a statistic of activations, which no training starts from."""
    return name.rpartition(".")[2].startswith((LARGEST, MEAN))


@contextlib.contextmanager
def observed(network: UNet) -> Iterator[None]:
    """Set the statistics to those of the images that a network in float32 sees within; at least one.

    The largest activation is that of nine images in ten: a range as wide as a few images have it leaves fewer steps
    for all.
    """
    add_statistics(network)
    largest: dict[tuple[nn.Module, str], list[Tensor]] = defaultdict(list)
    mean: dict[tuple[nn.Module, str], list[Tensor]] = defaultdict(list)

    def note(module: nn.Module, name: str, *maps: Tensor) -> None:
        largest[module, name].append(torch.cat([part.detach().amax(dim=(2, 3)) for part in maps], dim=1))
        mean[module, name].append(torch.cat([part.detach().mean(dim=(2, 3)) for part in maps], dim=1))

    hooks = []
    for module in _units(network).values():
        hooks.append(module.register_forward_pre_hook(lambda m, x: note(m, "inputs", x[0], *(x[1] if x[1:] else ()))))
        if isinstance(module, Block):
            hooks.append(module.register_forward_hook(lambda m, _, result: note(m, "outputs", result)))
            second = _convolutions(module)[1]
            hooks.append(second.register_forward_pre_hook(lambda _, x, block=module: note(block, "between", x[0])))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    for module, name in largest:
        module.get_buffer(LARGEST + name).copy_(torch.cat(largest[module, name]).quantile(SHARE, dim=0))
        module.get_buffer(MEAN + name).copy_(torch.cat(mean[module, name]).mean(dim=0))


def quantise(network: UNet) -> UNet:
    """Turn a network with statistics of its activations into one of integers, in place.

    Parameters
    ----------
    network : UNet
        As `weights.build_network` returns it: in evaluation mode, on the CPU, in float32.

    Returns
    -------
    UNet
        The network given, from (N, 1, Y, X) float32 images to (N, tasks, Y, X) float32 logits. It runs where
        `devices.has_fast_int8` says so.
    """
    fold_normalisation(network)
    codes = WIDE if has_vnni() else NARROW
    for name, module in _units(network).items():
        parent, _, own = name.rpartition(".")
        setattr(network.get_submodule(parent), own, _quantised(module, codes))
    return network


class QuantisedConvolution(nn.Module):
    """(N, in, Y, X) uint8 -> (N, out, Y, X) uint8 after a ReLU or, without a range for its results, float32 logits.

    Both in channels-last layout.
    """

    def __init__(
        self, convolution: nn.Conv2d, codes: Codes, largest: Tensor, mean: Tensor, outputs: Tensor | None
    ) -> None:
        super().__init__()
        weights, bias = _in_codes(convolution, codes, outputs)
        step = _positive(largest) / codes.activation
        weights = weights * step[:, None, None]
        scales = (weights.abs().amax(dim=(1, 2, 3)) / codes.weight).clamp(min=1e-30)  # weights may all be 0
        rounded = _rounded(weights / scales[:, None, None, None])
        bias = bias + ((weights - rounded * scales[:, None, None, None]).sum(dim=(2, 3)) * (mean / step)).sum(dim=1)
        self.padding = list(convolution.padding)
        self.clipping = ("none", [], "") if outputs is None else ("hardtanh", [0.0, float(codes.activation)], "")
        self.results = torch.float32 if outputs is None else torch.uint8
        self.register_buffer("scales", scales)
        self.register_buffer("zeros", torch.zeros(len(scales), dtype=torch.int64))
        self.register_buffer("bias", bias)
        # What torch's own compiler calls for quantised convolutions on x86; the older operators are to be removed.
        packed = torch.ops.onednn.qconv_prepack(
            rounded.to(torch.int8), self.scales, 1.0, 0, [1, 1], self.padding, [1, 1], 1
        )
        self.register_buffer("weights", packed)

    def forward(self, x: Tensor) -> Tensor:
        """Integers are multiplied and added exactly; the result is rounded once, and clipped to the codes there are."""
        result: Tensor = torch.ops.onednn.qconv2d_pointwise(
            *(x, 1.0, 0, self.weights, self.scales, self.zeros, self.bias, [1, 1], self.padding, [1, 1], 1),
            *(1.0, 0, self.results, *self.clipping),
        )
        return result


class QuantisedImageConvolution(ImageConvolution):
    """(N, 1, Y, X) float32 image -> (N, out, Y, X) uint8."""

    def __init__(self, convolution: nn.Conv2d, codes: Codes, outputs: Tensor) -> None:
        weights, bias = _in_codes(convolution, codes, outputs)
        super().__init__(weights, bias)
        self.largest_code = codes.activation

    def forward(self, image: Tensor) -> Tensor:
        """Convolve in float32, and round."""
        return super().forward(image).round_().clamp_(0, self.largest_code).to(torch.uint8)


class QuantisedDecoderBlock(nn.Sequential):
    """A `DecoderBlock` in integers; these are so small that joining them in memory costs little."""

    def forward(self, below: Tensor, skips: Sequence[Tensor]) -> Tensor:  # type: ignore[override]
        """As `DecoderBlock`."""
        return super().forward(torch.cat([functional.interpolate(below, scale_factor=2), *skips], dim=1))


def _quantised(module: nn.Module, codes: Codes) -> nn.Module:
    largest, mean = ({n: module.get_buffer(statistic + n) for n in _n_maps(module)} for statistic in (LARGEST, MEAN))
    if isinstance(module, nn.Conv2d):
        return QuantisedConvolution(module, codes, largest["inputs"], mean["inputs"], None)
    one, other = _convolutions(module)
    first = (
        QuantisedImageConvolution(one, codes, largest["between"])
        if one.in_channels == 1
        else QuantisedConvolution(one, codes, largest["inputs"], mean["inputs"], largest["between"])
    )
    second = QuantisedConvolution(other, codes, largest["between"], mean["between"], largest["outputs"])
    return (QuantisedDecoderBlock if isinstance(module, DecoderBlock) else nn.Sequential)(first, second)


def _in_codes(convolution: nn.Conv2d, codes: Codes, outputs: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return weights and bias whose results are those of the convolution in codes."""
    weights = convolution.weight.detach()
    bias = torch.zeros(len(weights)) if convolution.bias is None else convolution.bias.detach()
    if outputs is None:
        return weights, bias
    steps = codes.activation / _positive(outputs)
    return weights * steps[:, None, None, None], bias * steps


def _rounded(weights: Tensor) -> Tensor:
    """Round each of (out, in, Y, X) up or down, so that the sum over Y and X is the integer nearest to theirs.

    The largest remainders go up. Each rounded to nearest, the sum of nine would be off by .87 of a step, as a standard
    deviation; so it is by .29.
    """
    # In numpy, which needs no second thread: torch's waits long for a busy core, once for each of many short steps.
    kernels = np.ascontiguousarray(weights.flatten(2).permute(2, 0, 1).numpy())  # (Y X, out, in)
    lower = np.floor(kernels)
    remainders = kernels - lower
    # Each compared with each: in a sixth of the time that it takes to sort so many short rows.
    n_larger = np.zeros(remainders.shape, np.uint8)
    for i, j in itertools.combinations(range(len(remainders)), 2):
        is_first = remainders[i] >= remainders[j]
        n_larger[j] += is_first
        n_larger[i] += ~is_first
    rounded = lower + (n_larger < np.rint(remainders.sum(axis=0)))
    return torch.from_numpy(rounded).permute(1, 2, 0).reshape(weights.shape)


def _positive(values: Tensor) -> Tensor:
    """Return values above 0: a feature map may have been 0 everywhere."""
    return values.clamp(min=1e-6)


def _units(network: nn.Module) -> dict[str, nn.Module]:
    """Return, with their names, what is quantised as a whole: blocks, and the last convolutions, which are in none."""
    modules = dict(network.named_modules())
    blocks = {name: module for name, module in modules.items() if isinstance(module, Block)}
    heads = {
        name: m for name, m in modules.items() if isinstance(m, nn.Conv2d) and name.rpartition(".")[0] not in blocks
    }
    return {**blocks, **heads}


def _n_maps(module: nn.Module) -> dict[str, int]:
    """Return the number of feature maps of every kind of which statistics are needed."""
    if isinstance(module, nn.Conv2d):
        return {"inputs": module.in_channels}
    first, second = _convolutions(module)
    return {"inputs": first.in_channels, "between": second.in_channels, "outputs": second.out_channels}


def _convolutions(block: nn.Module) -> tuple[nn.Conv2d, nn.Conv2d]:
    first, second = (layer for layer in block.children() if isinstance(layer, nn.Conv2d))
    return first, second
