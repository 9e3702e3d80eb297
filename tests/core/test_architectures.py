"""The four networks: shapes, sizes, and which part may influence which."""

import pytest
import torch
from networks import random_network
from torch import nn

from deepsplit_core.architectures import ARCHITECTURES, build
from deepsplit_core.architectures.blocks import Block, DecoderBlock, Dropout
from deepsplit_core.config import ModelConfig

TWO_TASKS = ("deepsplit", "branch_net", "double_unet")


def papers(architecture):
    """The paper's network without memory for its weights."""
    with torch.device("meta"):
        return ARCHITECTURES[architecture](ModelConfig(architecture))


def image(n_y=16, n_x=24, seed=0):
    return torch.rand((1, 1, n_y, n_x), generator=torch.Generator().manual_seed(seed))


def awake(architecture, **config):
    """A random network in which no ReLU is silent for every pixel."""
    network = random_network(architecture, base_width=4, **config)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.constant_(parameter, 0.3)
    return network


def n_parameters(network):
    return sum(p.numel() for p in network.parameters())


# Shapes


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("n_levels", "shape"), [(3, (4, 4)), (3, (8, 20)), (5, (16, 48)), (2, (2, 6))])
def test_logits_for_every_pixel(architecture, n_levels, shape):
    network = random_network(architecture, n_levels=n_levels)
    logits = network(torch.zeros((3, 1, *shape)))
    assert logits.shape == (3, 1 if architecture == "unet" else 2, *shape)
    assert network.n_outputs == logits.shape[1]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("shape", "fit"), [((17, 16), "32x16"), ((16, 1), "16x16"), ((33, 50), "48x64")])
def test_wrong_size_is_refused_with_the_size_that_would_do(architecture, shape, fit):
    network = random_network(architecture, n_levels=5)
    with pytest.raises(ValueError, match=rf"{shape[0]}x{shape[1]} pixels, .* pad it to {fit}\."):
        network(torch.zeros((1, 1, *shape)))


# The paper's network


def test_papers_widths():
    """Section 2.1 and Fig. 2: five blocks, 64 to 1024 feature maps."""
    network = papers("deepsplit")
    widths = [64, 128, 256, 512, 1024]
    assert [block[0].out_channels for block in network.encoder.blocks] == widths
    for decoder in (network.decoder, network.separation.decoder):
        assert [block[0].out_channels for block in decoder.blocks] == widths[:-1]


def test_papers_blocks():
    """Two 3x3 convolutions with ReLU, 20 % dropout, no normalisation."""
    network = papers("deepsplit")
    blocks = [module for module in network.modules() if isinstance(module, Block)]
    assert len(blocks) == 5 + 4 + 4
    for block in blocks:
        kinds = [type(layer) for layer in block]
        assert kinds == [nn.Conv2d, nn.ReLU, nn.Conv2d, nn.ReLU, Dropout]
        assert all(layer.kernel_size == (3, 3) for layer in block if isinstance(layer, nn.Conv2d))
        assert block[-1].p == 0.2


def test_inputs_of_the_decoders():
    """Up-sampled features and the encoder's; in the separation decoder also the segmentation decoder's."""
    network = papers("deepsplit")
    assert [block[0].in_channels for block in network.decoder.blocks] == [128 + 64, 256 + 128, 512 + 256, 1024 + 512]
    assert [block[0].in_channels for block in network.separation.decoder.blocks] == [
        128 + 2 * 64,
        256 + 2 * 128,
        512 + 2 * 256,
        1024 + 2 * 512,
    ]


def convolution(n_in, n_out, side=3):
    return n_in * n_out * side**2 + n_out


def block_parameters(n_in, n_out):
    return convolution(n_in, n_out) + convolution(n_out, n_out)


W = [64, 128, 256, 512, 1024]
ENCODER = sum(block_parameters(n_in, n_out) for n_in, n_out in zip([1, *W], W))
DECODER = sum(block_parameters(below + width, width) for width, below in zip(W, W[1:]))
HEAD = convolution(64, 1, side=1)


