"""The processes below this one: what memory they take, and the loss of one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from benchmarks.common import print_table

Peaks = dict[str, float]


@contextmanager
def repeating(action: Callable[[], None], every_s: float) -> Iterator[None]:
    """Do this in a thread, again and again, while this block runs."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(every_s):
            action()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def kill_oldest(name: str) -> bool:
    """SIGKILL the oldest process below this one with such a name, if there is one."""
    named = [process for process, title in _descendants() if title.startswith(name)]
    with suppress(psutil.NoSuchProcess):  # it has just ended
        if named:
            min(named, key=psutil.Process.create_time).kill()
            return True
    return False


@contextmanager
def peak_memory(note: Callable[[Peaks], None] = lambda _: None) -> Iterator[Peaks]:
    """Peaks in MB by kind of process while this block runs, of this one and all below it.

    Only a process's own memory counts: the object store is shared, and capped.

    Args:
        note: notes other peaks beside them.
    """
    peaks: Peaks = {}

    def look() -> None:
        for process, title in [(psutil.Process(), ""), *_descendants()]:
            with suppress(psutil.Error):  # it has ended
                memory = process.memory_info()
                megabytes = (memory.rss - memory.shared) / 1e6
                kind = _kind(title) if title else "this benchmark"
                peaks[kind] = max(peaks.get(kind, 0.0), megabytes)
        note(peaks)

    with repeating(look, 0.3):
        yield peaks


def print_peaks(peaks: Mapping[str, float]) -> None:
    """Print the largest peaks."""
    largest = sorted(peaks.items(), key=lambda item: -item[1])[:16]
    print_table([{"what": name, "peak MB": megabytes} for name, megabytes in largest])


def _descendants() -> Iterator[tuple[psutil.Process, str]]:
    """The processes below this one, each with its title."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if title := " ".join(process.cmdline()).strip():
                yield process, title


def _kind(title: str) -> str:
    if "-m lstmfcn" in title:
        return "the driver of a command"
    if title.startswith("ray::"):
        return title.split("(")[0].split()[0].split(".")[0]
    return Path(title.split()[0]).name
