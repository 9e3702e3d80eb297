"""Clients and engines as processes of their own: started, shared, killed, hung. Every wait has a limit."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import deepsplit_core
from deepsplit_core import SegmentConfig, engine
from deepsplit_core.engine import client, protocol
from deepsplit_core.engine.place import find_python, place_of

# Times that the engine is killed in the middle of an image, and a client too.
N_KILLS = int(os.environ.get("DEEPSPLIT_KILLS", "1"))
LIMIT = 180  # seconds; torch may take long to be imported on a busy machine
PYTHON = find_python(sys.executable)
POSIX = pytest.mark.skipif(os.name == "nt", reason="POSIX signals and sessions")

CLIENT = """
import hashlib, logging, sys
import numpy as np
from deepsplit_core import SegmentConfig, engine
from deepsplit_core.engine.place import find_python, place_of
logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
image, model, python = sys.argv[1:]
prediction = engine.predict(np.load(image), SegmentConfig(model=model, device="cpu"), python=python)
assert "torch" not in sys.modules
print(hashlib.sha256(prediction.probabilities.tobytes()).hexdigest(), engine.status(python)["pid"])
"""


class Job:
    """An image, a model, and client processes that have it predicted."""

    def __init__(self, folder, weights, side):
        self.path, self.weights, self.processes = folder / f"{side}.npy", weights, []
        image = np.random.default_rng(side).integers(0, 4000, (side, side), np.uint16)
        np.save(self.path, image)
        local = deepsplit_core.predict(image, SegmentConfig(model=str(weights), device="cpu"))
        self.digest = hashlib.sha256(local.probabilities.tobytes()).hexdigest()

    def start(self, n_clients):
        command = [sys.executable, "-c", CLIENT, self.path, self.weights, PYTHON]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started = [subprocess.Popen(command, **pipes) for _ in range(n_clients)]
        self.processes += started
        return started

    def wait_until_under_way(self, n_clients):
        """Wait until their images are at work, and return the engine's process number."""
        deadline, place = time.monotonic() + LIMIT, place_of(find_python(sys.executable))
        while time.monotonic() < deadline:
            # Asking takes the lock for a moment where no engine listens: not while one is starting.
            found = engine.status() if place.address.exists() else None
            if found and found["working"] == n_clients and found["models"]:
                return found["pid"]
            time.sleep(0.01)
        raise AssertionError("not under way")

    def results(self, processes):
        """The engines' process numbers, and what was logged; every result has to be right."""
        pids, logs = set(), []
        for process in processes:
            printed, log = process.communicate(timeout=LIMIT)
            assert process.returncode == 0, log
            digest, pid = printed.split()
            assert digest == self.digest
            pids.add(int(pid))
            logs.append(log)
        return pids, logs

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture
def make_job(place, tmp_path, tiny_weights):
    jobs = []

    def make(side):
        jobs.append(Job(tmp_path, tiny_weights, side))
        return jobs[-1]

    yield make
    for job in jobs:
        job.close()


def is_running(pid):
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"  # ended, though its parent has not looked


def wait_until(condition):
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_ten_that_start_at_once_share_one_engine_and_one_model(make_job, place):
    job = make_job(200)
    pids, logs = job.results(job.start(10))
    assert len(pids) == 1
    assert logs == [""] * 10
    found = engine.status()
    assert pids == {found["pid"]}
    assert found["models"] == [f"{job.weights} on cpu"]
    assert engine.stop()
    wait_until(lambda: not is_running(found["pid"]))
    assert not place.folder.exists()


