"""Engines of the tests' own: in a folder that no other engine uses, ended when the test is over."""

import sys
import threading

import pytest

from deepsplit_core import engine
from deepsplit_core.engine.client import _reach, _Unreachable
from deepsplit_core.engine.place import find_python, place_of
from deepsplit_core.engine.server import Engine


@pytest.fixture
def place(tmp_path_factory, monkeypatch):
    """The place of this Python's engine. Whatever runs there at the end of a test is ended."""
    folder = tmp_path_factory.mktemp("run")
    folder.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    place = place_of(find_python(sys.executable))
    yield place
    engine.stop()


@pytest.fixture
def serve(place):
    """Start an engine in a thread of this process, where torch is loaded; returns it once it listens."""
    running = []

    def start(idle_seconds=60.0):
        lock = place.try_lock()
        served = Engine(place, idle_seconds)
        failures = []

        def run():
            try:
                served.serve()
            except RuntimeError as error:
                failures.append(error)
            finally:
                place.unlock(lock)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        served.thread, served.failures = thread, failures
        running.append(served)
        while thread.is_alive():
            try:
                _reach(place)[0].close()
                return served
            except _Unreachable:
                pass
        raise AssertionError(failures)

    yield start
    for served in running:
        served.stopping.set()
        served.thread.join(10)
        assert not served.thread.is_alive()
