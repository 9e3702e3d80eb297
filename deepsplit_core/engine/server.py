"""The engine itself: lets clients in, and has their images run on one copy of each model."""

from __future__ import annotations

import faulthandler
import logging
import os
import platform
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from typing import Any, Callable, cast

import numpy as np

from .. import __version__
from ..allocator import keep_memory
from ..config import SegmentConfig
from ..segmentation import predict
from ..trial import try_device
from ..weights import Model, WeightsError, load_model
from . import protocol
from .network import NetworkThread, SharedNetwork
from .place import Place

LOGGER = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 2.0
HANDSHAKE_SECONDS = 5.0
SILENCE_SECONDS = 60.0  # a client that was let in sends its image, and takes its answer, within this time
TILE_SECONDS = 300.0  # a network that works longer than this on one batch of tiles hangs
LARGEST_CROWD = 64  # connections at once that have not shown yet that they may be here
LOCK_SECONDS = 0.5  # an engine that cannot have the lock for longer is not needed
IN_FLIGHT = 4  # images at once: while one is in the network the next are made ready


class Engine:
    """Serves the clients of one place.

    Parameters
    ----------
    place : Place
    idle_seconds : float
        The engine ends when nothing was asked of it for this time.
    """

    def __init__(self, place: Place, idle_seconds: float):
        self.place, self.idle_seconds = place, idle_seconds
        self.stopping = threading.Event()
        self._networks = NetworkThread()
        self._models: dict[int, tuple[Model, str]] = {}
        self._images = ThreadPoolExecutor(IN_FLIGHT, "image")
        self._crowd = threading.BoundedSemaphore(LARGEST_CROWD)
        self._count = threading.Lock()
        self._n_working, self._last_asked = 0, time.monotonic()

    def serve(self) -> None:
        """Serve until nobody asks any more, or `stopping` is set; only for the one who holds the place's lock.

        Raises
        ------
        RuntimeError
            The network hangs.
        """
        try:
            listener, address = self.place.listen()
            with closing(listener):
                LOGGER.info("DeepSplit %s, process %d, listens in %s", __version__, os.getpid(), self.place.folder)
                self._accept(listener, address.token)
        finally:
            self.place.leave()

    def _accept(self, listener: socket.socket, token: bytes) -> None:
        listener.settimeout(0.2)
        while not self.stopping.is_set() and not self._is_idle():
            if self._networks.seconds_in_call() > TILE_SECONDS:
                raise RuntimeError(f"the network has worked on the same tiles for {TILE_SECONDS:g} s: it hangs")
            if not self._crowd.acquire(timeout=0.2):  # whoever comes now waits in the system's queue
                continue
            try:
                connection, _ = listener.accept()
            except (socket.timeout, ConnectionError):  # nobody, or somebody who is gone already
                self._crowd.release()
                continue
            threading.Thread(target=self._receive, args=(connection, token), daemon=True).start()

    def _is_idle(self) -> bool:
        with self._count:
            return self._n_working == 0 and time.monotonic() - self._last_asked > self.idle_seconds

    def _receive(self, connection: socket.socket, token: bytes) -> None:
        """Serve one connection. Whoever breaks the rules, or is gone, gets no answer."""
        try:
            with closing(connection):
                try:
                    protocol.admit(connection, token, HANDSHAKE_SECONDS)
                finally:
                    self._crowd.release()
                with self._count:
                    self._last_asked = time.monotonic()  # whoever is let in is waited for
                protocol.send(connection, {"protocol": protocol.VERSION, "version": __version__, "pid": os.getpid()})
                request, arrays = protocol.receive(connection, SILENCE_SECONDS)
                connection.settimeout(SILENCE_SECONDS)
                self._serve(connection, request, arrays)
        except (OSError, protocol.ProtocolError, MemoryError) as error:
            LOGGER.info("A connection was closed: %s: %s", type(error).__name__, error)

    def _serve(self, connection: socket.socket, request: dict[str, Any], arrays: list[np.ndarray]) -> None:
        command = request.get("command")
        if command == "status":
            protocol.send(connection, {"state": "done", **self._status()})
        elif command == "stop":
            protocol.send(connection, {"state": "done"})
            self.stopping.set()
        elif command == "try" and isinstance(request.get("model"), str) and isinstance(request.get("device"), str):
            self._work(connection, lambda: self._try(request["model"], request["device"]))
        elif command == "predict" and isinstance(request.get("config"), dict) and arrays:
            self._work(connection, lambda: self._predict(request["config"], *arrays))
        else:
            raise protocol.ProtocolError(f"an unknown request {str(command)[:40]!r}")

    def _work(self, connection: socket.socket, work: Callable[[], protocol.Frame]) -> None:
        """Do it, tell the client meanwhile that we are alive, and send what came out."""
        with self._count:
            self._n_working += 1
        future = self._images.submit(work)
        try:
            while not wait([future], HEARTBEAT_SECONDS).done:
                protocol.send(connection, {"state": "working"})
            error = future.exception()
            if error is None:
                answer, results = future.result()
                try:
                    protocol.send(connection, {"state": "done", **answer}, results)
                except ValueError as too_large:
                    error = too_large
            if error is not None:
                LOGGER.info("A request failed", exc_info=error)
                protocol.send(connection, _explain(error))
        finally:
            future.cancel()  # if its client is gone and it has not begun
            with self._count:
                self._n_working -= 1
                self._last_asked = time.monotonic()

    def _predict(self, config: dict[str, Any], image: np.ndarray, mask: np.ndarray | None = None) -> protocol.Frame:
        found = predict(image, SegmentConfig.from_dict(config), mask, self._load)._asdict()
        probabilities, card, _ = (found.pop(name) for name in ("probabilities", "card", "mask"))
        return {"card": card.to_json(), "prediction": found}, [probabilities]

    def _try(self, model: str, device: str) -> protocol.Frame:
        sentence = try_device(model, device, load=self._load)
        import torch

        versions = f"DeepSplit {__version__}, torch {torch.__version__}, Python {platform.python_version()}"
        return {"text": f"{versions} in {sys.prefix}. {sentence}"}, []

    def _load(self, model: str, device: str) -> Model:
        """Return the one copy of a model, with a network that several images can share."""
        loaded = load_model(model, device)
        if id(loaded.network) not in self._models:
            LOGGER.info("The model %s (sha256 %s) is on %s", model, loaded.sha256[:12], loaded.device)
            self._models[id(loaded.network)] = loaded, model
        return loaded._replace(network=cast(Any, SharedNetwork(loaded.network, self._networks)))

    def _status(self) -> dict[str, Any]:
        models = [f"{name} on {model.device}" for model, name in list(self._models.values())]
        return {"models": models, "working": self._n_working}


