"""Write and read ``metrics.jsonl``, which has one line per epoch."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

from lstmfcn.storage.files import atomic_write, refusing_write_errors

EpochMetrics = dict[str, Any]
"""A line of the file: epoch, train_loss, train_accuracy, valid_loss, ... as plain numbers."""

_POLL_INTERVAL_S = 0.25


def add_epochs(path: Path, epochs: Iterable[EpochMetrics]) -> None:
    """Append a line per epoch; raises `OutputError` if the file cannot be written."""
    lines = "".join(map(_line, epochs))
    with refusing_write_errors(path), path.open("a", encoding="utf-8") as file:
        file.write(lines)


def keep_epochs(path: Path, epochs: int) -> None:
    """Remove the lines of later epochs, or make the file; raises `OutputError` if it cannot."""
    kept = read_metrics(path)[:epochs] if path.exists() else []
    with atomic_write(path) as unfinished:
        unfinished.write_text("".join(map(_line, kept)), encoding="utf-8")


def read_metrics(path: Path) -> list[EpochMetrics]:
    """Read every epoch's metrics, in order; an incomplete last line is ignored."""
    *lines, _ = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines]


def mean_metrics(histories: Sequence[Sequence[EpochMetrics]]) -> list[EpochMetrics]:
    """Average the metrics of an ensemble's members, epoch by epoch."""
    if len(histories) == 1:
        return list(histories[0])
    return [
        {name: fmean(metrics[name] for metrics in members) for name in members[0]}
        | {"epoch": epoch}
        for epoch, members in enumerate(zip(*histories, strict=True), start=1)
    ]


@contextmanager
def tail_metrics(
    path: Path, show: Callable[[EpochMetrics], None], epochs_shown: int = 0
) -> Iterator[None]:
    """Call ``show`` with the metrics of each new epoch in the file, while this block runs.

    Args:
        path: the file, which need not exist yet.
        show: called in a thread, once per epoch.
        epochs_shown: epochs to skip, because they were shown before.
    """
    finished = threading.Event()
    arguments = (path, show, epochs_shown, finished)
    follower = threading.Thread(target=_poll_file, args=arguments, daemon=True)
    follower.start()
    try:
        yield
    finally:
        finished.set()
        follower.join()


def _poll_file(
    path: Path, show: Callable[[EpochMetrics], None], shown: int, finished: threading.Event
) -> None:
    """Show new lines; when a resumed training replaces the file, read it from the start."""
    rest, position, inode, is_last = b"", 0, 0, False
    while not is_last:
        is_last = finished.wait(_POLL_INTERVAL_S)
        if not path.exists():
            continue
        with path.open("rb") as file:
            current_inode = os.fstat(file.fileno()).st_ino
            if current_inode != inode:
                rest, position, inode = b"", 0, current_inode
            file.seek(position)
            rest += file.read()
            position = file.tell()
        *lines, rest = rest.split(b"\n")
        for metrics in map(json.loads, lines):
            if metrics["epoch"] > shown:
                shown = metrics["epoch"]
                show(metrics)


def _line(metrics: EpochMetrics) -> str:
    return json.dumps(metrics, allow_nan=False) + "\n"