@pytest.mark.parametrize(
    ("architecture", "separation"),
    [
        ("unet", 0),
        ("deepsplit", sum(block_parameters(below + 2 * w, w) for w, below in zip(W, W[1:])) + HEAD),
        ("branch_net", 3 * block_parameters(64, 64) + HEAD),
        (
            "double_unet",
            sum(block_parameters(*pair) for pair in ((64, 64), (64, 128), (128, 256)))
            + sum(block_parameters(*pair) for pair in ((128 + 64, 64), (256 + 128, 128)))
            + HEAD,
        ),
    ],
)
def test_number_of_parameters(architecture, separation):
    assert n_parameters(papers(architecture)) == ENCODER + DECODER + HEAD + separation


def test_number_of_parameters_of_the_papers_unet():
    # Ronneberger's 31,030,593 with one output map, with up-sampling instead of its four 2x2 up-convolutions,
    # which halve the maps: w -> w/2 there, so that the decoder's first convolutions see more maps here.
    up_convolutions = sum(4 * 2 * w * w + w for w in W[:-1])
    more_maps = sum(9 * w * w for w in W[:-1])
    ronneberger = 31_030_593
    assert n_parameters(papers("unet")) == ronneberger - up_convolutions + more_maps


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_normalisation_is_an_option(architecture):
    plain, normalised = random_network(architecture), random_network(architecture, normalisation="batch")
    assert not any(isinstance(m, nn.BatchNorm2d) for m in plain.modules())
    n_convolutions = sum(isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) for m in normalised.modules())
    assert sum(isinstance(m, nn.BatchNorm2d) for m in normalised.modules()) == n_convolutions


def test_dropout_works_in_training_alone():
    network = awake("deepsplit", dropout=0.2)
    assert torch.equal(network(image()), network(image()))
    network.train()
    assert not torch.equal(network(image()), network(image()))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_dropout_is_torchs_but_for_its_random_numbers(layout):
    x = torch.rand((3, 5, 64, 63)).add_(1).to(memory_format=layout).requires_grad_()
    dropout = Dropout(0.3)
    torch.manual_seed(0)
    result = dropout(x)
    result.sum().backward()
    kept = result > 0
    torch.testing.assert_close(result[kept], x[kept] / 0.7)
    assert torch.equal(x.grad > 0, kept) and torch.equal(x.grad[~kept], torch.zeros_like(x.grad[~kept]))
    assert kept.float().mean().item() == pytest.approx(0.7, abs=0.01)  # seven standard deviations
    # Neighbours, which share a random number, are no more alike than chance has it.
    assert (kept[..., :-1] == kept[..., 1:]).float().mean().item() == pytest.approx(0.7**2 + 0.3**2, abs=0.01)
    torch.manual_seed(0)
    assert torch.equal(dropout(x), result) and not torch.equal(dropout(x), result)


def test_first_weights_are_the_seeds():
    one, same, other = (random_network(seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["encoder.blocks.0.0.weight"], other["encoder.blocks.0.0.weight"])


def test_first_weights_keep_the_size_of_the_signal():
    """He's standard deviation, sqrt(2 / inputs)."""
    network = build(ModelConfig("unet", base_width=32, n_levels=3))
    for block in network.encoder.blocks[1:]:
        weight = block[0].weight
        assert weight.std().item() == pytest.approx((2 / (weight.shape[1] * 9)) ** 0.5, rel=0.05)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_first_probabilities_are_near_a_half(architecture):
    """Also on features as large as those of a trained trunk: an image of 10 stands for them."""
    network = build(ModelConfig(architecture, base_width=8, dropout=0.0)).eval()
    probabilities = torch.sigmoid(network(10 * image(32, 32)))
    assert ((probabilities > 0.3) & (probabilities < 0.7)).all()


# Who may influence whom


@pytest.mark.parametrize("architecture", TWO_TASKS)
def test_separation_never_feeds_back(architecture):
    network = awake(architecture)
    before = network(image())
    before[:, 0].sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in network.separation.parameters())
    for parameter in network.separation.parameters():
        nn.init.normal_(parameter)
    after = network(image())
    assert torch.equal(before[:, 0], after[:, 0])
    assert not torch.equal(before[:, 1], after[:, 1])