@POSIX
def test_killed_in_the_middle_of_an_image(make_job, place):
    """A killed engine is started again, a killed client harms nobody, and no image is lost."""
    job = make_job(4000)  # seconds of work: both clients are at it even where starting one takes long
    pids = set()
    for _ in range(N_KILLS):
        clients = job.start(2)
        killed = job.wait_until_under_way(2)
        os.kill(killed, signal.SIGKILL)
        (pid,), logs = job.results(clients)
        assert pid != killed
        assert all(f"process {killed}) ended while it worked" in log for log in logs)
        assert not is_running(killed)

        victim, survivor = job.start(2)
        assert job.wait_until_under_way(2) == pid
        victim.kill()
        assert job.results([survivor]) == ({pid}, [""])
        wait_until(lambda: engine.status()["working"] == 0)
        pids |= {killed, pid}
    assert engine.stop()
    wait_until(lambda: not any(map(is_running, pids)))
    assert not place.folder.exists()


# Engines that misbehave


@pytest.fixture
def pretend(place):
    """Listen at the place as an engine that lets clients in, and then does as it is told with the connection."""
    ending = threading.Event()
    lock = place.try_lock()
    listener, address = place.listen()
    listener.settimeout(0.05)
    threads, pids = [], [os.getpid()]

    def serve(behave):
        while not ending.is_set():
            try:
                connection, _ = listener.accept()
            except socket.timeout:
                continue
            with closing(connection):
                protocol.admit(connection, address.token, 5)
                greeting = {"protocol": protocol.VERSION, "version": deepsplit_core.__version__, "pid": pids[0]}
                protocol.send(connection, greeting)
                behave(connection)

    def start(behave, pid=None):
        pids[0] = pid or os.getpid()
        threads.append(threading.Thread(target=serve, args=(behave,)))
        threads[0].start()

    start.ending = ending
    yield start
    ending.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    listener.close()
    place.leave()
    place.remove_log()
    place.unlock(lock)


def ask(shape=(5, 5), python=PYTHON):
    return engine.predict(np.ones(shape), SegmentConfig(), python=python)


@POSIX
def test_a_silent_engine_is_ended_and_said_to_hang(pretend, place, monkeypatch):
    monkeypatch.setattr(client, "SILENCE_SECONDS", 0.3)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        pretend(lambda connection: pretend.ending.wait(30), process.pid)
        os.close(place.open_log())
        place.log.write_text("the last tile\n")
        with pytest.raises(RuntimeError, match=r"(?s)no sign of life for 0.3 s.*Run the image again.*the last tile"):
            ask()
        assert process.wait(10) == -signal.SIGKILL


@pytest.mark.parametrize("ask_for", [engine.status, engine.stop])
def test_an_engine_that_does_not_say_how_it_is_hangs(pretend, place, monkeypatch, ask_for):
    monkeypatch.setattr(client, "SILENCE_SECONDS", 0.3)
    pretend(lambda connection: pretend.ending.wait(30))
    with pytest.raises(
        RuntimeError, match=f"(?s)no sign of life for 0.3 s: .*end the process {os.getpid()}.*last lines"
    ):
        ask_for(PYTHON)


def test_signs_of_life_keep_a_client_waiting(pretend, monkeypatch):
    monkeypatch.setattr(client, "SILENCE_SECONDS", 2.0)

    def work_long(connection):
        protocol.receive(connection, 5)
        for _ in range(6):
            protocol.send(connection, {"state": "working"})
            pretend.ending.wait(0.5)
        protocol.send(connection, {"state": "failed", "kind": "ValueError", "message": "at last"})

    pretend(work_long)
    with pytest.raises(ValueError, match="at last"):
        ask()


