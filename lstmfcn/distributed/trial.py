"""What one trial of a sweep runs: the training loop, on rows that all trials share."""

from __future__ import annotations

import os
import time
from typing import Any

import ray
import torch
from ray import tune

from lstmfcn.batches import EvaluationBatches
from lstmfcn.distributed.prepare import Prepared, PreparedRefs
from lstmfcn.distributed.training_run import (
    TrainedOn,
    TrainingRun,
    artifact_of,
    refusing_memory_errors,
)
from lstmfcn.distributed.trial_plan import (
    FAILURE,
    FINISHED,
    HYPERPARAMETERS,
    NUMBER,
    TrialPlan,
    report_of,
)
from lstmfcn.errors import LstmfcnError
from lstmfcn.metrics_file import EpochMetrics, MetricsWriter
from lstmfcn.rows import Rows
from lstmfcn.run_folder import METRICS, MODEL, STOP
from lstmfcn.sweep import trial_folder
from lstmfcn.training import fit
from lstmfcn.training_start import start_of
from lstmfcn.training_state import Training

_REPORT_EVERY_S = 1.0
"""Every report costs the sweep's driver some milliseconds; all epochs are in metrics.jsonl."""


def run_trial(config: dict[str, Any], plan: TrialPlan) -> None:
    """Train one trial; its folder has the kept epoch's model and every epoch's metrics.

    What the hyperparameters are to blame for is reported, and ends this trial alone.
    """
    number = config[NUMBER]
    try:
        hyperparameters = plan.hyperparameters(config[HYPERPARAMETERS])
        run = TrainingRun(
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
            from lstmfcn.distributed.trial_on_workers import train_on_workers  # 0.1 s of Ray Train

            train_on_workers(run, data, plan, plan.allotment)
        else:
            with refusing_memory_errors():
                _train_here(run, data, plan)
    except LstmfcnError as error:
        tune.report({FINISHED: True, FAILURE: str(error)})


def _train_here(run: TrainingRun, data: PreparedRefs, plan: TrialPlan) -> None:
    torch.set_num_threads(min(plan.threads, os.cpu_count() or 1))  # Ray's CPUs may be imagined
    prepared: Prepared = ray.get(data.prepared)
    rows: Rows = ray.get(data.training)
    held_out: Rows | None = ray.get(data.validation)
    hyperparameters = run.hyperparameters
    training, task, batches = start_of(rows, prepared.schema, hyperparameters, run.initial_weights)
    with MetricsWriter(run.output / METRICS) as writer:
        fit(
            training,
            task,
            batches,
            EvaluationBatches(held_out) if held_out else None,
            hyperparameters,
            _Reporter(run, prepared, training, plan, writer),
        )


class _Reporter:
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
        self._history: list[EpochMetrics] = []
        self._saved: EpochMetrics = {}
        self._last = time.monotonic()

    def __call__(self, metrics: EpochMetrics) -> None:
        """One epoch is done."""
        self._writer(metrics)
        self._history.append(metrics)
        finished = metrics["epoch"] == self._run.hyperparameters.epochs
        late = time.monotonic() - self._last >= _REPORT_EVERY_S
        if finished or late or metrics["epoch"] in self._plan.milestones:
            self._save()
            best = self._training.best
            tune.report(report_of(self._history, best, self._plan, finished=finished))
            self._last = time.monotonic()

    def _save(self) -> None:
        training = self._training
        if self._saved is not training.best:
            trained_on = TrainedOn(1, "cpu", training.precision)
            artifact_of(
                self._run, self._prepared, training.best_weights, training.best, trained_on
            ).save(self._run.output / MODEL)
            self._saved = training.best
