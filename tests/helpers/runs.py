"""Training runs in processes of their own, and what they leave on the disk."""

import csv
import os
import subprocess
import sys
import time

import torch

from training.checkpoint import read_checkpoint

# Ends itself by SIGKILL around the n-th time that a file takes its final name.
KILLED_AT_FILE = """
import os, signal, sys
from training.cli import main
n, moment, replace, count = int(sys.argv[1]), sys.argv[2], os.replace, [0]
def killing(*paths):
    count[0] += 1
    if count[0] == n and moment == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*paths)
    if count[0] == n:
        os.kill(os.getpid(), signal.SIGKILL)
os.replace = killing
import torch
torch.set_num_threads(1)
main(sys.argv[3:])
"""


def command(data, run, preset, *options):
    return ["train", "--data", str(data), "--output", str(run), "--preset", str(preset), "--device", "cpu", *options]


def start(root, *arguments):
    """Start Python with one thread, so that sums are added in the order of this process."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    return subprocess.Popen(
        [sys.executable, *arguments], env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_for(path, process):
    """Wait until a file is there."""
    end = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.01)


def rows(run):
    with (run / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def assert_same_run(one, other):
    """The same rows, and the same bits in the weights and in the optimiser."""
    assert rows(one) == rows(other)
    states = [read_checkpoint(run / "checkpoint.pt") for run in (one, other)]
    for part in ("network", "best"):
        a, b = (state[part] for state in states)
        assert a.keys() == b.keys()
        assert [name for name in a if not torch.equal(a[name], b[name])] == []
    moments = [state["optimiser"]["state"] for state in states]
    assert moments[0].keys() == moments[1].keys()
    assert all(torch.equal(moments[0][i][k], moments[1][i][k]) for i in moments[0] for k in moments[0][i])
