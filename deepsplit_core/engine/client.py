"""The client: has an engine predict, and starts it where none is running. It needs no torch.

Every image is a connection of its own, so that a client holds nothing that could go stale between two images.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Callable, Sequence

import numpy as np

from .. import __version__
from ..config import SegmentConfig
from ..preprocessing import check_image
from ..segmentation import Prediction
from ..weights import Card, WeightsError, bundled_models
from . import protocol
from .place import Place, find_python, place_of

LOGGER = logging.getLogger(__name__)

START_SECONDS = 120.0  # until an engine that was started has to answer: a cold disk is slow
HANDSHAKE_SECONDS = 5.0
SILENCE_SECONDS = 60.0  # a working engine says so every two seconds: after this it hangs


class _Unreachable(Exception):
    """No engine answers at the place."""


class _Gone(Exception):
    """The engine ended while it was being asked, or none is there."""


def predict(
    image: np.ndarray, config: SegmentConfig, mask: np.ndarray | None = None, *, python: str | os.PathLike[str]
) -> Prediction:
    """Have an engine run pre-processing and network: `deepsplit_core.predict`, in another Python.

    An engine that ends in the middle of the image is started again once, and the image run once more.

    Parameters
    ----------
    image : (Y, X) array of any integer, float or bool type
    config : SegmentConfig
    mask : (Y, X) bool array, optional
        As in `deepsplit_core.predict`.
    python : path
        Of a Python, or of its environment's folder, in which DeepSplit and torch are installed.

    Returns
    -------
    Prediction
        The same as in that Python itself, on a CPU to the last bit.

    Raises
    ------
    ValueError
        The image, a setting or the weights file cannot be used.
    FileNotFoundError
        There is no such Python.
    RuntimeError
        The engine cannot be started, is of another version, ended twice, hangs (no word for 60 s), ran out of memory,
        or cannot use torch or the device; the message says what to do and gives the last lines of the engine's log.
    """
    values = {**config.to_dict(), "model": _absolute(config.model)}
    mask = None if mask is None else np.asarray(mask, bool)
    image = check_image(image, mask)
    arrays = [image] if mask is None else [image, mask]
    answer, (probabilities,) = _ask(python, {"command": "predict", "config": values}, arrays)
    card = Card.from_json(answer["card"])
    return Prediction(probabilities=probabilities, card=card, mask=mask, **answer["prediction"])


def try_device(model: str, device: str, *, python: str | os.PathLike[str]) -> str:
    """Start an engine if none is running, and have it try a model on a device: `deepsplit_core.try_device`.

    Returns
    -------
    str
        A sentence on the versions that it found, and one on what the model ran on and how long it took.

    Raises
    ------
    ValueError, FileNotFoundError, RuntimeError
        As `predict`.
    """
    answer, _ = _ask(python, {"command": "try", "model": _absolute(model), "device": device})
    return str(answer["text"])


def status(python: str | os.PathLike[str] = sys.executable) -> dict[str, Any] | None:
    """Return what the engine of a Python is and does; None if none runs.

    Returns
    -------
    dict
        Its "pid", "version" and "protocol"; "models" in memory; the number of requests "working".
    """
    return _tell(python, "status")


def stop(python: str | os.PathLike[str] = sys.executable) -> bool:
    """End the engine of a Python at once, and return whether there was one.

    A client in the middle of an image starts it again. The engine has removed its files when this returns.
    """
    found = _tell(python, "stop")
    if found is None:
        return False
    place, deadline = place_of(find_python(python)), time.monotonic() + START_SECONDS
    while place.lock.exists():
        address = place.read_address()
        if address is not None and address.pid != found["pid"]:
            break  # that of the next one
        if time.monotonic() > deadline:
            raise RuntimeError(f"The engine was asked to end, but {place.lock} is still there: {_how_to_end(place)}")
        time.sleep(0.02)
    return True


def _absolute(model: str) -> str:
    """Return the name of a bundled model, or a weights file's path as it is from any folder, such as the engine's."""
    return model if model in bundled_models() else os.path.abspath(model)


def _tell(python: str | os.PathLike[str], command: str) -> dict[str, Any] | None:
    """Have a running engine do something; None if none runs."""
    place = place_of(find_python(python))

    def look() -> None:
        lock = place.try_lock()
        if lock is not None:
            place.leave()  # what is left of one that was killed
            place.unlock(lock)
            raise _Gone

    try:
        # It does not take longer to start or to end.
        connection, greeting = _reach_in_time(place, 2 * HANDSHAKE_SECONDS, look)
        with closing(connection):
            answer, _ = _exchange(connection, {"command": command}, ())
    except _Gone:
        return None
    except socket.timeout as error:
        raise RuntimeError(
            f"DeepSplit's engine (process {greeting['pid']}) gave no sign of life for {SILENCE_SECONDS:g} s: "
            f"{_how_to_end(place)} {_last_words(place)}"
        ) from error
    return {**greeting, **answer}


def _ask(python: str | os.PathLike[str], request: dict[str, Any], arrays: Sequence[np.ndarray] = ()) -> protocol.Frame:
    executable = find_python(python)
    place = place_of(executable)
    for attempt in (1, 2):
        connection, greeting = _connect(executable, place)
        with closing(connection):
            try:
                return _exchange(connection, request, arrays)
            except _Gone as error:
                if attempt == 2:
                    raise RuntimeError(
                        f"DeepSplit's engine ended twice while it worked ({error}). If the machine ran out of memory, "
                        f"run fewer workers or smaller images. {_last_words(place)}"
                    ) from error
                LOGGER.warning(
                    "DeepSplit's engine (process %d) ended while it worked (%s): it is started again, and what was "
                    "asked of it is asked once more.",
                    greeting["pid"], error,
                )  # fmt: skip
            except socket.timeout as error:
                # Nothing else can reuse its process number while it holds our connection.
                _kill(greeting["pid"])
                raise RuntimeError(
                    f"DeepSplit's engine (process {greeting['pid']}) gave no sign of life for {SILENCE_SECONDS:g} s "
                    f"and was ended. Run the image again. {_last_words(place)}"
                ) from error
    raise AssertionError("not reached")


def _exchange(connection: socket.socket, request: dict[str, Any], arrays: Sequence[np.ndarray]) -> protocol.Frame:
    try:
        connection.settimeout(SILENCE_SECONDS)
        protocol.send(connection, request, arrays)
        while True:
            answer, results = protocol.receive(connection, SILENCE_SECONDS)
            if answer["state"] != "working":
                break
    except socket.timeout:
        raise
    except OSError as error:
        raise _Gone(str(error)) from error
    if answer["state"] == "failed":
        raise {"ValueError": ValueError, "WeightsError": WeightsError}.get(answer["kind"], RuntimeError)(
            answer["message"]
        )
    del answer["state"]
    return answer, results


def _connect(python: Path, place: Place) -> tuple[socket.socket, dict[str, Any]]:
    """Connect to the engine of the place, and start it as long as none is there."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        code = started[-1].poll() if started else 0
        if code:
            raise RuntimeError(
                f"DeepSplit's engine cannot be started with {python} (exit code {code}). DeepSplit and torch have to "
                f'be installed there: "{python}" -m pip install . in DeepSplit\'s folder. {_last_words(place)}'
            )
        if code == 0:  # another one was there first, and perhaps on its way out
            started.append(_start(python, place))

    try:
        connection, greeting = _reach_in_time(place, START_SECONDS, start)
    except RuntimeError:
        for process in started:
            process.kill()
        raise
    if (greeting["protocol"], greeting["version"]) != (protocol.VERSION, __version__):
        connection.close()
        raise RuntimeError(
            f"The engine of {python} runs DeepSplit {greeting['version']} (protocol {greeting['protocol']}), but "
            f"{sys.executable} has DeepSplit {__version__} (protocol {protocol.VERSION}): install the same version in "
            f'both. If you just have, end the old engine: "{python}" -m deepsplit_core.engine --stop'
        )
    return connection, greeting


