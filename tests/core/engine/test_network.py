"""The one thread of the networks: in order, alone on the CPU, in batches elsewhere."""

import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from networks import random_network

from deepsplit_core.config import TilingConfig
from deepsplit_core.engine.network import LARGEST_BATCH, NetworkThread, SharedNetwork
from deepsplit_core.inference import predict


class Recorder:
    """A network that adds one, notes what it was given, and can be held up."""

    multiple, n_outputs = 4, 1

    def __init__(self, most=100):
        self.shapes, self.most, self.failed, self.held = [], most, None, []
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, pixels):
        self.begun.set()
        assert self.go.wait(30)
        self.shapes.append(tuple(pixels.shape))
        self.held.append(self.failed is not None and self.failed() is not None)
        if len(pixels) > self.most:
            self.failed = weakref.ref(pixels)
            raise torch.cuda.OutOfMemoryError("too many")
        return pixels + 1


def run_together(network, batches, thread=None):
    """Call the network with all of them while it is held up by the first."""
    thread = thread or NetworkThread()
    shared = SharedNetwork(network, thread)
    with ThreadPoolExecutor(len(batches)) as pool:
        futures = [pool.submit(shared, batches[0])]
        assert network.begun.wait(30)
        for n, batch in enumerate(batches[1:], 1):
            futures.append(pool.submit(shared, batch))
            while len(thread._calls) < n:  # in this order
                pass
        network.go.set()
        return [future.result(30) for future in futures]


def tiles(n, side=8, device="meta", dtype=torch.float32):
    return torch.zeros(n, 1, side, side, dtype=dtype, device=device)


def test_on_the_cpu_calls_run_alone_and_in_order():
    network = Recorder()
    results = run_together(network, [tiles(1, side, "cpu") for side in (4, 8, 4, 8)])
    assert [shape[-1] for shape in network.shapes] == [4, 8, 4, 8]
    assert [len(shape) for shape in network.shapes] == [4] * 4
    assert all((result == 1).all() for result in results)


def test_elsewhere_waiting_calls_of_one_size_are_joined():
    network = Recorder()
    batches = [tiles(1), tiles(1), tiles(1, 12), tiles(2), tiles(1, dtype=torch.float16), tiles(1), tiles(1)]
    results = run_together(network, batches)
    assert [result.shape for result in results] == [batch.shape for batch in batches]
    joined = (4, 1, 8, 8)
    assert network.shapes == [(1, 1, 8, 8), joined, (1, 1, 12, 12), (1, 1, 8, 8), (1, 1, 8, 8)]
    assert LARGEST_BATCH == 4


def test_a_batch_that_does_not_fit_is_run_one_by_one():
    network = Recorder(most=1)
    results = run_together(network, [tiles(1)] * 4)
    assert len(results) == 4
    assert network.shapes == [(1, 1, 8, 8), (3, 1, 8, 8), *[(1, 1, 8, 8)] * 3]
    assert not any(network.held)  # of the batch, whose memory they may need, nothing is left


def test_joined_calls_get_their_own_results():
    thread, network = NetworkThread(), Recorder()
    network.go.set()
    from deepsplit_core.engine.network import Future, _Call

    calls = [_Call(network, torch.full((n, 1, 2, 2), float(n)), Future()) for n in (1, 3, 2)]
    thread._answer(calls)
    for n, call in zip((1, 3, 2), calls):
        assert call.result.result(0).shape == (n, 1, 2, 2)
        assert (call.result.result(0) == n + 1).all()


def test_an_error_reaches_the_one_who_asked_and_no_other():
    network = Recorder(most=1)
    network.go.set()
    thread = NetworkThread()
    shared = SharedNetwork(network, thread)
    with pytest.raises(torch.cuda.OutOfMemoryError, match="too many"):
        shared(tiles(2, device="cpu"))
    assert (shared(tiles(1, device="cpu")) == 1).all()


def test_the_time_of_a_call_is_known():
    network, thread = Recorder(), NetworkThread()
    call = threading.Thread(target=thread.call, args=(network, tiles(1)), daemon=True)
    call.start()
    assert network.begun.wait(30)
    before = thread.seconds_in_call()
    assert 0 < before <= thread.seconds_in_call()
    network.go.set()
    call.join(30)


def test_images_of_many_threads_are_those_of_one():
    network = random_network()
    images = [np.random.default_rng(i).random((90, 70 + i), dtype=np.float32) for i in range(4)]
    tiling = TilingConfig(tile=64, halo=8)
    single = [predict(network, image, torch.device("cpu"), torch.float32, tiling) for image in images]
    shared = SharedNetwork(network, NetworkThread())
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(lambda i: predict(shared, i, torch.device("cpu"), torch.float32, tiling), images)
    for one, other in zip(single, together):
        assert one.tobytes() == other.tobytes()
