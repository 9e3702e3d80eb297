"""StarDist and Cellpose on one image, in an environment of their own.

    .venv-peers/bin/python benchmarks/_peers_worker.py IMAGE.npy N_THREADS

IMAGE.npy is a (Y, X) float32 image, 0 to 1. Prints JSON: median seconds of Cellpose 3.1's network over its own tiles,
and of StarDist 2D's `predict_instances` with its default network. Their weights are random, which changes nothing in
the work of Cellpose's network and gives StarDist no object, so that its non-maximum suppression costs nothing.
"""

import json
import statistics
import sys
import time

import numpy as np

N_ROUNDS = 5


def main(path, n_threads):
    """Time both."""
    image = np.load(path)
    print(json.dumps({"cellpose": time_cellpose(image, n_threads), "stardist": time_stardist(image, n_threads)}))


def time_cellpose(image, n_threads):
    """Return the seconds of the network as `CellposeModel.eval` calls it: two channels, tiles of 224, overlapping."""
    import torch
    from cellpose import core, resnet_torch

    torch.set_num_threads(n_threads)
    network = resnet_torch.CPnet([2, 32, 64, 128, 256], nout=3, sz=3).eval()
    channels = np.stack([image, np.zeros_like(image)], axis=-1)[None]
    with torch.no_grad():
        return median_seconds(lambda: core.run_net(network, channels, batch_size=8))


def time_stardist(image, n_threads):
    """Return the seconds of `predict_instances`."""
    import tensorflow
    from stardist.models import Config2D, StarDist2D

    tensorflow.config.threading.set_intra_op_parallelism_threads(n_threads)
    tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    model = StarDist2D(Config2D(grid=(2, 2)), name=None, basedir=None)
    return median_seconds(lambda: model.predict_instances(image, prob_thresh=0.5, nms_thresh=0.4))


def median_seconds(call):
    """Return the median of some rounds, after one that does not count."""
    seconds = []
    for _ in range(N_ROUNDS + 1):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
