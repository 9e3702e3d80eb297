"""Where client and engine find each other: one folder for each user and Python, which nobody else can enter.

It holds ``lock`` (locked by the engine as long as it lives: there is never a second one), ``address`` (where it
listens, and the token), ``socket`` (where the system has Unix sockets) and ``log``. An engine that ends removes all
of it; after one that was killed they stay until the next one.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
import stat
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LONGEST_SOCKET_PATH = 100  # bytes; Linux has room for 107, macOS for 103
MOST_TRIES = 100  # to open a file of a folder that others make and remove


class Address(NamedTuple):
    """Where an engine listens.

    Attributes
    ----------
    endpoint : str or int
        Path of a Unix socket, or a port of 127.0.0.1.
    token : bytes
        32 random bytes, which only this user can know.
    pid : int
        Of the engine.
    """

    endpoint: str | int
    token: bytes
    pid: int


@dataclass(frozen=True)
class Place:
    """The folder of one engine."""

    folder: Path

    @property
    def lock(self) -> Path:
        """File that is locked while an engine lives."""
        return self.folder / "lock"

    @property
    def address(self) -> Path:
        """File with the address, as JSON."""
        return self.folder / "address"

    @property
    def socket_file(self) -> Path:
        """Unix socket."""
        return self.folder / "socket"

    @property
    def log(self) -> Path:
        """What the engine prints."""
        return self.folder / "log"

    def make(self) -> None:
        """Make the folder, or check it.

        Raises
        ------
        PermissionError
            It is there, but others may enter it or it belongs to somebody else.
        """
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self.check()

    def check(self) -> None:
        """Raise PermissionError if the folder is not the user's own: whatever is in it cannot be trusted."""
        if sys.platform != "win32":  # there the folder of temporary files is the user's own
            found = self.folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
                raise PermissionError(
                    f"{self.folder} must be a folder that belongs to you and that only you can enter, but it is not: "
                    "remove it, or set XDG_RUNTIME_DIR to a folder of your own."
                )

    def open_log(self) -> int:
        """Open the log for writing at its end, and return the file descriptor."""
        return self._open(self.log, os.O_WRONLY | os.O_APPEND)

    def _open(self, path: Path, flags: int) -> int:
        """Make the folder and open a file in it; an engine that ends may remove the folder in between."""
        n_tries = 0
        while True:
            try:
                self.make()
                return os.open(path, flags | os.O_CREAT, 0o600)
            except (FileNotFoundError, FileExistsError):
                n_tries += 1
                if n_tries == MOST_TRIES:
                    raise

    def try_lock(self) -> int | None:
        """Lock the place for as long as the file descriptor that is returned stays open; None if it is locked."""
        while True:
            descriptor = self._open(self.lock, os.O_RDWR)
            try:
                if sys.platform == "win32":
                    msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
                else:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(descriptor)
                if sys.platform != "win32" and not isinstance(error, BlockingIOError):
                    raise  # the file system has no locks, say: nobody else has it
                return None
            try:
                if os.path.samestat(os.fstat(descriptor), os.stat(self.lock)):
                    return descriptor
            except FileNotFoundError:
                pass
            os.close(descriptor)  # an engine that ended removed the file that we opened: this lock keeps nobody out

    def listen(self) -> tuple[socket.socket, Address]:
        """Listen, and write down where; only for the one who holds the lock."""
        path = str(self.socket_file)
        if hasattr(socket, "AF_UNIX") and len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
            self.socket_file.unlink(missing_ok=True)  # of an engine that was killed
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(path)
            endpoint: str | int = path
        else:
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            listener.bind(("127.0.0.1", 0))
            endpoint = listener.getsockname()[1]
        listener.listen(128)
        address = Address(endpoint, secrets.token_bytes(32), os.getpid())
        part = self.folder / "address.part"
        content = json.dumps({"endpoint": endpoint, "token": address.token.hex(), "pid": address.pid})
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(content)
        os.replace(part, self.address)
        return listener, address

    def read_address(self) -> Address | None:
        """Return where an engine listens, or listened; None if nothing is written down, or not all of it.

        Raises
        ------
        PermissionError
            Somebody else may have written it.
        """
        try:
            self.check()
            values = json.loads(self.address.read_text())
            return Address(values["endpoint"], bytes.fromhex(values["token"]), values["pid"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):  # a crash of the system may leave half a file
            return None

    def leave(self) -> None:
        """Remove address and socket, so that nobody comes any more."""
        for path in (self.address, self.socket_file):
            path.unlink(missing_ok=True)

    def remove_log(self) -> None:
        """Remove the log of an engine that ended well, and of those before it."""
        self.log.unlink(missing_ok=True)

    def unlock(self, descriptor: int) -> None:
        """Remove the lock's file and the folder, if nothing else is in it, and let go of the lock."""
        if sys.platform == "win32":  # an open file cannot be removed there, and one that another has opened neither
            os.close(descriptor)
        try:
            self.lock.unlink()
            self.folder.rmdir()
        except OSError:
            pass  # a log that is kept, or another engine that is starting in it
        if sys.platform != "win32":
            os.close(descriptor)

    def last_words(self, n_lines: int = 12) -> str:
        """Return the end of the log."""
        try:
            with open(self.log, "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 10_000))
                lines = file.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            lines = []
        return "\n".join(lines[-n_lines:]) or "(none)"


def place_of(python: Path) -> Place:
    """Return the place of the engine of a Python.

    Parameters
    ----------
    python : Path
        Of the executable. Its links count by the folder that they lie in and by what they lead to, so that
        ``bin/python`` and ``bin/python3`` of one environment are one, and two environments are two.
    """
    identity = hashlib.sha256(os.fsencode(f"{python.parent.resolve()}\n{python.resolve()}")).hexdigest()[:12]
    base = os.environ.get("XDG_RUNTIME_DIR") or ""
    user = "" if sys.platform == "win32" else f"-{os.getuid()}"
    return Place(Path(base if os.path.isdir(base) else tempfile.gettempdir()) / f"deepsplit{user}-{identity}")


def find_python(path: str | os.PathLike[str]) -> Path:
    """Return the executable of a Python that is given by its path or by its environment's folder.

    Raises
    ------
    FileNotFoundError
        There is none.
    """
    given = Path(os.path.abspath(os.path.expanduser(path)))
    if given.is_file():
        return given
    names = ("bin/python", "bin/python3", "Scripts/python.exe", "python.exe")
    for name in names:
        if (given / name).is_file():
            return given / name
    raise FileNotFoundError(
        f"{path} is neither a Python nor the folder of an environment, which would hold one of {', '.join(names)}: "
        "give the path of the Python in which DeepSplit and torch are installed."
    )