def _reach_in_time(place: Place, seconds: float, meanwhile: Callable[[], None]) -> tuple[socket.socket, dict[str, Any]]:
    """Connect to the engine of the place; as long as none answers, do something about it and try again."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return _reach(place)
        except _Unreachable as error:
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"DeepSplit's engine in {place.folder} did not answer for {seconds:g} s ({error}): "
                    f"{_how_to_end(place)} {_last_words(place)}"
                ) from error
        meanwhile()
        time.sleep(0.05)


def _reach(place: Place) -> tuple[socket.socket, dict[str, Any]]:
    """Connect to the engine that wrote the address, if it is still there."""
    address = place.read_address()
    if address is None:
        raise _Unreachable("it has no address")
    is_port = isinstance(address.endpoint, int)
    connection = socket.socket(socket.AF_INET if is_port else socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(HANDSHAKE_SECONDS)
        connection.connect(("127.0.0.1", address.endpoint) if is_port else str(address.endpoint))
        protocol.introduce(connection, address.token, HANDSHAKE_SECONDS)
        greeting, _ = protocol.receive(connection, HANDSHAKE_SECONDS)
    except (OSError, protocol.ProtocolError) as error:
        connection.close()
        raise _Unreachable(f"process {address.pid}: {error}") from error
    return connection, greeting


def _start(python: Path, place: Place) -> subprocess.Popen[bytes]:
    """Start an engine that outlives us, apart from our terminal and from what our own program has set."""
    # -E: PYTHONHOME and PYTHONPATH of a packaged application belong to its own Python.
    command = [str(python), "-E", "-m", "deepsplit_core.engine", "--place", str(place.folder)]
    options: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        options = {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
    log = place.open_log()
    try:
        process = subprocess.Popen(
            command, cwd=place.folder, env=_environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options
        )
    except OSError as error:
        raise RuntimeError(
            f"DeepSplit's engine cannot be started: {python} cannot be run ({error.strerror}). Give the path of "
            "a Python."
        ) from error
    finally:
        os.close(log)
    # It may end long before us: somebody has to take note, or it stays in the table of processes.
    threading.Thread(target=process.wait, daemon=True).start()
    return process


def _environment() -> dict[str, str]:
    """Return our environment without the search paths by which a packaged application finds its own libraries."""
    environment = dict(os.environ)
    environment.pop("__PYVENV_LAUNCHER__", None)
    for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"):
        before = environment.pop(f"{name}_ORIG", None)  # where PyInstaller keeps what the user had set
        if before is not None:
            environment[name] = before
        elif getattr(sys, "frozen", False):
            environment.pop(name, None)
    return environment


def _kill(pid: int) -> None:
    try:
        os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    except OSError:  # on Windows a process that has ended gives another one than ProcessLookupError
        pass  # it has just ended by itself


def _how_to_end(place: Place) -> str:
    address = place.read_address()
    which = f"{address.pid}" if address else f"that has {place.lock} open"
    return f"if it hangs, end the process {which} and run again."


def _last_words(place: Place) -> str:
    return f"The last lines of the engine's log ({place.log}):\n{place.last_words()}"
