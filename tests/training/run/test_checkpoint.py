"""The state of a run on disk."""

import dataclasses
import pickle

import pytest
import torch
from networks import random_network

from deepsplit_core.metrics import Scores
from training.run.checkpoint import Checkpoint, read_checkpoint, remove_leftovers
from training.run.history import make_row


@pytest.fixture
def network(config):
    return random_network(dropout=0.2, normalisation="batch")


def row(epoch, validation_loss, stage="separation"):
    return make_row(stage, epoch, 1.0, validation_loss, Scores(), 1.0)


def saved(path, config, network, losses=(0.5, 0.25)):
    checkpoint = Checkpoint(path, config)
    optimiser = torch.optim.Adam(network.parameters())
    network(torch.rand(2, 1, 8, 8)).sum().backward()
    optimiser.step()
    history = [row(epoch, loss) for epoch, loss in enumerate(losses, start=1)]
    checkpoint.save(network, optimiser, history)
    return checkpoint, optimiser, history


def test_state_comes_back(tmp_path, config, network):
    _, optimiser, history = saved(tmp_path / "c.pt", config, network)
    position = Checkpoint(tmp_path / "c.pt", config).read()
    assert (position.stage, position.history) == ("separation", history)
    assert network.state_dict().keys() == position.network.keys()
    assert all(torch.equal(value, position.network[name]) for name, value in network.state_dict().items())
    moments = position.optimiser["state"][0]["exp_avg"]
    assert torch.equal(moments, optimiser.state_dict()["state"][0]["exp_avg"])


def test_what_other_programs_read_in_it(tmp_path, config, network):
    saved(tmp_path / "c.pt", config, network, [0.5, 0.25, 0.3])
    state = read_checkpoint(tmp_path / "c.pt")
    assert (state["stage"], state["epoch"]) == ("separation", 2)


def test_other_settings_are_named(tmp_path, config, network):
    saved(tmp_path / "c.pt", config, network)
    other = dataclasses.replace(config, seed=7, targets=dataclasses.replace(config.targets, gap_weight=2.0))
    expected = r"other settings \(targets.gap_weight: then 10.0, now 2.0; seed: then 1, now 7\), so"
    with pytest.raises(ValueError, match=expected):
        Checkpoint(tmp_path / "c.pt", other).read()


def test_best_weights_are_kept_while_the_network_goes_on(tmp_path, config, network):
    checkpoint, optimiser, history = saved(tmp_path / "c.pt", config, network)
    best = {name: value.clone() for name, value in network.state_dict().items()}
    torch.nn.init.ones_(network.segmentation_head.weight)
    checkpoint.save(network, optimiser, [*history, row(3, 0.25)])
    state = read_checkpoint(tmp_path / "c.pt")
    assert torch.equal(state["best"]["segmentation_head.weight"], best["segmentation_head.weight"])
    assert (state["network"]["segmentation_head.weight"] == 1).all()
    checkpoint.load_best(network)
    assert torch.equal(network.segmentation_head.weight, best["segmentation_head.weight"])


def test_next_stage_starts_a_new_best(tmp_path, config, network):
    checkpoint, optimiser, history = saved(tmp_path / "c.pt", config, network)
    checkpoint.load_best(network)
    torch.nn.init.ones_(network.segmentation_head.weight)
    checkpoint.save(network, optimiser, [*history, row(1, 9.0, "another")])
    assert (read_checkpoint(tmp_path / "c.pt")["best"]["segmentation_head.weight"] == 1).all()


def test_no_best_before_the_first_epoch(tmp_path, config, network):
    with pytest.raises(ValueError, match="No epoch of this run is complete"):
        Checkpoint(tmp_path / "c.pt", config).load_best(network)


def test_configuration_travels_along(tmp_path, config, network):
    saved(tmp_path / "c.pt", config, network)
    assert type(config).from_dict(read_checkpoint(tmp_path / "c.pt")["config"]) == config


def test_failed_write_keeps_the_old_state(tmp_path, config, network, monkeypatch):
    checkpoint, optimiser, history = saved(tmp_path / "c.pt", config, network)

    def half(state, file):
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="no space left"):
        checkpoint.save(network, optimiser, [*history, row(3, 0.1)])
    monkeypatch.undo()
    assert read_checkpoint(tmp_path / "c.pt")["epoch"] == 1
    assert list(tmp_path.glob("*part*")) + list(tmp_path.glob(".*part*")) == []


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("save", [lambda o, p: p.write_bytes(pickle.dumps(o)), torch.save], ids=["pickle", "torch"])
def test_nothing_in_it_is_executed(tmp_path, save):
    save({"network": Trap(tmp_path / "sprung")}, tmp_path / "c.pt")
    with pytest.raises(ValueError, match=r"c\.pt"):
        read_checkpoint(tmp_path / "c.pt")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [torch.zeros(3), {"weight": torch.zeros(3)}])
def test_a_file_of_torch_that_is_no_checkpoint_is_named(tmp_path, content):
    torch.save(content, tmp_path / "c.pt")
    with pytest.raises(ValueError, match=r"c\.pt is no checkpoint of a run"):
        read_checkpoint(tmp_path / "c.pt")


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04" + bytes(50)], ids=["empty", "text", "cut"])
def test_damaged_file_is_named(tmp_path, content):
    (tmp_path / "c.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"c\.pt"):
        read_checkpoint(tmp_path / "c.pt")


def test_what_a_killed_run_had_begun_is_removed_in_its_pictures_too(tmp_path):
    (tmp_path / "pictures").mkdir()
    whole = [tmp_path / "checkpoint.pt", tmp_path / "pictures" / "separation_0001.png"]
    for path in (
        *whole,
        tmp_path / ".checkpoint.pt.7.part.pt",
        tmp_path / "pictures" / ".separation_0002.png.7.part.png",
    ):
        path.touch()
    remove_leftovers(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == whole
