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

The sums of a decoder block's first convolution come from below and from beside it; what comes from below is rounded to
one byte before the rest is added. Its range is that of the results after the ReLU, or a wider one where it needs it.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import defaultdict
from typing import Any, Iterator, NamedTuple, Sequence, cast

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

    @property
    def step(self) -> float:
        """How many codes of an activation are one of a sum that a ReLU has not seen yet, on both sides of `ZERO`."""
        return self.activation / (255 - ZERO)


WIDE, NARROW = Codes(255, 127), Codes(181, 90)
ZERO = 128


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

    The largest activation is that of nine tiles in ten: a range as wide as a few have it leaves fewer steps for all.
    """
    add_statistics(network)
    # Numbers of Python's: small tensors, kept between feature maps that come and go, would hold all memory around them.
    largest: dict[tuple[nn.Module, str], list[list[float]]] = defaultdict(list)
    mean: dict[tuple[nn.Module, str], list[list[float]]] = defaultdict(list)

    def note(module: nn.Module, name: str, *maps: Tensor) -> None:
        largest[module, name] += torch.cat([part.detach().amax(dim=(2, 3)) for part in maps], dim=1).tolist()
        mean[module, name] += torch.cat([part.detach().mean(dim=(2, 3)) for part in maps], dim=1).tolist()

    hooks = []
    for module in _units(network).values():
        if isinstance(module, DecoderBlock):
            hooks.append(module.register_forward_pre_hook(lambda m, x: note(m, "below", _from_below(m, x[0]).abs())))
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
        module.get_buffer(LARGEST + name).copy_(torch.tensor(largest[module, name]).quantile(SHARE, dim=0))
        module.get_buffer(MEAN + name).copy_(torch.tensor(mean[module, name]).mean(dim=0))


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
    """(N, in, Y, X) uint8 -> (N, out, Y, X) uint8 after a ReLU, both in channels-last layout.

    Parameters
    ----------
    weights, bias : Tensor
        (out, in, Y, X) and (out,), of a convolution in floats whose results are in codes (`_in_codes`).
    codes : Codes
    largest, mean : Tensor
        (in,) statistics of the inputs.
    """

    def __init__(self, weights: Tensor, bias: Tensor, codes: Codes, largest: Tensor, mean: Tensor) -> None:
        super().__init__()
        step = _positive(largest) / codes.activation
        weights = weights * step[:, None, None]
        scales = (weights.abs().amax(dim=(1, 2, 3)) / codes.weight).clamp(min=1e-30)  # weights may all be 0
        rounded = _rounded(weights / scales[:, None, None, None])
        bias = bias + ((weights - rounded * scales[:, None, None, None]).sum(dim=(2, 3)) * (mean / step)).sum(dim=1)
        self.codes = codes
        self.register_buffer("scales", scales)
        self.register_buffer("zeros", torch.zeros(len(scales), dtype=torch.int64))
        self.register_buffer("bias", bias)
        self.layout = ([1, 1], [weights.shape[-1] // 2] * 2, [1, 1], 1)  # stride, padding, dilation, groups
        # What torch's own compiler calls for quantised convolutions on x86; the older operators are to be removed.
        packed = torch.ops.onednn.qconv_prepack(rounded.to(torch.int8), self.scales, 1.0, 0, *self.layout)
        self.register_buffer("weights", packed)

    def forward(self, x: Tensor) -> Tensor:
        """Integers are multiplied and added exactly; the result is rounded once, and clipped to the codes there are."""
        return self.convolved(x, 1.0, 0, torch.uint8, "hardtanh", [0.0, float(self.codes.activation)], "")

    def convolved(self, x: Tensor, *results: Any) -> Tensor:
        """Convolve; the others are the results' scale, zero point and type, and what is done with them."""
        result: Tensor = torch.ops.onednn.qconv2d_pointwise(
            *(x, 1.0, 0, self.weights, self.scales, self.zeros, self.bias), *self.layout, *results
        )
        return result


class QuantisedHead(QuantisedConvolution):
    """(N, in, Y, X) uint8 -> (N, out, Y, X) float32 logits."""

    def forward(self, x: Tensor) -> Tensor:
        """As above, without rounding."""
        return self.convolved(x, 1.0, 0, torch.float32, "none", [], "")


class QuantisedUpsampling(QuantisedConvolution):
    """Features below, (N, in, Y, X) uint8 -> what they add to those above, (N, out, 2 Y, 2 X) uint8 sums.

    As in floats, features are convolved before they are up-sampled, which takes 4/9 of the operations: each of 2x2
    pixels sees 2x2 pixels below. Those four convolutions are one with four times as many results (`of_four_parts`).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, and put the four results together."""
        return interleaved(self.convolved(x, self.codes.step, ZERO, torch.uint8, "none", [], ""))


class QuantisedAddition(QuantisedConvolution):
    """(N, in, Y, X) uint8, added to (N, out, Y, X) uint8 sums -> (N, out, Y, X) uint8 after a ReLU."""

    def forward(self, x: Tensor, sums: Tensor) -> Tensor:  # type: ignore[override]
        """As above; the sums are overwritten."""
        result: Tensor = torch.ops.onednn.qconv2d_pointwise.binary(
            *(x, 1.0, 0, self.weights, self.scales, self.zeros, sums, self.bias, *self.layout),
            *(1.0, 0, torch.uint8, self.codes.step, ZERO, "sum", 1.0, "relu", [], ""),
        )
        # This operator clips at 255 alone.
        return result if self.codes.activation == 255 else result.clamp_(max=self.codes.activation)


