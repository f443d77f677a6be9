"""Ctrl-C: the first stops a command in order, the second ends it at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from lstmfcn.errors import StoppedError

_SHOW_CURSOR = b"\x1b[?25h"
"""A bar that is drawn hides it (ECMA-48 private mode DECTCEM)."""


_going_on: Callable[[], str] | None = None


@contextmanager
def stoppable(going_on: Callable[[], str] | None = None) -> Iterator[None]:
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
    _exit(f"{reason}; go on with: {_going_on()}" if _going_on else reason, exit_code)


def _stop(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - a handler's arguments
    end_at_next()
    raise KeyboardInterrupt


def _end(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    _exit("ended at once", StoppedError.exit_code)


def _exit(message: str, exit_code: int) -> NoReturn:
    if sys.stderr.isatty():
        os.write(2, _SHOW_CURSOR + b"\n")  # below a bar, or the ^C that it shows
    os.write(2, f"lstmfcn: {message}\n".encode())  # print may be what was interrupted
    os._exit(exit_code)
