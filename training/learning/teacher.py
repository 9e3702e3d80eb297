"""A trained network as a teacher (Hinton et al. 2015, arXiv:1503.02531): its probabilities are mixed into the targets.

A teacher's probabilities say where its annotators agree, which a mask does not. The loss is linear in its targets, so
that a mixture of targets is that mixture of both losses.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deepsplit_core.weights import build_network, path_of, read

from .config import TrainConfig
from .hardware import autocast, place, to_device


class Teacher:
    """Mixes what a trained network finds in the views into their targets.

    Parameters
    ----------
    config : TrainConfig
        With a teacher.
    device : torch.device

    Raises
    ------
    ValueError
        The teacher sees images otherwise prepared than the run does, or is a U-Net.
    """

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        path = path_of(config.teacher)
        card, tensors = read(path)
        if card.preprocessing != config.preprocessing:
            raise ValueError(
                f"The teacher {path} sees images prepared by {card.preprocessing}, this run by "
                f"{config.preprocessing}: give both the same preprocessing."
            )
        if card.network.architecture == "unet":
            raise ValueError(f"The teacher {path} is a U-Net, which finds no separation: give one with both tasks.")
        self.network = place(build_network(path, card, tensors).requires_grad_(False), device)
        self.device = device
        self.share = config.teacher_share

    @torch.no_grad()
    def teach(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return the targets with a share of the teacher's probabilities in both masks; weights stay as they are.

        Parameters
        ----------
        images : (N, 1, Y, X) float32 tensor
        targets : (N, 4, Y, X) float32 tensor
            See `dataset.Sample`.

        Returns
        -------
        (N, 4, Y, X) float32 tensor
            On the teacher's device.
        """
        images, targets = to_device(images, targets, self.device)
        with autocast(self.device):
            logits = self.network(images)
        masks = torch.lerp(targets[:, :2], torch.sigmoid(logits.float()), self.share)
        return torch.cat([masks, targets[:, 2:]], dim=1)