def test_an_engine_that_ends_twice_is_given_up(pretend, caplog):
    asked = []

    def end(connection):
        asked.append(protocol.receive(connection, 5)[0]["command"])

    pretend(end)
    with pytest.raises(RuntimeError, match=r"(?s)ended twice while it worked.*fewer workers.*last lines"):
        ask()
    assert asked == ["predict", "predict"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@POSIX
def test_what_a_killed_engine_left_is_cleared_away(place):
    with run_engine() as process:
        wait_until(lambda: place.address.exists() and engine.status())
        process.kill()
        process.communicate()
    assert place.socket_file.exists()
    assert engine.status() is None
    assert not place.folder.exists()


def test_an_engine_that_never_answers_is_given_up(place, monkeypatch):
    """Its lock is held, so that no other can be started."""
    monkeypatch.setattr(client, "START_SECONDS", 1.0)
    monkeypatch.setattr(client, "HANDSHAKE_SECONDS", 0.1)
    lock = place.try_lock()
    listener, _ = place.listen()
    try:
        with listener, pytest.raises(
            RuntimeError, match=f"(?s)did not answer for 1 s.*end the process {os.getpid()} and"
        ):
            ask()
    finally:
        place.leave()
        place.remove_log()
        place.unlock(lock)


# Engines that cannot be started


def test_a_python_without_deepsplit_is_named_with_its_cure(place):
    bare = sys._base_executable
    with pytest.raises(RuntimeError, match=r"(?s)cannot be started.*-m pip install \..*No module named") as raised:
        ask(python=bare)
    assert str(bare) in str(raised.value)


def test_what_is_no_program_is_named(place, tmp_path):
    (tmp_path / "python").write_text("not a program")
    with pytest.raises(RuntimeError, match="cannot be run"):
        ask(python=tmp_path / "python")
    with pytest.raises(FileNotFoundError, match="neither a Python nor"):
        ask(python=tmp_path)


def test_a_wrong_image_starts_no_engine(place):
    with pytest.raises(ValueError, match="3 dimensions"):
        ask((4, 4, 2))
    assert not place.folder.exists()


@POSIX
def test_the_engine_is_apart_from_the_program_that_starts_it(place, tmp_path, monkeypatch):
    for name in ("numpy", "torch", "deepsplit_core"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    connection, greeting = client._connect(PYTHON, place)
    connection.close()
    pid = greeting["pid"]
    assert os.getsid(pid) == pid
    assert os.path.samefile(f"/proc/{pid}/fd/0", os.devnull)
    assert os.path.samefile(f"/proc/{pid}/cwd", sys.prefix)
    assert not place.log.samefile(os.devnull)
    assert "listens in" in place.log.read_text()


@pytest.mark.parametrize(
    ("is_frozen", "before", "after"),
    [
        (False, {"LD_LIBRARY_PATH": "/mine"}, {"LD_LIBRARY_PATH": "/mine"}),
        (True, {"LD_LIBRARY_PATH": "/bundle"}, {}),
        (True, {"LD_LIBRARY_PATH": "/bundle", "LD_LIBRARY_PATH_ORIG": "/mine"}, {"LD_LIBRARY_PATH": "/mine"}),
    ],
)
def test_the_libraries_of_a_packaged_application_stay_its_own(monkeypatch, is_frozen, before, after):
    for name in ("LD_LIBRARY_PATH", "LD_LIBRARY_PATH_ORIG", "DYLD_LIBRARY_PATH", "DYLD_LIBRARY_PATH_ORIG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**before, "HOME": "/home"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "frozen", is_frozen, raising=False)
    found = client._environment()
    assert {name: value for name, value in found.items() if "LIBRARY_PATH" in name} == after
    assert found["HOME"] == "/home"


# The command


def run_engine(*options):
    command = [sys.executable, "-m", "deepsplit_core.engine", *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_the_command_ends_when_nobody_asks(place):
    with run_engine("--idle-minutes", "0.001") as process:
        _, printed = process.communicate(timeout=LIMIT)
    assert process.returncode == 0
    assert "The engine ends" in printed
    assert not place.folder.exists()


def test_the_command_ends_when_it_is_told_to(place):
    with run_engine() as process:
        wait_until(lambda: place.address.exists() and engine.status())
        with run_engine() as second:
            assert second.wait(LIMIT) == 0
            assert "Another engine serves" in second.stderr.read()
        process.terminate()
        assert process.wait(LIMIT) == (1 if os.name == "nt" else 0)
        process.stderr.close()
    assert os.name == "nt" or not place.folder.exists()