def _explain(error: BaseException) -> dict[str, Any]:
    kind, message = type(error).__name__, str(error)
    if isinstance(error, MemoryError) or kind == "OutOfMemoryError" or "allocate memory" in message:
        message = f"The engine ran out of memory ({message or kind}): run fewer workers, or smaller images."
    elif not isinstance(error, (ValueError, RuntimeError, OSError, ImportError)):
        message = f"{kind}: {message}"
    # Its subclasses are the same to those who catch it; an error in JSON, say, is no more than a ValueError.
    kinds = {WeightsError: "WeightsError", ValueError: "ValueError"}
    kind = next((name for cls, name in kinds.items() if isinstance(error, cls)), "RuntimeError")
    return {"state": "failed", "kind": kind, "message": message}


def lock_for_good(place: Place) -> int | None:
    """Lock the place for an engine; None where another one has it.

    Who asks for an engine's state has the lock for a moment, too: that is no engine.
    """
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        lock = place.try_lock()
        if lock is not None or time.monotonic() > deadline:
            return lock
        time.sleep(0.02)


def main(place: Place, idle_minutes: float, has_log: bool) -> int:
    """Be the engine of a place: ``deepsplit engine``.

    Parameters
    ----------
    place : Place
    idle_minutes : float
    has_log : bool
        What is printed goes to the place's log. It is removed if all ends well.

    Returns
    -------
    int
        0 if it ended by itself, was asked to, or another engine serves the place.
    """
    faulthandler.enable()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    lock = lock_for_good(place)
    if lock is None:
        if not has_log:
            LOGGER.info("Another engine serves %s", place.folder)
        return 0
    os.chdir(sys.prefix)  # on Windows, a folder in which a process works cannot be removed
    keep_memory()  # before there are other threads
    engine, code = Engine(place, 60 * idle_minutes), 0
    for name in ("SIGTERM", "SIGINT"):
        signal.signal(getattr(signal, name), lambda *_: engine.stopping.set())
    try:
        engine.serve()
    except Exception:
        LOGGER.exception("The engine ends")
        code = 1
    else:
        LOGGER.info("The engine ends")
        if has_log:
            with open(os.devnull, "wb") as nothing:  # on Windows, nor can a file that is open
                os.dup2(nothing.fileno(), 1)
                os.dup2(nothing.fileno(), 2)
        place.remove_log()
    place.unlock(lock)
    sys.stderr.flush()
    os._exit(code)  # at once: an exit waits for a network that is still at work
