"""The interface of experiment trackers: runs, their states, and the points of their curves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from lstmfcn.training.metrics_log import EpochMetrics
from lstmfcn.training.run_directory import TrackerName

State = Literal["running", "done", "stopped early", "out of time", "failed", "stopped"]
"""``stopped early`` and ``out of time`` are for trials of a sweep; ``stopped`` can be resumed."""

_NO_CURVE = {"epoch", "time", "rows"}
_BEST_PREFIX = "kept/"
"""Prefix of the best epoch's tags."""


@dataclass(frozen=True)
class TrackedRun:
    """A training with a metrics file of its own.

    Attributes:
        name: its folder, relative to the run's; empty for the run itself, the parent of all others.
        hyperparameters: by the names that users write.
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


class TrackerUnavailableError(Exception):
    """A tracker does not accept data now; the message is one line, without secrets."""


class Tracker(Protocol):
    """An experiment tracker."""

    name: TrackerName
    where: str

    def write(
        self, run: TrackedRun, history: Sequence[EpochMetrics], best: EpochMetrics | None
    ) -> None:
        """Write everything that this process or an earlier one has not written yet.

        Args:
            best: metrics of the best epoch, once the training has ended with a model.

        Raises:
            TrackerUnavailableError: the tracker did not accept everything; try again later.
        """


def find_missing_points(
    history: Iterable[EpochMetrics], best: EpochMetrics | None, written: Set[tuple[str, int]]
) -> list[Point]:
    """Find the points of all curves that are not written yet.

    The best epoch has extra points, such as ``kept/valid_accuracy``, to compare runs by.

    Args:
        written: tags and epochs of the points that are written already.
    """
    points = [
        Point(tag, metrics["epoch"], value, metrics["time"])
        for metrics in history
        for tag, value in metrics.items()
        if tag not in _NO_CURVE
    ]
    if best:
        tags = list_best_tags([best]).items()
        at = best.get("time", points[-1].time if points else 0.0)
        points += [Point(tag, best["epoch"], best[metric], at) for tag, metric in tags]
    return [point for point in points if (point.tag, point.epoch) not in written]


def list_best_tags(history: Sequence[EpochMetrics]) -> dict[str, str]:
    """Map the tags of the best epoch's points to the metrics that they show."""
    names = history[0] if history else ()
    return {_BEST_PREFIX + name: name for name in names if name.startswith(("train_", "valid_"))}
