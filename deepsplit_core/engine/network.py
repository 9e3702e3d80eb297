"""The one thread in which an engine's networks run, whoever asks."""

from __future__ import annotations

import collections
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Sequence

if TYPE_CHECKING:
    import torch

    from ..architectures import UNet

LARGEST_BATCH = 4  # tiles that go through a network at once on a GPU; four of them fill it


@dataclass(eq=False)  # tensors do not compare to one answer
class _Call:
    network: UNet
    pixels: torch.Tensor
    result: Future[torch.Tensor]

    def joins(self, other: _Call) -> bool:
        return (
            self.network is other.network
            and self.pixels.shape[1:] == other.pixels.shape[1:]
            and self.pixels.dtype == other.pixels.dtype
        )


class SharedNetwork:
    """A network as `inference.predict` uses it, for several threads: its calls wait for their turn."""

    def __init__(self, network: UNet, thread: NetworkThread):
        self._network, self._thread = network, thread
        self.multiple, self.n_outputs = network.multiple, network.n_outputs

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, n_outputs, Y, X) of (N, 1, Y, X) pixels; blocks until they are there."""
        return self._thread.call(self._network, pixels)


class NetworkThread:
    """Runs the calls of several images in the order in which they come.

    On the CPU one at a time, with all processor cores: that is as quick as any other way, and gives the same bits as in
    a process of its own. On a GPU waiting calls of one network and size go through it as one batch.
    """

    def __init__(self) -> None:
        self._calls: collections.deque[_Call] = collections.deque()
        self._changed = threading.Condition()
        self._busy_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="network", daemon=True)
        self._thread.start()

    def call(self, network: UNet, pixels: torch.Tensor) -> torch.Tensor:
        """Run a network on (N, 1, Y, X) pixels that are on its device."""
        call = _Call(network, pixels, Future())
        with self._changed:
            self._calls.append(call)
            self._changed.notify()
        return call.result.result()

    def seconds_in_call(self) -> float:
        """Return for how long the network has been at work on the same tiles."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def _run(self) -> None:
        while True:
            calls = self._take()
            self._busy_since = time.monotonic()
            self._answer(calls)
            self._busy_since = None
            del calls  # their pixels are not kept while nobody asks

    def _take(self) -> list[_Call]:
        """Wait for a call, and take those that can be joined with it."""
        with self._changed:
            while not self._calls:
                self._changed.wait()
            first = self._calls.popleft()
            taken, n_tiles = [first], len(first.pixels)
            if first.pixels.device.type != "cpu":
                for call in [call for call in self._calls if call.joins(first)]:
                    n_tiles += len(call.pixels)
                    if n_tiles > LARGEST_BATCH:
                        break
                    self._calls.remove(call)
                    taken.append(call)
            return taken

    def _answer(self, calls: list[_Call]) -> None:
        try:
            for call, logits in zip(calls, _logits_of(calls)):
                call.result.set_result(logits)
            return
        except Exception as error:  # whatever it is belongs to those who wait for the result
            if len(calls) == 1:
                calls[0].result.set_exception(error)
                return
        # Too many for the memory, perhaps: each alone. Outside of the handler, whose error holds what they allocated.
        for call in calls:
            self._answer([call])


def _logits_of(calls: list[_Call]) -> Sequence[torch.Tensor]:
    """Run the network once, over the tiles of all calls."""
    import torch

    with torch.inference_mode():
        pixels = calls[0].pixels
        if len(calls) > 1:
            pixels = torch.cat([call.pixels for call in calls]).contiguous(memory_format=torch.channels_last)
        logits: torch.Tensor = calls[0].network(pixels)
        return logits.split([len(call.pixels) for call in calls])
