"""What one trial of a sweep runs: the training loop, on rows that all trials share."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

from lstmfcn.data.dataset import Dataset
from lstmfcn.distributed.load import DatasetInfo, DatasetRefs
from lstmfcn.distributed.requests import WorkerResources
from lstmfcn.distributed.worker import (
    Hardware,
    WorkerJob,
    build_artifact,
    refusing_memory_errors,
)
from lstmfcn.errors import LstmfcnError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.model.artifact import Artifact
from lstmfcn.training.batches import EvaluationLoader
from lstmfcn.training.loop import fit
from lstmfcn.training.metrics_log import EpochMetrics, MetricsWriter
from lstmfcn.training.run_directory import METRICS, MODEL, STOP
from lstmfcn.training.state import TrainState, set_up
from lstmfcn.tuning.sweep import trial_folder

NUMBER, HYPERPARAMETERS = "number", "hyperparameters"
"""Names in a trial's configuration."""

FINISHED, FAILURE = "finished", "failure"
"""Names in a trial's last report."""

BEST = "best"
"""The name in a report of the kept epoch's metrics: a list, for of each number in a dict Ray Tune
keeps means and deques, and writes them down when it ends."""


_REPORT_EVERY_S = 1.0
"""Every report costs the sweep's driver some milliseconds; all epochs are in metrics.jsonl."""


@dataclass(frozen=True)
class SweepContext:
    """What all trials of a sweep share.

    Attributes:
        fixed: the hyperparameters that are not searched.
        data: references to the rows, by the scaling that was applied to them.
        start: the model that every trial continues from.
        folder: of the sweep.
        metric: that is reported.
        rungs: epochs after which the scheduler decides.
        threads: of each trial, or of each of its workers.
        allotment: workers of each trial; None where the trial itself trains.
    """

    fixed: Hyperparameters
    data: Mapping[str, DatasetRefs]
    start: Artifact | None
    folder: Path
    metric: str
    rungs: frozenset[int]
    threads: int
    allotment: WorkerResources | None

    def hyperparameters(self, searched: Mapping[str, Any]) -> Hyperparameters:
        """All of a trial's hyperparameters."""
        return Hyperparameters.parse({**self.fixed.model_dump(), **searched})

    def report(self, history: Sequence[EpochMetrics], best: EpochMetrics, finished: bool) -> None:
        """Tell Ray Tune of an epoch.

        Args:
            history: all epochs so far.
            best: the one whose model would be kept.
            finished: whether no epoch is left.
        """
        tune.report(
            {
                "epoch": history[-1]["epoch"],
                "seconds": sum(metrics["seconds"] for metrics in history),
                BEST: list(best.items()),
                self.metric: best[self.metric],
                FINISHED: finished,
            }
        )


def run_trial(config: dict[str, Any], plan: SweepContext) -> None:
    """Train one trial; its folder has the kept epoch's model and every epoch's metrics.

    What the hyperparameters are to blame for is reported, and ends this trial alone.
    """
    number = config[NUMBER]
    try:
        hyperparameters = plan.hyperparameters(config[HYPERPARAMETERS])
        run = WorkerJob(
            hyperparameters=hyperparameters,
            initial_weights=plan.start.weights if plan.start else None,
            record={"started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "trial": number},
            output=trial_folder(plan.folder, number),
            threads=plan.threads,
            checkpoint_every_s=_REPORT_EVERY_S,
            stop_file=trial_folder(plan.folder, number) / STOP,
            saves_model=False,  # the trial's process does, and reports it then
        )
        run.output.mkdir(parents=True, exist_ok=True)
        data = plan.data[hyperparameters.scaling]
        if plan.allotment:
            from lstmfcn.distributed.ray_trainer import train_on_workers  # 0.1 s of Ray Train

            train_on_workers(run, data, plan.allotment, plan.report)
        else:
            with refusing_memory_errors():
                _train_here(run, data, plan)
    except LstmfcnError as error:
        tune.report({FINISHED: True, FAILURE: str(error)})


def _train_here(run: WorkerJob, data: DatasetRefs, plan: SweepContext) -> None:
    torch.set_num_threads(min(plan.threads, os.cpu_count() or 1))  # Ray's CPUs may be imagined
    prepared: DatasetInfo = ray.get(data.prepared)
    rows: Dataset = ray.get(data.training)
    held_out: Dataset | None = ray.get(data.validation)
    hyperparameters = run.hyperparameters
    training, task, batches = set_up(rows, prepared.schema, hyperparameters, run.initial_weights)
    with MetricsWriter(run.output / METRICS) as writer:
        fit(
            training,
            task,
            batches,
            EvaluationLoader(held_out) if held_out else None,
            hyperparameters,
            _Reporter(run, prepared, training, plan, writer),
        )


class _Reporter:
    """Writes every epoch down, and tells Ray Tune of those that matter.

    The kept epoch's model is on disk before Tune hears of it: Tune may end the trial there.
    """

    def __init__(
        self,
        run: WorkerJob,
        prepared: DatasetInfo,
        training: TrainState,
        plan: SweepContext,
        writer: MetricsWriter,
    ) -> None:
        self._run, self._prepared, self._training = run, prepared, training
        self._plan, self._writer = plan, writer
        self._history: list[EpochMetrics] = []
        self._saved: EpochMetrics = {}
        self._last = time.monotonic()

    def __call__(self, metrics: EpochMetrics) -> None:
        """One epoch is done."""
        self._writer(metrics)
        self._history.append(metrics)
        finished = metrics["epoch"] == self._run.hyperparameters.epochs
        late = time.monotonic() - self._last >= _REPORT_EVERY_S
        if finished or late or metrics["epoch"] in self._plan.rungs:
            self._save()
            best = self._training.best
            self._plan.report(self._history, best, finished)
            self._last = time.monotonic()

    def _save(self) -> None:
        training = self._training
        if self._saved is not training.best:
            trained_on = Hardware(1, "cpu", training.precision)
            build_artifact(
                self._run, self._prepared, training.best_weights, training.best, trained_on
            ).save(self._run.output / MODEL)
            self._saved = training.best
