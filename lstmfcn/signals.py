"""Ctrl-C and threads: the first Ctrl-C stops a command in order, the second ends it at once."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, TypeVar

from lstmfcn.errors import RunInterruptedError

_SHOW_CURSOR = b"\x1b[?25h"
"""A bar that is drawn hides it (ECMA-48 private mode DECTCEM)."""


_going_on: Callable[[], str] | None = None


T = TypeVar("T")

_MOMENT_S = 0.5


@contextmanager
def graceful_interrupts(going_on: Callable[[], str] | None = None) -> Iterator[None]:
    """Inside this block the first Ctrl-C raises KeyboardInterrupt, the second ends the process.

    A process that ignores Ctrl-C, as a shell's background jobs do, goes on doing so.

    Args:
        going_on: what to type where `end_now` ends the process.
    """
    global _going_on
    before = signal.getsignal(signal.SIGINT)
    _going_on = going_on
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)
    try:
        yield
    finally:
        _going_on = None
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, before)


def end_at_next() -> None:
    """From now on, Ctrl-C ends the process at once; a Ray of its own ends with it."""
    signal.signal(signal.SIGINT, _end)


def end_now(reason: str, exit_code: int) -> NoReturn:
    """End the process in a line, which tells how to go on; from any thread."""
    _exit(f"{reason}; resume with: {_going_on()}" if _going_on else reason, exit_code)


def _stop(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - a handler's arguments
    end_at_next()
    raise KeyboardInterrupt


def _end(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    _exit("ended at once", RunInterruptedError.exit_code)


def _exit(message: str, exit_code: int) -> NoReturn:
    if sys.stderr.isatty():
        os.write(2, _SHOW_CURSOR + b"\n")  # below a bar, or the ^C that it shows
    os.write(2, f"lstmfcn: {message}\n".encode())  # print may be what was interrupted
    os._exit(exit_code)


class BackgroundTask(Future[T]):
    """What work in a thread comes to. It is not waited for where the program ends before it."""

    def __init__(self, work: Callable[[], T]) -> None:
        super().__init__()
        self._work = work
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.set_result(self._work())
        except BaseException as error:
            self.set_exception(error)

    def abandon(self) -> None:
        """End it by SystemExit before its next Python instruction, for what it uses ends too.

        What it waits for outside of Python, as in ``ray.get``, has to end first.
        """
        if not self.done():
            thread = ctypes.c_ulong(self._thread.ident or 0)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(SystemExit))
            wait([self], _MOMENT_S)


def in_thread(work: Callable[[], T]) -> BackgroundTask[T]:
    """Begin work in a thread."""
    return BackgroundTask(work)
