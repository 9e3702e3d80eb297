"""Real processes under torchrun, on the CPU: together they do what one does with the whole batch."""

import os
import signal
from pathlib import Path

import pytest
import torch
from child_runs import command, lengthened, rows, wait_for
from networks import random_network

from training.cli import main
from training.learning import distributed, hardware
from training.run import loop
from training.run.checkpoint import read_checkpoint
from training.run.history import write_csv

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")

# In float32, where no more than the order of sums differs.
TRAIN = """
import sys
import torch
from training.learning import hardware
from training.cli import main
hardware.choose_dtype = lambda device: torch.float32
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def joint_preset(preset):
    """The tiny run without what is random in a network, with both losses in stage 2, and with a batch to share."""
    text = preset.read_text().replace('normalisation = "batch"', 'normalisation = "none"')
    text = text.replace("dropout = 0.2", "dropout = 0.0").replace("batch = 2", "batch = 4\nfreeze_trunk = false")
    preset.write_text(text)
    return preset


@pytest.fixture
def torchrun(start, tmp_path):
    """Start a run in two processes, which find each other at a free port of this machine."""
    script = tmp_path / "train.py"
    script.write_text(TRAIN)
    started = []

    def run(*arguments):
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        started.append(start(*launcher, str(script), *arguments))
        return started[-1]

    yield run
    if any(process.poll() is None for process in started):  # whatever went wrong, nothing goes on
        for number in processes_with(script):
            os.kill(number, signal.SIGKILL)


@pytest.fixture
def one(ignoring, joint_preset, tmp_path, monkeypatch):
    """The folder of a run in this process, with ignored pixels: the shares of a batch weigh differently."""
    monkeypatch.setattr(hardware, "choose_dtype", lambda device: torch.float32)
    assert main(command(ignoring, tmp_path / "one", joint_preset)) == 0
    return tmp_path / "one"


def assert_close_runs(run, other):
    assert len(rows(run)) == len(rows(other)) == 4
    for row, expected in zip(rows(run), rows(other), strict=True):
        assert [row["stage"], row["epoch"]] == [expected["stage"], expected["epoch"]]
        for name in ("loss", "validation_loss", "dsc", "cds"):
            assert float(row[name]) == pytest.approx(float(expected[name]), abs=1e-5)
    weights, others = (read_checkpoint(folder / "checkpoint.pt")["network"] for folder in (run, other))
    assert weights.keys() == others.keys()
    for name, value in weights.items():
        torch.testing.assert_close(value, others[name], rtol=0, atol=1e-4)


def test_two_processes_learn_what_one_learns_from_the_joint_batch(
    ignoring, joint_preset, tmp_path, torchrun, one, monkeypatch
):
    """From the second epoch on, so that it is also shown that a run is resumed by another number of processes."""

    def stop(path, history):
        write_csv(path, history)
        if len(history) == 1:
            raise KeyboardInterrupt

    run = command(ignoring, tmp_path / "run", joint_preset)
    monkeypatch.setattr(loop, "write_csv", stop)
    with pytest.raises(KeyboardInterrupt):
        main(run)
    process = torchrun(*run, "--resume")
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    assert_close_runs(tmp_path / "run", one)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_stopped_processes_leave_none_behind(data, preset, tmp_path, torchrun):
    """With batch normalisation, whose statistics are averaged."""
    process = torchrun(*command(data, tmp_path / "run", lengthened(preset)))
    wait_for(tmp_path / "run" / "checkpoint.pt", process)
    assert len(processes_with(tmp_path / "run")) == 5  # torchrun, two processes, and one that draws views for each
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert errors.count("Go on with the same command and --resume.") == 1
    assert processes_with(tmp_path / "run") == []
    assert read_checkpoint(tmp_path / "run" / "checkpoint.pt")["history"]


def processes_with(argument):
    """The processes with an argument in their command, those that they forked off included, that have not ended."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if str(argument).encode() in (folder / "cmdline").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:  # it has just ended
            continue
    return found


# The pieces, in one process that believes to be one of three


@pytest.fixture
def second_of_three(monkeypatch):
    monkeypatch.setattr(distributed, "n_processes", lambda: 3)
    monkeypatch.setattr(distributed, "_rank", lambda: 1)


def test_shares_are_disjoint(second_of_three):
    assert list(distributed.share_of(range(8))) == [1, 4, 7]
    assert list(distributed.share_of([0])) == []


def test_batch_that_cannot_be_shared_is_refused(second_of_three):
    distributed.check_batch(6)
    with pytest.raises(ValueError, match="batch is 8, which 3 processes cannot share evenly: set a multiple of 3"):
        distributed.check_batch(8)


def test_results_come_back_in_the_order_of_the_work(second_of_three, monkeypatch):
    parts = [[0, 3, 6], [1, 4], [2, 5]]
    monkeypatch.setattr(torch.distributed, "all_gather_object", lambda found, _: found.__setitem__(slice(3), parts))
    assert distributed.joint([1, 4]) == list(range(7))


def test_processes_draw_different_numbers(monkeypatch):
    seeds = set()
    monkeypatch.setattr(distributed, "n_processes", lambda: 3)
    for rank in range(3):
        monkeypatch.setattr(distributed, "_rank", lambda rank=rank: rank)
        seeds |= {distributed.random_seed(step) for step in range(10)}
    assert len(seeds) == 30


def test_running_statistics_become_the_means_over_the_processes(second_of_three, monkeypatch):
    """The others have twice ours each."""
    network = random_network(normalisation="batch")
    before = {name: value.clone() for name, value in network.named_buffers()}
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda total: total.mul_(5))
    distributed.average_statistics(network)
    for name, value in network.named_buffers():
        factor = 5 / 3 if value.is_floating_point() else 1
        torch.testing.assert_close(value, before[name] * factor, check_dtype=False)
