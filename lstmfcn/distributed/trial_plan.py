"""What all trials of a sweep share, and what they tell Ray Tune."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lstmfcn.artifact import Artifact
from lstmfcn.distributed.allotment import Allotment
from lstmfcn.distributed.prepare import PreparedRefs
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.metrics_file import EpochMetrics

NUMBER, HYPERPARAMETERS = "number", "hyperparameters"
"""Names in a trial's configuration."""

FINISHED, FAILURE = "finished", "failure"
"""Names in a trial's last report."""

BEST = "best"
"""The name in a report of the kept epoch's metrics: a list, for of each number in a dict Ray Tune
keeps means and deques, and writes them down when it ends."""


@dataclass(frozen=True)
class TrialPlan:
    """What all trials of a sweep share.

    Attributes:
        fixed: the hyperparameters that are not searched.
        data: references to the rows, by the scaling that was applied to them.
        start: the model that every trial continues from.
        folder: of the sweep.
        metric: that is reported.
        milestones: epochs after which the scheduler decides.
        threads: of each trial, or of each of its workers.
        allotment: workers of each trial; None where the trial itself trains.
    """

    fixed: Hyperparameters
    data: Mapping[str, PreparedRefs]
    start: Artifact | None
    folder: Path
    metric: str
    milestones: frozenset[int]
    threads: int
    allotment: Allotment | None

    def hyperparameters(self, searched: Mapping[str, Any]) -> Hyperparameters:
        """All of a trial's hyperparameters."""
        return Hyperparameters.parse({**self.fixed.model_dump(), **searched})


def report_of(
    history: Sequence[EpochMetrics], best: EpochMetrics, plan: TrialPlan, *, finished: bool
) -> dict[str, Any]:
    """What Ray Tune is told after an epoch.

    Args:
        history: all epochs so far.
        best: the one that would be kept.
        plan: names the metric.
        finished: whether no epoch is left.
    """
    return {
        "epoch": history[-1]["epoch"],
        "seconds": sum(metrics["seconds"] for metrics in history),
        BEST: list(best.items()),
        plan.metric: best[plan.metric],
        FINISHED: finished,
    }
