"""``metrics.jsonl``: one line an epoch, written by the first worker, followed by the driver."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TextIO

from lstmfcn.training import EpochMetrics

_LOOK_EVERY_S = 0.1


class MetricsWriter:
    """Appends each epoch's metrics to the file as they come. Other workers' writers do nothing."""

    def __init__(self, path: Path, enabled: bool) -> None:
        self._path, self._enabled = path, enabled
        self._file: TextIO | None = None

    def __enter__(self) -> MetricsWriter:
        if self._enabled:
            self._file = self._path.open("a", encoding="utf-8")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file:
            self._file.close()

    def __call__(self, metrics: EpochMetrics) -> None:
        """Write one line, at once."""
        if self._file:
            self._file.write(json.dumps(metrics, allow_nan=False) + "\n")
            self._file.flush()


def read_metrics(path: Path) -> list[EpochMetrics]:
    """Every epoch's metrics, in order."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@contextmanager
def following(path: Path, show: Callable[[EpochMetrics], None]) -> Iterator[None]:
    """Call ``show`` for each line that appears in the file while this block runs."""
    finished = threading.Event()
    follower = threading.Thread(target=_follow, args=(path, show, finished), daemon=True)
    follower.start()
    try:
        yield
    finally:
        finished.set()
        follower.join()


def _follow(path: Path, show: Callable[[EpochMetrics], None], finished: threading.Event) -> None:
    rest, position, last_look = "", 0, False
    while not last_look:
        last_look = finished.wait(_LOOK_EVERY_S)
        if not path.exists():
            continue
        with path.open(encoding="utf-8") as file:
            file.seek(position)
            rest += file.read()
            position = file.tell()
        *lines, rest = rest.split("\n")
        for line in lines:
            show(json.loads(line))
