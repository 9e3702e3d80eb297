"""Ctrl-C and SIGTERM end a run in order: an exception at the place where the program is, and no traceback."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """Somebody asked the program to end. No Exception, so that nothing on the way takes it for an error."""

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        super().__init__(self.signal.name)

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells have it: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signal


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Stopped` in here on Ctrl-C and on SIGTERM; the second one ends the program at once."""
    if threading.current_thread() is not threading.main_thread():  # Python handles signals in the main thread alone
        yield
        return
    process = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        # A process that was forked off in here inherits this function, and is told to end by this one.
        if os.getpid() == process:
            _set_all(dict.fromkeys(before, signal.SIG_DFL))
            raise Stopped(number)

    # A program that was started with Ctrl-C ignored (nohup, in the background) goes on ignoring it.
    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    _set_all(dict.fromkeys(before, stop))
    try:
        yield
    finally:
        _set_all(before)


def end_with_main_process(worker: int = 0) -> None:
    """Leave the end of a worker process to the process that it works for: Ctrl-C reaches them all at once."""
    _set_all(dict.fromkeys(SIGNALS, signal.SIG_IGN))
    # Errors of the work itself travel to the main process. What is left is a thread that hands over memory, and
    # would print a traceback if the main process was stopped just then.
    sys.excepthook = lambda *_: None


def _set_all(handlers: dict) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
