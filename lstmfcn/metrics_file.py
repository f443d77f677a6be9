"""``metrics.jsonl``: one line an epoch, written by the first worker, followed by the driver."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any, TextIO

from lstmfcn.files import whole_file, writing

EpochMetrics = dict[str, Any]
"""A line of the file: epoch, train_loss, train_accuracy, valid_loss, ... as plain numbers."""

_LOOK_EVERY_S = 0.25


class MetricsWriter:
    """Appends each epoch's metrics to the file as they come.

    Args:
        path: the file. What it says of epochs after the last one done is removed: they are trained
            once more.
        epochs_done: the epochs that the training goes on from.
    """

    def __init__(self, path: Path, epochs_done: int = 0) -> None:
        self._path, self._epochs_done = path, epochs_done
        self._file: TextIO | None = None

    def __enter__(self) -> MetricsWriter:
        kept = read_metrics(self._path)[: self._epochs_done] if self._path.exists() else []
        with whole_file(self._path) as unfinished:
            unfinished.write_text("".join(map(_line, kept)), encoding="utf-8")
        self._file = self._path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    def __call__(self, metrics: EpochMetrics) -> None:
        """Write one line, at once.

        Raises:
            OutputError: it cannot be written.
        """
        if self._file is None:
            return
        with writing(self._path):
            self._file.write(_line(metrics))
            self._file.flush()


def read_metrics(path: Path) -> list[EpochMetrics]:
    """Every epoch's metrics, in order; a last line that was cut off is left out."""
    *lines, _ = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines]


def mean_metrics(histories: Sequence[Sequence[EpochMetrics]]) -> list[EpochMetrics]:
    """The means over an ensemble's members, epoch by epoch; of a single history, itself."""
    if len(histories) == 1:
        return list(histories[0])
    return [
        {name: fmean(each[name] for each in same) for name in same[0]} | {"epoch": epoch}
        for epoch, same in enumerate(zip(*histories, strict=True), start=1)
    ]


@contextmanager
def following(
    path: Path, show: Callable[[EpochMetrics], None], epochs_shown: int = 0
) -> Iterator[None]:
    """Call ``show`` once for each later epoch that the file speaks of, while this block runs."""
    finished = threading.Event()
    arguments = (path, show, epochs_shown, finished)
    follower = threading.Thread(target=_follow, args=arguments, daemon=True)
    follower.start()
    try:
        yield
    finally:
        finished.set()
        follower.join()


def _follow(
    path: Path, show: Callable[[EpochMetrics], None], shown: int, finished: threading.Event
) -> None:
    """The file is replaced where training goes on from a checkpoint: then it is read anew."""
    rest, position, inode, last_look = b"", 0, 0, False
    while not last_look:
        last_look = finished.wait(_LOOK_EVERY_S)
        if not path.exists():
            continue
        with path.open("rb") as file:
            now = os.fstat(file.fileno()).st_ino
            if now != inode:
                rest, position, inode = b"", 0, now
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