@pytest.mark.parametrize("architecture", TWO_TASKS)
def test_separation_builds_on_the_segmentation(architecture):
    network = awake(architecture)
    network(image())[:, 1].sum().backward()
    for part in (network.encoder, network.decoder):
        for block in part.blocks:
            assert block[0].weight.grad.any()
    assert network.segmentation_head.weight.grad is None or not network.segmentation_head.weight.grad.any()


@pytest.mark.parametrize("level", range(4))
def test_cross_connection_of_every_level(level):
    """The separation depends on this level of the segmentation decoder, and not only through the finer levels."""
    network = awake("deepsplit", n_levels=5)
    _, encoded, decoded = network.trunk(image(32, 32))
    encoded = [features.detach() for features in encoded]
    decoded = [features.detach().requires_grad_() for features in decoded]
    network.separation(encoded, decoded).sum().backward()
    assert decoded[level].grad.any()


@pytest.mark.parametrize("level", range(5))
def test_skip_of_every_level_into_the_separation_decoder(level):
    network = awake("deepsplit", n_levels=5)
    _, encoded, decoded = network.trunk(image(32, 32))
    encoded = [features.detach().requires_grad_() for features in encoded]
    network.separation(encoded, [features.detach() for features in decoded]).sum().backward()
    assert encoded[level].grad.any()


@pytest.mark.parametrize("architecture", ["branch_net", "double_unet"])
def test_the_others_see_the_last_features_alone(architecture):
    """They have no cross connections, which is what DeepSplit is compared for."""
    network = awake(architecture)
    _, encoded, decoded = network.trunk(image())
    changed = [decoded[0], *(features + 1 for features in decoded[1:])]
    assert torch.equal(network.separation(encoded, decoded), network.separation([e + 1 for e in encoded], changed))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_images_of_a_batch_do_not_mix(architecture):
    network = awake(architecture)
    one, other = image(seed=1), image(seed=2)
    torch.testing.assert_close(network(torch.cat([one, other]))[:1], network(one), atol=1e-5, rtol=1e-4)


# Two passes


@pytest.mark.parametrize("architecture", ["deepsplit", "branch_net", "double_unet"])
def test_two_passes_give_the_segmentation_of_one_trunk_and_the_separation_on_the_other(architecture):
    one, two = (random_network(architecture, seed=seed) for seed in (0, 1))
    both = random_network(architecture, passes=2)
    trunk = {name: value for name, value in one.state_dict().items() if not name.startswith("separation.")}
    both.load_state_dict({**two.state_dict(), **{f"segmentation.{name}": value for name, value in trunk.items()}})
    image = torch.rand(2, 1, 16, 24)
    assert torch.equal(both(image), torch.cat([one(image)[:, :1], two(image)[:, 1:]], dim=1))


def test_unet_has_one_pass():
    with pytest.raises(ValueError, match="ModelConfig.passes is 2, but it must be 1"):
        random_network("unet", passes=2)


# ----------------------------------------------------------------------------------------------------
# A decoder's block


@pytest.mark.parametrize("normalisation", ["none", "batch"])
def test_a_decoder_block_is_a_block_on_upsampled_and_joined_features(normalisation):
    config = ModelConfig(base_width=2, n_levels=3, dropout=0.0, normalisation=normalisation)
    generator = torch.Generator().manual_seed(0)
    below, *skips = (torch.randn(shape, generator=generator) for shape in ((2, 6, 4, 5), (2, 3, 8, 10), (2, 2, 8, 10)))
    torch.manual_seed(1)
    block, plain = DecoderBlock(6, 5, 4, config), Block(11, 4, config)
    plain.load_state_dict(block.state_dict())
    joined = torch.cat([below.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3), *skips], dim=1)
    found, expected = block(below, skips), plain(joined)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert found.std() > 0.05
    gradients = [
        torch.autograd.grad((out**2).sum(), net.parameters()) for net, out in ((block, found), (plain, expected))
    ]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
