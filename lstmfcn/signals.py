"""Ctrl-C, SIGTERM and background threads: the first stops a command cleanly, the second at once."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, TypeVar

from lstmfcn.errors import RunInterruptedError

T = TypeVar("T")
R = TypeVar("R")

_SHOW_CURSOR = b"\x1b[?25h"
"""A progress bar hides the cursor (ECMA-48 private mode DECTCEM)."""

_ABANDON_TIMEOUT_S = 0.5

_resume_command: Callable[[], str] | None = None


@contextmanager
def graceful_interrupts(resume_command: Callable[[], str] | None = None) -> Iterator[None]:
    """Inside this block the first Ctrl-C raises KeyboardInterrupt, the second ends the process.

    A process that ignores Ctrl-C, as background jobs of a shell do, keeps ignoring it. SIGTERM
    raises SystemExit.

    Args:
        resume_command: makes the command that resumes the run, for the message of `end_now`.
    """
    global _resume_command
    replaced = [
        (number, usual, ours)
        for number, usual, ours in (
            (signal.SIGINT, signal.default_int_handler, _stop),
            (signal.SIGTERM, signal.SIG_DFL, _terminate),
        )
        if signal.getsignal(number) is usual
    ]
    _resume_command = resume_command
    for number, _, ours in replaced:
        signal.signal(number, ours)
    try:
        yield
    finally:
        _resume_command = None
        for number, usual, _ in replaced:
            signal.signal(number, usual)


def end_at_next() -> None:
    """From now on, Ctrl-C ends the process at once, and with it a Ray that it started."""
    signal.signal(signal.SIGINT, _end)


def end_now(reason: str, exit_code: int) -> NoReturn:
    """Print the reason and the command that resumes the run, and end the process; in any thread."""
    resume = f"; resume with: {_resume_command()}" if _resume_command else ""
    _exit(reason + resume, exit_code)


def _stop(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - signal handler
    end_at_next()
    raise KeyboardInterrupt


def _terminate(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    raise SystemExit(128 + number)


def _end(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    _exit("stopped at once", RunInterruptedError.exit_code)


def _exit(message: str, exit_code: int) -> NoReturn:
    if sys.stderr.isatty():
        os.write(2, _SHOW_CURSOR + b"\n")  # below the bar, or the ^C of the terminal
    os.write(2, f"lstmfcn: {message}\n".encode())  # a call of print may be interrupted
    os._exit(exit_code)


class BackgroundTask(Future[T]):
    """Runs a function in a thread; the process can end without waiting for it."""

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
        """Raise SystemExit in the thread, because what the function uses is about to end.

        A call outside Python, such as ``ray.get``, has to return first. The thread may hold a lock,
        of logging say, which then nobody can have: only for a process that is about to end.
        """
        if not self.done():
            thread = ctypes.c_ulong(self._thread.ident or 0)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(SystemExit))
            wait([self], _ABANDON_TIMEOUT_S)


def in_thread(work: Callable[[], T]) -> BackgroundTask[T]:
    """Start a function in a thread."""
    return BackgroundTask(work)


def map_in_order(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Yield the function's result for each item, in the order of the items.

    As many items as there are threads, and one, are taken ahead. What an item raises, or the
    iterable itself, is raised after the results of the items before.
    """
    if threads == 1:
        yield from map(function, items)
        return
    pending: deque[Future[R]] = deque()
    failure: Exception | None = None
    remaining = iter(items)
    pool = ThreadPoolExecutor(threads)
    try:
        while failure is None:
            try:
                pending.append(pool.submit(function, next(remaining)))
            except StopIteration:
                break
            except Exception as error:
                failure = error
            if len(pending) > threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
        if failure:
            raise failure
    finally:
        pool.shutdown(cancel_futures=True)
