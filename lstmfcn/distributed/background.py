"""Work beside the main thread."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")

_MOMENT_S = 0.5


class Work(Future[T]):
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


def in_thread(work: Callable[[], T]) -> Work[T]:
    """Begin work in a thread."""
    return Work(work)
