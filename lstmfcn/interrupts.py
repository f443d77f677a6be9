"""Ctrl-C: the first stops a command in order, the second ends it at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from lstmfcn.errors import StoppedError

_SHOW_CURSOR = b"\x1b[?25h"
"""A bar that is drawn hides it (ECMA-48 private mode DECTCEM)."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Inside this block the first Ctrl-C raises KeyboardInterrupt, the second ends the process.

    A process that ignores Ctrl-C, as a shell's background jobs do, goes on doing so.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a handler's arguments
        end_at_next()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def end_at_next() -> None:
    """From now on, Ctrl-C ends the process at once; a Ray of its own ends with it."""
    signal.signal(signal.SIGINT, _end)


def _end(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    if sys.stderr.isatty():
        os.write(2, _SHOW_CURSOR + b"\n")  # below the ^C that it shows
    os.write(2, b"lstmfcn: ended at once\n")  # print may be what was interrupted
    os._exit(StoppedError.exit_code)
