"""Training runs in processes of their own, and what they leave on the disk.

They end by themselves within a minute or two, even if nobody is left who ends them.
"""

import csv
import os
import signal
import subprocess
import sys
import time

import torch

from training.run.checkpoint import read_checkpoint

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


def start_python(root, *arguments):
    """Start Python with one thread, so that sums are added in the order of this process."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    # Tests that run in the background of a shell script ignore Ctrl-C, and a process would take that over.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return subprocess.Popen(
            [sys.executable, *arguments], env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
    finally:
        signal.signal(signal.SIGINT, before)


def end(process):
    """Kill a process and those of its group, where they have not ended by themselves."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL) if os.name == "posix" else process.kill()
    process.wait()
    process.stderr.close()


def wait_for(path, process):
    """Wait until a file is there."""
    latest = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < latest
        time.sleep(0.01)


def lengthened(preset):
    """Let the first stage of the tiny run last for a minute or so."""
    preset.write_text(preset.read_text().replace("segmentation_epochs = 2", "segmentation_epochs = 500"))
    return preset


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