class QuantisedImageConvolution(ImageConvolution):
    """(N, 1, Y, X) float32 image -> (N, out, Y, X) uint8."""

    def __init__(self, weights: Tensor, bias: Tensor, codes: Codes) -> None:
        super().__init__(weights, bias + 0.5)
        self.codes = codes

    def forward(self, image: Tensor) -> Tensor:
        """Convolve in float32, and round: what is .5 too large is cut off."""
        return super().forward(image).clamp_(0, self.codes.activation + 0.5).to(torch.uint8)


class QuantisedDecoderBlock(nn.Module):
    """A `DecoderBlock` in integers."""

    def __init__(self, below: QuantisedUpsampling, skips: QuantisedAddition, second: QuantisedConvolution) -> None:
        super().__init__()
        self.below, self.skips, self.second = below, skips, second

    def forward(self, below: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """As `DecoderBlock`."""
        joined = skips[0] if len(skips) == 1 else torch.cat(list(skips), dim=1)
        result: Tensor = self.second(self.skips(joined, self.below(below)))
        return result


def interleaved(parts: Tensor) -> Tensor:
    """Put four images together, (N, 4 n, Y + 1, X + 1) -> (N, n, 2 Y, 2 X), both uint8 in channels-last layout.

    Pixel (2 y + a, 2 x + b) is pixel (y + a, x + b) of part 2 a + b.
    """
    n_images, n_parts, n_y, n_x = parts.shape
    n, n_y, n_x = n_parts // 4, n_y - 1, n_x - 1
    whole = parts.new_empty((n_images, n_y, 2, n_x, 2, n))
    pixels = parts.permute(0, 2, 3, 1)
    for a, b in itertools.product((0, 1), repeat=2):
        part = 2 * a + b
        whole[:, :, a, :, b] = pixels[:, a : n_y + a, b : n_x + b, part * n : (part + 1) * n]
    return whole.view(n_images, 2 * n_y, 2 * n_x, n).permute(0, 3, 1, 2)


def _quantised(module: nn.Module, codes: Codes) -> nn.Module:
    largest, mean = ({n: module.get_buffer(statistic + n) for n in _n_maps(module)} for statistic in (LARGEST, MEAN))
    if isinstance(module, nn.Conv2d):
        return QuantisedHead(module.weight.detach(), _bias(module), codes, largest["inputs"], mean["inputs"])
    one, other = _convolutions(module)
    between = largest["between"]
    if isinstance(module, DecoderBlock):
        between = torch.maximum(between, largest["below"])  # sums have to be held as well
    second = QuantisedConvolution(*_in_codes(other, codes, largest["outputs"]), codes, between, mean["between"])
    weights, bias = _in_codes(one, codes, between)
    if one.in_channels == 1:
        return nn.Sequential(QuantisedImageConvolution(weights, bias, codes), second)
    if not isinstance(module, DecoderBlock):
        return nn.Sequential(QuantisedConvolution(weights, bias, codes, largest["inputs"], mean["inputs"]), second)
    n = module.n_below
    nothing = bias.new_zeros(4 * len(bias))  # the bias is added once
    below = QuantisedUpsampling(
        of_four_parts(weights[:, :n]), nothing, codes, largest["inputs"][:n], mean["inputs"][:n]
    )
    skips = QuantisedAddition(weights[:, n:], bias, codes, largest["inputs"][n:], mean["inputs"][n:])
    return QuantisedDecoderBlock(below, skips, second)


def _in_codes(convolution: nn.Conv2d, codes: Codes, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights and bias whose results are those of the convolution in codes."""
    steps = codes.activation / _positive(outputs)
    return convolution.weight.detach() * steps[:, None, None, None], _bias(convolution) * steps


def _bias(convolution: nn.Conv2d) -> Tensor:
    return torch.zeros(convolution.out_channels) if convolution.bias is None else convolution.bias.detach()


def of_four_parts(weights: Tensor) -> Tensor:
    """Turn 3x3 weights for up-sampled features into 2x2 ones for those below: (out, n, 3, 3) -> (4 out, n, 2, 2).

    Of three weights in a row, two fall on one pixel: on the second one for the first of two results, else on the first.
    """

    def halves(weights: Tensor, axis: int, place: int) -> Tensor:
        return torch.stack([part.sum(dim=axis) for part in weights.split([1 + place, 2 - place], dim=axis)], dim=axis)

    return torch.cat([halves(halves(weights, 2, a), 3, b) for a, b in itertools.product((0, 1), repeat=2)])


def _from_below(block: DecoderBlock, below: Tensor) -> Tensor:
    """Return what features below add to a block's first convolution, normalised: (N, n, Y, X) -> (N, out, 2 Y, 2 X)."""
    convolution, normalisation = list(block)[:2]
    weights = cast(nn.Conv2d, convolution).weight[:, : block.n_below]
    if isinstance(normalisation, nn.BatchNorm2d):
        gain = normalisation.weight / (cast(Tensor, normalisation.running_var) + normalisation.eps).sqrt()
        weights = weights * gain[:, None, None, None]
    return functional.conv2d(functional.interpolate(below, scale_factor=2), weights, padding=1)


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
    from_below = {"below": first.out_channels} if isinstance(module, DecoderBlock) else {}
    return {"inputs": first.in_channels, "between": second.in_channels, "outputs": second.out_channels, **from_below}


def _convolutions(block: nn.Module) -> tuple[nn.Conv2d, nn.Conv2d]:
    first, second = (layer for layer in block.children() if isinstance(layer, nn.Conv2d))
    return first, second
