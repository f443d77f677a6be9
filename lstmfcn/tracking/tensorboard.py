"""Write TensorBoard event files under ``OUTPUT/tensorboard``, one per process.

Only the process that created a file appends to it. A resumed run reads the existing files, ignores
an incomplete last record, and writes missing points to a new file. Each epoch is one record, so it
is written completely or not at all.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from lstmfcn.tracking.base import (
    Point,
    TrackedRun,
    TrackerUnavailableError,
    find_missing_points,
    list_best_tags,
)
from lstmfcn.training.metrics_log import EpochMetrics
from lstmfcn.training.run_directory import TENSORBOARD, TrackerName

_SUFFIX = ".lstmfcn"
_HEADER, _CHECKSUM = struct.Struct("<Q4x"), struct.Struct("<I")
"""A record's header: its length and the length's checksum; its own checksum follows the record.
(tensorflow/core/lib/io/record_writer.h)"""


class TensorBoard:
    """Writes the event files of a run."""

    name: TrackerName = "tensorboard"

    def __init__(self, folder: Path) -> None:
        self._folder = folder / TENSORBOARD
        self.where = f"tensorboard --logdir {self._folder}"
        self._events: dict[str, _Events] = {}

    def write(
        self, run: TrackedRun, history: Sequence[EpochMetrics], best: EpochMetrics | None
    ) -> None:
        """Write missing points (a sweep itself has none), or raise `TrackerUnavailableError`."""
        if not history:
            return
        try:
            if run.name not in self._events:
                self._events[run.name] = _Events(self._folder / run.name)
            self._events[run.name].add(run, history, best)
        except OSError as error:
            self._events.pop(run.name, None)  # the file may end in half a record, so use a new one
            raise TrackerUnavailableError(
                f"{self._folder}: cannot be written ({error.strerror})"
            ) from error
        if run.state != "running":
            del self._events[run.name]


class _Events:
    """The event files of one training; the first new point creates this process's file."""

    def __init__(self, folder: Path) -> None:
        before = sorted(folder.glob(f"*{_SUFFIX}"))
        self._written = {point for path in before for point in read_points(path)}
        origin = f"{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{len(before)}"
        self._path = folder / f"events.out.tfevents.{origin}{_SUFFIX}"

    def add(
        self, run: TrackedRun, history: Sequence[EpochMetrics], best: EpochMetrics | None
    ) -> None:
        """Write missing points."""
        missing = find_missing_points(history, best, self._written)
        if not missing:
            return
        events = []
        experiment, values, end = _hparams(run, history)
        if not self._path.exists():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            events.append(_event(time.time(), file_version="brain.Event:2"))
            events += [_event(time.time(), summary=summary) for summary in (experiment, values)]
        for (epoch, at), points in groupby(missing, lambda point: (point.epoch, point.time)):
            events.append(_event(at, step=epoch, summary=_scalars(points)))
        if best:
            events.append(_event(time.time(), summary=end))
        with self._path.open("ab") as file:
            file.write(b"".join(map(_record, events)))
        self._written |= {(point.tag, point.epoch) for point in missing}


def read_points(path: Path) -> Iterator[tuple[str, int]]:
    """Yield tag and epoch of every point in an event file, without an incomplete last record."""
    from tensorboardX.proto.event_pb2 import Event

    content, position = path.read_bytes(), 0
    while position + _HEADER.size <= len(content):
        (length,) = _HEADER.unpack_from(content, position)
        start = position + _HEADER.size
        position = start + length + _CHECKSUM.size
        if position > len(content):
            return
        event = Event.FromString(content[start : start + length])
        yield from ((value.tag, event.step) for value in event.summary.value)


def _record(event: bytes) -> bytes:
    from tensorboardX.record_writer import masked_crc32c  # imports PyTorch

    length = struct.pack("<Q", len(event))
    return b"".join(
        (length, _CHECKSUM.pack(masked_crc32c(length)), event, _CHECKSUM.pack(masked_crc32c(event)))
    )


def _event(at: float, **content: Any) -> bytes:
    from tensorboardX.proto.event_pb2 import Event

    serialized: bytes = Event(wall_time=at, **content).SerializeToString()
    return serialized


def _scalars(points: Iterator[Point]) -> Any:
    from tensorboardX.proto.summary_pb2 import Summary

    values = [Summary.Value(tag=point.tag, simple_value=point.value) for point in points]
    return Summary(value=values)


def _hparams(run: TrackedRun, history: Sequence[EpochMetrics]) -> Any:
    """Make the entries of TensorBoard's hyperparameter table: experiment, this run, its end."""
    from tensorboardX.summary import hparams

    values = {
        name: value if isinstance(value, bool | int | float) else str(value)
        for name, value in run.hyperparameters.items()
    }
    return hparams(values, dict.fromkeys(list_best_tags(history), 0.0))
