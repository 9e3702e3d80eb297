"""What an engine costs and saves: the round trip of one image, and eight programs on one engine against eight models.

    .venv/bin/python benchmarks/engine.py [--clients 8] [--images 4] [--side 1024]

The memory is the proportional set size (Linux): what processes share is counted once.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from deepsplit_core import SegmentConfig, engine, predict

CONFIG = SegmentConfig(device="cpu")
# One program with its images. It is ready, waits for the word, and works; `import torch` is not in its time.
PROGRAM = """
import sys
import numpy as np
from deepsplit_core import SegmentConfig, engine, load_model, predict
how, side, n_images = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
config = SegmentConfig(device="cpu")
images = np.random.default_rng(0).random((n_images, side, side), np.float32)
if how == "own":
    load_model(config.model, config.device)
    run = predict
else:
    run = lambda image, config: engine.predict(image, config, python=sys.executable)
print("ready", flush=True)
sys.stdin.readline()
for image in images:
    run(image, config)
print("done", flush=True)
sys.stdin.readline()
"""


def round_trip(side, n_times=20):
    """Return the median time in ms that the engine adds to its own computation, and that of pure transport."""
    added, transport = [], []
    image = np.random.default_rng(0).random((side, side), np.float32)
    for pixels, times in ((image, added), (np.zeros_like(image), transport)):
        for _ in range(n_times):
            start = time.perf_counter()
            prediction = engine.predict(pixels, CONFIG, python=sys.executable)
            times.append(1000 * (time.perf_counter() - start - prediction.seconds))
    return statistics.median(added), statistics.median(transport)


def memory(pids):
    """Return the proportional set size of some processes in MB."""
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def run_programs(how, n_clients, side, n_images):
    """Return the seconds that all of them took, and the most memory that they had at one time, in MB."""
    command = [sys.executable, "-c", PROGRAM, how, str(side), str(n_images)]
    programs = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(n_clients)
    ]
    pids = [program.pid for program in programs]
    if how == "engine":
        pids.append(engine.status()["pid"])
    for program in programs:
        assert program.stdout.readline() == "ready\n"
    ending, most = threading.Event(), [0.0]

    def watch():
        while not ending.wait(0.5):
            most[0] = max(most[0], memory(pids))

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    for program in programs:
        program.stdin.write("go\n")
        program.stdin.flush()
    for program in programs:
        assert program.stdout.readline() == "done\n"
    seconds = time.perf_counter() - start
    ending.set()
    watcher.join()
    for program in programs:
        program.communicate("end\n")
    return seconds, most[0]


def main():
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--images", type=int, default=4, help="of each client (default: %(default)s)")
    parser.add_argument("--side", type=int, default=1024, help="pixels (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder  # an engine of our own
        try:
            print(engine.try_device(CONFIG.model, CONFIG.device, python=sys.executable))
            image = np.random.default_rng(1).random((options.side, options.side), np.float32)
            remote, local = (
                engine.predict(image, CONFIG, python=sys.executable).probabilities,
                predict(image, CONFIG).probabilities,
            )
            print(f"the same bits as in this process: {remote.tobytes() == local.tobytes()}")
            added, transport = round_trip(options.side)
            print(f"{options.side} x {options.side} float32: the engine adds {added:.1f} ms to an image")
            print(f"(of a constant image, which the network never sees: {transport:.1f} ms)")
            n_images = options.clients * options.images
            print(f"{'':<34}{'seconds':>9}{'images/s':>10}{'MB':>7}")
            for how, name in (("engine", "programs on one engine"), ("own", "programs, a model each")):
                seconds, most = run_programs(how, options.clients, options.side, options.images)
                print(f"{options.clients} {name:<32}{seconds:>9.1f}{n_images / seconds:>10.2f}{most:>7.0f}")
        finally:
            engine.stop()


if __name__ == "__main__":
    main()
