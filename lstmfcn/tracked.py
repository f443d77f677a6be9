"""What trackers are told: a training, how it stands, and the points of its curves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from lstmfcn.metrics_file import EpochMetrics
from lstmfcn.records import TrackerName

State = Literal["running", "done", "stopped early", "out of time", "failed", "stopped"]
"""``stopped early`` and ``out of time`` are trials of a sweep; ``stopped`` can go on."""

_NO_CURVE = {"epoch", "time", "rows"}
_KEPT = "kept/"


@dataclass(frozen=True)
class Tracked:
    """A training with a metrics file of its own.

    Attributes:
        name: its folder in the run's; empty for the run itself, of which all others are parts.
        hyperparameters: under the names that users write.
        reason: why it failed.
    """

    name: str
    hyperparameters: Mapping[str, Any]
    state: State = "running"
    reason: str = ""


class Point(NamedTuple):
    """A point of the curve ``tag``; ``time`` in seconds since 1970."""

    tag: str
    epoch: int
    value: float
    time: float


class OutageError(Exception):
    """A tracker cannot be written to now; the text is one line, without secrets."""


class Tracker(Protocol):
    """Where trainings are tracked."""

    name: TrackerName
    where: str

    def write(
        self, run: Tracked, history: Sequence[EpochMetrics], kept: EpochMetrics | None
    ) -> None:
        """Write what has not been written yet, in this process or one before it.

        Args:
            run: as it stands.
            history: all its epochs so far.
            kept: the kept epoch's metrics, once training has ended with a model.

        Raises:
            OutageError: not all could be written; it is tried again later.
        """


def missing_points(
    history: Iterable[EpochMetrics], kept: EpochMetrics | None, written: Set[tuple[str, int]]
) -> list[Point]:
    """The points of all curves, without those of these tags and epochs.

    The kept epoch has points of its own, such as ``kept/valid_accuracy``, to compare runs by.
    """
    points = [
        Point(tag, metrics["epoch"], value, metrics["time"])
        for metrics in history
        for tag, value in metrics.items()
        if tag not in _NO_CURVE
    ]
    if kept:
        tags = kept_tags([kept]).items()
        at = kept.get("time", points[-1].time if points else 0.0)
        points += [Point(tag, kept["epoch"], kept[metric], at) for tag, metric in tags]
    return [point for point in points if (point.tag, point.epoch) not in written]


def kept_tags(history: Sequence[EpochMetrics]) -> dict[str, str]:
    """The tags of the kept epoch's points, and the metrics that they show."""
    names = history[0] if history else ()
    return {_KEPT + name: name for name in names if name.startswith(("train_", "valid_"))}
