"""The stages of a run: what each trains, and with which share of the two losses (paper, 4.1 and 4.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

from torch import Tensor, nn

from deepsplit_core.architectures import TwoTaskNet, UNet

from .config import TrainConfig
from .distributed import Outputs, mean
from .hardware import autocast, device_of, place, to_device
from .losses import weighted_cross_entropy


class Stage(NamedTuple):
    """One stage of a schedule.

    Attributes
    ----------
    name : str
    n_epochs : int
        At most.
    segmentation_weight, separation_weight : float
        Of the two losses. A part whose loss has the weight 0 is not trained.
    keeps_segmentation : bool
        The network gets a copy of its trunk as it is when the stage begins, which goes on giving the segmentation.
    """

    name: str
    n_epochs: int
    segmentation_weight: float
    separation_weight: float
    keeps_segmentation: bool = False


def stages_of(config: TrainConfig) -> list[Stage]:
    """Return the stages of a run in their order.

    A U-Net has segmentation alone. *Simultaneous* learns both tasks from scratch, with equal weights (4.2), for as
    many epochs as the other schedule has in both stages. *Cumulative* (4.1) learns segmentation first, as a U-Net.
    The paper then retrains everything with 0.3 and 1 and takes the segmentation of stage 1: two networks, two passes.
    With a frozen trunk the segmentation of stage 1 stays, so that one pass gives the same two results; with `one_pass`
    both are those of stage 2.
    """
    first = Stage("segmentation", config.segmentation_epochs, 1.0, 0.0)
    if config.network.architecture == "unet":
        return [first]
    if config.schedule == "simultaneous":
        return [Stage("both", config.segmentation_epochs + config.separation_epochs, 1.0, 1.0)]
    if config.freeze_trunk:
        return [first, Stage("separation", config.separation_epochs, 0.0, 1.0)]
    share = config.segmentation_loss_weight
    return [first, Stage("separation", config.separation_epochs, share, 1.0, keeps_segmentation=not config.one_pass)]


def begin(network: UNet, stage: Stage, config: TrainConfig) -> None:
    """Make the network ready for a stage: what it trains has gradients, and a copy of stage 1 is kept if asked for."""
    network.requires_grad_(False)
    for parameter in trained_parameters(network, stage):
        parameter.requires_grad_(True)
    if stage.keeps_segmentation:
        trunk = place(UNet(config.network), device_of(network))
        trunk.load_state_dict({n: v for n, v in network.state_dict().items() if not n.startswith("separation.")})
        cast(TwoTaskNet, network).segmentation = trunk.requires_grad_(False)


def parts_of(network: UNet) -> tuple[list[nn.Module], list[nn.Module]]:
    """Return the parts of the trunk, and those of the separation."""
    trunk = [network.encoder, network.decoder, network.segmentation_head]
    return trunk, [cast(TwoTaskNet, network).separation] if network.n_outputs == 2 else []


def trained_parts(network: UNet, stage: Stage) -> list[nn.Module]:
    """Return the parts that the stage changes."""
    trunk, separation = parts_of(network)
    return trunk * (stage.segmentation_weight > 0) + separation * (stage.separation_weight > 0)


def trained_parameters(network: UNet, stage: Stage) -> list[nn.Parameter]:
    """Return what the stage's optimiser may change."""
    return [parameter for part in trained_parts(network, stage) for parameter in part.parameters()]


def set_training(network: UNet, stage: Stage) -> None:
    """Put the parts that the stage trains into training mode; a frozen one drops nothing and keeps its statistics."""
    network.eval()
    for part in trained_parts(network, stage):
        part.train()


def outputs(network: UNet, images: Tensor, stage: Stage) -> Outputs:
    """Return the logits of segmentation and, where the stage learns it, of separation; (N, 1, Y, X) float32 each.

    Parameters
    ----------
    network : UNet
    images : (N, 1, Y, X) float32 tensor
    stage : Stage
    """
    with autocast(images.device):
        segmentation, encoded, decoded = network.trunk(images)
        if not stage.separation_weight:
            return segmentation.float(), None
        return segmentation.float(), cast(TwoTaskNet, network).separation(encoded, decoded).float()


def loss_of(
    segmentation: Tensor, separation: Tensor | None, targets: Tensor, stage: Stage, totals: Tensor | None = None
) -> Tensor:
    """Return the stage's loss, a scalar.

    Parameters
    ----------
    segmentation, separation : (N, 1, Y, X) float32 tensors
        Logits, see `outputs`.
    targets : (N, 4, Y, X) float32 tensor
        Segmentation mask, separation mask, weights of the segmentation loss, weights of the separation loss.
    stage : Stage
    totals : (2,) float32 tensor, optional
        What the weights of the two losses add up to; those of the targets themselves if not given.
    """
    seg_mask, separation_mask, *weights = (part[:, None] for part in targets.unbind(dim=1))
    totals = sums_of_weights(targets) if totals is None else totals
    loss = segmentation.new_zeros(())
    if stage.segmentation_weight:
        unshared = weighted_cross_entropy(segmentation, seg_mask, weights[0], totals[0])
        loss = loss + stage.segmentation_weight * unshared
    if separation is not None:
        unshared = weighted_cross_entropy(separation, separation_mask, weights[1], totals[1])
        loss = loss + stage.separation_weight * unshared
    return loss


def sums_of_weights(targets: Tensor) -> Tensor:
    """Return what the weights of the two losses add up to, (2,), in targets (N, 4, Y, X)."""
    return targets[:, 2:].sum(dim=(0, 2, 3))


def stage_loss(
    network: UNet, images: Tensor, targets: Tensor, stage: Stage, forward: Callable[[Tensor], Outputs] | None = None
) -> Tensor:
    """Run the network over a batch and return the stage's loss.

    Parameters
    ----------
    network : UNet
    images : (N, 1, Y, X) float32 tensor
    targets : (N, 4, Y, X) float32 tensor
    stage : Stage
    forward : callable, optional
        `outputs` of the network as `distributed.replicated` runs it. The mean of the losses of all processes is then
        that of their joint batch: each pixel counts with its weight, in whichever process it is.
    """
    images, targets = to_device(images, targets, device_of(network))
    logits = forward(images) if forward else outputs(network, images, stage)
    return loss_of(*logits, targets, stage, mean(sums_of_weights(targets)))
