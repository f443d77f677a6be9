"""What one trial of a sweep runs: the training loop, on rows that all trials share."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

from lstmfcn.artifact import Artifact
from lstmfcn.batches import EvaluationBatches, training_batches
from lstmfcn.distributed.prepare import Prepared, PreparedRefs
from lstmfcn.distributed.searcher import HYPERPARAMETERS, NUMBER
from lstmfcn.distributed.worker import TrainingRun, artifact_of, network_of, refusing_memory_errors
from lstmfcn.errors import LstmfcnError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.metrics_file import EpochMetrics, MetricsWriter
from lstmfcn.rows import Rows
from lstmfcn.run_folder import METRICS, MODEL
from lstmfcn.sweep import trial_folder
from lstmfcn.task import class_weights, task_of
from lstmfcn.training import fit
from lstmfcn.training_state import Training

_REPORT_EVERY_S = 1.0
"""Every report costs the sweep's driver some milliseconds; all epochs are in metrics.jsonl."""

FINISHED, FAILURE = "finished", "failure"
"""Names in a trial's last report."""


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
        threads: of each trial.
    """

    fixed: Hyperparameters
    data: Mapping[str, PreparedRefs]
    start: Artifact | None
    folder: Path
    metric: str
    milestones: frozenset[int]
    threads: int

    def hyperparameters(self, searched: Mapping[str, Any]) -> Hyperparameters:
        """All of a trial's hyperparameters."""
        return Hyperparameters.parse({**self.fixed.model_dump(), **searched})


def run_trial(config: dict[str, Any], plan: TrialPlan) -> None:
    """Train one trial; its folder has the kept epoch's model and every epoch's metrics.

    What the hyperparameters are to blame for is reported, and ends this trial alone.
    """
    torch.set_num_threads(min(plan.threads, os.cpu_count() or 1))  # Ray's CPUs may be imagined
    try:
        with refusing_memory_errors():
            _train(config[NUMBER], plan.hyperparameters(config[HYPERPARAMETERS]), plan)
    except LstmfcnError as error:
        tune.report({FINISHED: True, FAILURE: str(error)})


def _train(number: int, hyperparameters: Hyperparameters, plan: TrialPlan) -> None:
    data = plan.data[hyperparameters.scaling]
    prepared: Prepared = ray.get(data.prepared)
    rows: Rows = ray.get(data.training)
    held_out: Rows | None = ray.get(data.validation)
    run = TrainingRun(
        hyperparameters=hyperparameters,
        initial_weights=plan.start.weights if plan.start else None,
        record={"started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "trial": number},
        output=trial_folder(plan.folder, number),
        threads=plan.threads,
        checkpoint_every_s=0,
    )
    weights = class_weights(hyperparameters.class_weight, prepared.schema, rows.labels)
    task = task_of(prepared.schema, weights)
    training = Training(network_of(run, prepared, task), hyperparameters.lr)
    run.output.mkdir(parents=True, exist_ok=True)
    with MetricsWriter(run.output / METRICS) as writer:
        fit(
            training,
            task,
            training_batches(rows, hyperparameters.batch_size, hyperparameters.seed),
            EvaluationBatches(held_out) if held_out else None,
            hyperparameters,
            Reporter(run, prepared, training, plan, writer),
        )


class Reporter:
    """Writes every epoch down, and tells Ray Tune of those that matter.

    The kept epoch's model is on disk before Tune hears of it: Tune may end the trial there.
    """

    def __init__(
        self,
        run: TrainingRun,
        prepared: Prepared,
        training: Training,
        plan: TrialPlan,
        writer: MetricsWriter,
    ) -> None:
        self._run, self._prepared, self._training = run, prepared, training
        self._plan, self._writer = plan, writer
        self._saved: EpochMetrics = {}
        self._seconds, self._last = 0.0, time.monotonic()

    def __call__(self, metrics: EpochMetrics) -> None:
        """One epoch is done."""
        self._writer(metrics)
        self._seconds += metrics["seconds"]
        finished = metrics["epoch"] == self._run.hyperparameters.epochs
        if finished or metrics["epoch"] in self._plan.milestones or self._late():
            self._save()
            best = self._training.best
            tune.report(
                {
                    "epoch": metrics["epoch"],
                    "seconds": self._seconds,
                    "best": best,
                    self._plan.metric: best[self._plan.metric],
                    FINISHED: finished,
                }
            )
            self._last = time.monotonic()

    def _late(self) -> bool:
        return time.monotonic() - self._last >= _REPORT_EVERY_S

    def _save(self) -> None:
        if self._saved is not self._training.best:
            artifact = artifact_of(self._run, self._prepared, self._training)
            artifact.save(self._run.output / MODEL)
            self._saved = self._training.best
