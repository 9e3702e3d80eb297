"""The folder in which client and engine find each other."""

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from deepsplit_core.engine.place import Place, find_python, place_of

POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows has neither modes nor owners of this kind")


@pytest.fixture
def folder(tmp_path):
    return Place(tmp_path / "engine")


def modes(place):
    return {path.name: path.stat().st_mode & 0o777 for path in place.folder.iterdir()}


@POSIX
def test_only_the_user_can_read_what_is_in_it(folder):
    before = os.umask(0)
    try:
        folder.try_lock()
        listener, _ = folder.listen()
        os.close(folder.open_log())
    finally:
        os.umask(before)
    listener.close()
    assert folder.folder.stat().st_mode & 0o777 == 0o700
    assert {modes(folder)[name] for name in ("lock", "address", "log")} == {0o600}
    assert "address.part" not in modes(folder)


@POSIX
@pytest.mark.parametrize("damage", ["open", "link", "file"])
def test_a_folder_that_others_may_enter_is_refused(folder, tmp_path, damage):
    if damage == "open":
        folder.folder.mkdir(mode=0o755)
    elif damage == "link":
        (tmp_path / "theirs").mkdir(mode=0o700)
        folder.folder.symlink_to(tmp_path / "theirs")
    else:
        folder.folder.write_text("")
    with pytest.raises((PermissionError, FileExistsError), match=str(folder.folder)):
        folder.make()


@POSIX
def test_a_folder_of_somebody_else_is_refused(folder, monkeypatch):
    folder.make()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(PermissionError, match="XDG_RUNTIME_DIR"):
        folder.make()


def test_what_is_written_down_is_read_back(folder):
    assert folder.read_address() is None
    folder.make()
    listener, address = folder.listen()
    with listener:
        assert folder.read_address() == address
        assert len(address.token) == 32
        assert address.pid == os.getpid()
    again, other = folder.listen()  # over what an engine left that was killed
    again.close()
    assert other.token != address.token
    folder.leave()
    assert folder.read_address() is None
    assert not folder.socket_file.exists()


@pytest.mark.parametrize("content", ["", "\0" * 60, "{}", "[]", '{"endpoint": "x", "token": "no hex", "pid": 1}'])
def test_half_an_address_is_none(folder, content):
    """A crash of the whole system may leave it: an engine that starts then writes it anew."""
    folder.make()
    folder.address.write_text(content)
    assert folder.read_address() is None


def test_a_long_path_means_a_port_of_this_machine_alone(tmp_path):
    place = Place(tmp_path / ("x" * 120))
    place.make()
    listener, address = place.listen()
    with listener:
        assert listener.family == socket.AF_INET
        assert listener.getsockname() == ("127.0.0.1", address.endpoint)


def test_a_lock_keeps_others_out_until_it_is_let_go(folder):
    lock = folder.try_lock()
    assert folder.try_lock() is None
    code = "import sys; from pathlib import Path; from deepsplit_core.engine.place import Place\n"
    code += "print(Place(Path(sys.argv[1])).try_lock())"
    run = subprocess.run([sys.executable, "-c", code, folder.folder], capture_output=True, text=True, timeout=60)
    assert run.stdout == "None\n", run.stderr
    folder.unlock(lock)
    assert not folder.folder.exists()
    second = folder.try_lock()
    assert second is not None
    os.close(second)  # as when its process is killed: the file stays
    assert folder.lock.exists()
    third = folder.try_lock()
    assert third is not None
    folder.unlock(third)


@POSIX
def test_the_lock_of_a_removed_file_locks_nobody_out(folder, monkeypatch):
    """Somebody opened the file, and before he locks it the engine that ends removes it."""
    import fcntl

    real, ended = fcntl.flock, []
    lock = folder.try_lock()

    def end_first(descriptor, operation):
        if not ended:
            ended.append(True)
            folder.unlock(lock)
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", end_first)
    assert folder.try_lock() is not None
    assert folder.lock.exists()
    assert folder.try_lock() is None


def test_a_folder_that_is_removed_before_a_file_is_opened_in_it_is_made_again(folder, monkeypatch):
    """An engine that ends removes it, while another program begins to look for one."""
    real, ended = os.open, []

    def end_first(path, *arguments):
        if len(ended) < 2:
            ended.append(True)
            folder.folder.rmdir()
        return real(path, *arguments)

    monkeypatch.setattr(os, "open", end_first)
    os.close(folder.open_log())
    assert folder.log.exists()
    folder.log.unlink()
    folder.folder.rmdir()
    folder.folder.write_text("")  # in the way: it does not try for ever
    with pytest.raises(FileExistsError):
        folder.try_lock()


def test_the_last_words_are_the_end_of_the_log(folder):
    assert folder.last_words() == "(none)"
    folder.make()
    folder.log.write_bytes(b"\n".join(b"%d" % i for i in range(5000)) + b"\n\xffend\n")
    assert folder.last_words(3) == "4998\n4999\n\ufffdend"


# Whose place


def test_a_python_is_found_in_its_environment(tmp_path):
    for name in ("bin/python3", "Scripts/python.exe"):
        python = tmp_path / name.replace("/", "_") / name
        python.parent.mkdir(parents=True)
        python.write_text("")
        assert find_python(python) == find_python(python.parents[1]) == python


@pytest.mark.parametrize("what", ["missing", "empty"])
def test_no_python_is_named(tmp_path, what):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=f"{what} is neither a Python nor the folder"):
        find_python(tmp_path / what)


@POSIX
def test_names_of_one_python_share_an_engine_and_environments_do_not(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "bin").mkdir(parents=True)
        for python in ("python", "python3"):
            (tmp_path / name / "bin" / python).symlink_to(sys.executable)
    (tmp_path / "link").symlink_to(tmp_path / "one")
    paths = ["one/bin/python", "one/bin/python3", "link/bin/python", "two/bin/python"]
    one, also, linked, two = (place_of(tmp_path / path).folder for path in paths)
    assert one == also == linked
    assert one != two


@POSIX
def test_a_path_may_hold_any_bytes():
    assert place_of(Path(os.fsdecode(b"/caf\xe9/bin/python"))) != place_of(Path("/caf/bin/python"))


def test_the_place_is_in_the_runtime_folder_if_there_is_one(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert place_of(Path(sys.executable)).folder.parent == tmp_path
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "gone"))
    assert place_of(Path(sys.executable)).folder.parent.is_dir()


@POSIX
def test_a_file_system_without_locks_is_no_other_engine(folder, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("deepsplit_core.engine.place.fcntl.flock", refuse)
    with pytest.raises(OSError, match="No locks available"):
        folder.try_lock()
