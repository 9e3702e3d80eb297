"""Ctrl-C and SIGTERM end a run in order: an exception at the place where the program is, and no traceback."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
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
    received: list[int] = []

    def stop(number: int) -> None:
        received.append(number)
        raise Stopped(number)

    with _handled(stop):
        try:
            yield
        except Exception as error:
            # What fails because the program ends, or because the worker process was ended too, is no error of its own.
            if received:
                raise Stopped(received[0]) from error
            raise


@contextmanager
def unstoppable() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until the end of the block; the second one ends the program at once.

    For what must not be left halfway. An exception in the midst of a queue between threads or processes leaves its
    locks as they are, and whoever waits for it waits for ever; out of a write that torch's C++ code has asked for,
    it comes as an error of that code.
    """
    received: list[int] = []
    try:
        with _handled(received.append):
            yield
    finally:
        for number in received:
            signal.raise_signal(number)


@contextmanager
def _handled(handle: Callable[[int], None]) -> Iterator[None]:
    """Have the first signal handled; the second one ends the program at once."""
    if threading.current_thread() is not threading.main_thread():  # Python handles signals in the main thread alone
        yield
        return
    process = os.getpid()

    def receive(number: int, frame: FrameType | None) -> None:
        # A process that was forked off in here inherits this function, and is told to end by this one.
        if os.getpid() == process:
            _set_all(dict.fromkeys(before, signal.SIG_DFL))
            handle(number)

    # A program that was started with Ctrl-C ignored (nohup, in the background) ignores it on.
    before = {n: handler for n in SIGNALS if (handler := signal.getsignal(n)) is not signal.SIG_IGN}
    _set_all(dict.fromkeys(before, receive))
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
