"""The stages of each schedule: what they train, and with which losses (paper, 4.1 and 4.2)."""

import dataclasses

import pytest
import torch
from networks import random_network

from training.learning.losses import weighted_cross_entropy
from training.learning.schedule import begin, outputs, set_training, stage_loss, stages_of, trained_parameters

ARCHITECTURES = ["deepsplit", "branch_net", "double_unet"]
SCHEDULES = {
    "frozen": {},
    "free": {"freeze_trunk": False},
    "one pass": {"freeze_trunk": False, "one_pass": True},
    "simultaneous": {"schedule": "simultaneous"},
}


def stages(config, schedule, architecture="deepsplit"):
    network = dataclasses.replace(config.network, architecture=architecture)
    return stages_of(dataclasses.replace(config, network=network, **SCHEDULES[schedule]))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("frozen", [("segmentation", 2, 1, 0, False), ("separation", 3, 0, 1, False)]),
        ("free", [("segmentation", 2, 1, 0, False), ("separation", 3, 0.3, 1, True)]),
        ("one pass", [("segmentation", 2, 1, 0, False), ("separation", 3, 0.3, 1, False)]),
        ("simultaneous", [("both", 5, 1, 1, False)]),
    ],
)
def test_stages_and_weights_of_the_losses(config, architecture, schedule, expected):
    config = dataclasses.replace(config, separation_epochs=3)
    assert stages(config, schedule, architecture) == expected


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_unet_learns_segmentation_alone(config, schedule):
    assert [stage.name for stage in stages(config, schedule, "unet")] == ["segmentation"]


@pytest.mark.parametrize(("key", "value"), [("schedule", "novelty"), ("segmentation_loss_weight", 0)])
def test_wrong_settings(config, key, value):
    with pytest.raises(ValueError, match=f"TrainConfig.{key} is {value!r}, but it must be"):
        dataclasses.replace(config, **{key: value})


def test_passes_are_no_setting_of_a_run(config):
    with pytest.raises(ValueError, match=r"network\.passes is 2, but the export of a run sets it"):
        dataclasses.replace(config, network=dataclasses.replace(config.network, passes=2))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    ("schedule", "number", "trunk", "separation"),
    [
        ("frozen", 0, 1, 0),
        ("frozen", 1, 0, 1),
        ("free", 0, 1, 0),
        ("free", 1, 1, 1),
        ("one pass", 1, 1, 1),
        ("simultaneous", 0, 1, 1),
    ],
)
def test_what_moves_in_a_stage(config, batch, architecture, schedule, number, trunk, separation):
    """One step: the parameters that move, and the parts in training mode, are those of the stage."""
    config = dataclasses.replace(config, **SCHEDULES[schedule])
    network = random_network(architecture, dropout=0.2, normalisation="batch")
    stage = stages(config, schedule, architecture)[number]
    begin(network, stage, config)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    set_training(network, stage)
    optimiser = torch.optim.SGD(trained_parameters(network, stage), lr=1.0)
    stage_loss(network, *batch, stage).backward()
    optimiser.step()
    moved = {name for name, value in network.state_dict().items() if not torch.equal(before[name], value)}
    parts = {"trunk": ("encoder.", "decoder.", "segmentation_head."), "separation": ("separation.",)}
    # Running statistics move as well, in what is trained only.
    assert any(name.startswith(parts["trunk"]) for name in moved) == trunk
    assert any(name.startswith(parts["separation"]) for name in moved) == separation
    assert not any(name.startswith("segmentation.") for name in moved)
    assert {m.training for m in network.encoder.modules()} == {bool(trunk)}
    assert {m.training for m in network.separation.modules()} == {bool(separation)}
    assert (network.segmentation is not None) == (schedule == "free" and number == 1)
    assert network.segmentation is None or not any(m.training for m in network.segmentation.modules())


@pytest.mark.parametrize(
    ("schedule", "number", "share", "separation_share"),
    [("frozen", 0, 1, 0), ("frozen", 1, 0, 1), ("free", 1, 0.3, 1), ("simultaneous", 0, 1, 1)],
)
def test_loss_is_the_weighted_sum_of_the_two(config, batch, schedule, number, share, separation_share):
    network, (images, targets) = random_network(), batch
    logits = network(images)
    expected = separation_share * weighted_cross_entropy(logits[:, 1], targets[:, 1], targets[:, 3])
    expected = expected + share * weighted_cross_entropy(logits[:, 0], targets[:, 0], targets[:, 2])
    torch.testing.assert_close(stage_loss(network, images, targets, stages(config, schedule)[number]), expected)


@pytest.mark.parametrize(("schedule", "number"), [("frozen", 0), ("frozen", 1), ("free", 1), ("simultaneous", 0)])
def test_targets_where_nobody_annotated_change_no_loss(config, batch, schedule, number):
    network, (images, targets), stage = random_network(), batch, stages(config, schedule)[number]
    targets = targets.clone()
    targets[:, 2:, 8:20, 5:25] = 0
    other = targets.clone()
    other[:, :2, 8:20, 5:25] = 1 - other[:, :2, 8:20, 5:25]
    expected = stage_loss(network, images, targets, stage)
    assert stage_loss(network, images, other, stage) == expected
    other[:, :2, 20:, :] = 1 - other[:, :2, 20:, :]  # beside it, they do
    assert stage_loss(network, images, other, stage) != expected


def test_separation_is_not_computed_in_stage_1(config, batch):
    assert outputs(random_network(), batch[0], stages(config, "frozen")[0])[1] is None


def test_kept_segmentation_is_that_of_the_stages_begin(config, batch):
    network, plain = random_network(), dataclasses.replace(config.network, dropout=0.0, normalisation="none")
    before = network(batch[0])[:, 0]
    begin(network, stages(config, "free")[1], dataclasses.replace(config, network=plain))
    for part in (network.encoder, network.decoder, network.segmentation_head):
        for parameter in part.parameters():
            torch.nn.init.normal_(parameter)
    torch.testing.assert_close(network(batch[0])[:, 0], before)
