"""What one trial of a sweep runs: the training loop, and reports of its epochs to Ray Tune.

A trial on CPUs trains in its own process, on rows that all trials share. A trial with a GPU or
several workers starts them as ``lstmfcn train`` does, and follows their checkpoints.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

from lstmfcn.distributed.capacity import available_cpus
from lstmfcn.distributed.failures import LOST
from lstmfcn.distributed.keeper import RemoteKeeper
from lstmfcn.distributed.load import DatasetRefs
from lstmfcn.distributed.requests import WorkerResources
from lstmfcn.distributed.worker import (
    Hardware,
    WorkerJob,
    build_artifact,
    refusing_memory_errors,
)
from lstmfcn.errors import LstmfcnError
from lstmfcn.hyperparameters import Hyperparameters, ScalingName
from lstmfcn.model.artifact import Artifact
from lstmfcn.signals import in_thread
from lstmfcn.storage.scratch import scratch_folder
from lstmfcn.training.batches import EvaluationLoader
from lstmfcn.training.dataset_info import DatasetInfo
from lstmfcn.training.loop import fit
from lstmfcn.training.metrics_log import EpochMetrics
from lstmfcn.training.state import TrainState, set_up
from lstmfcn.tuning.sweep import trial_folder

NUMBER, HYPERPARAMETERS = "number", "hyperparameters"
"""Names in a trial's configuration."""

FINISHED, FAILURE, BUG = "finished", "failure", "bug"
"""Names in a trial's last report."""

BEST = "best"
"""The name, in a report, of the best epoch's metrics. They are a list: of each number in a dict Ray
Tune keeps means and deques, and writes them to disk at the end."""

_REPORT_EVERY_S = 1.0
"""Every report costs the sweep's driver some milliseconds; metrics.jsonl has all epochs."""

_POLL_INTERVAL_S = 0.5

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepContext:
    """What all trials of a sweep share.

    Attributes:
        fixed: the hyperparameters that are not searched.
        data: references to the rows, by the scaling that was applied to them.
        base_model: the model that every trial continues from.
        folder: the sweep's, on the driver's machine.
        keeper: the handle of the `KeeperActor`, which writes to it.
        metric: the metric that is reported.
        rungs: the epochs after which the scheduler decides.
        threads: of each trial, or of each of its workers.
        workers: the workers of each trial; None if the trial's own process trains.
    """

    fixed: Hyperparameters
    data: Mapping[ScalingName, DatasetRefs]
    base_model: Artifact | None
    folder: Path
    keeper: Any
    metric: str
    rungs: frozenset[int]
    threads: int
    workers: WorkerResources | None

    def hyperparameters(self, searched: Mapping[str, Any]) -> Hyperparameters:
        """All of a trial's hyperparameters."""
        return Hyperparameters.parse({**self.fixed.model_dump(), **searched})

    def report(self, history: Sequence[EpochMetrics], best: EpochMetrics, finished: bool) -> None:
        """Report an epoch to Ray Tune.

        Args:
            history: the metrics of all epochs so far.
            best: the metrics of the best of them.
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


def run_trial(config: dict[str, Any], context: SweepContext) -> None:
    """Train one trial, and keep the best epoch's model and all metrics in the trial's folder.

    An error that the hyperparameters caused, or a bug, is reported and ends only this trial. Ray
    Tune tries a trial again that lost its process or its data.

    Args:
        config: the trial's number and its searched hyperparameters.
        context: what all trials share.
    """
    number = config[NUMBER]
    try:
        hyperparameters = context.hyperparameters(config[HYPERPARAMETERS])
        folder = trial_folder(context.folder, number)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        job = WorkerJob(
            hyperparameters=hyperparameters,
            initial_weights=context.base_model.weights if context.base_model else None,
            provenance={"started": now, "trial": number},
            threads=context.threads,
            checkpoint_every_s=_REPORT_EVERY_S,
            saves_model=False,  # this process saves it before it reports the epoch
        )
        data = context.data[hyperparameters.scaling]
        if context.workers:
            _train_on_workers(job, folder, data, context.workers, context)
        else:
            with refusing_memory_errors():
                _train_in_this_process(job, RemoteKeeper(context.keeper, folder), data, context)
    except LstmfcnError as error:
        tune.report({FINISHED: True, FAILURE: str(error)})
    except LOST:
        raise
    except Exception as bug:
        reason = traceback.format_exception_only(bug)[-1].strip()
        tune.report({FINISHED: True, FAILURE: reason, BUG: traceback.format_exc()})


def _train_in_this_process(
    job: WorkerJob, keeper: RemoteKeeper, data: DatasetRefs, context: SweepContext
) -> None:
    torch.set_num_threads(min(context.threads, available_cpus()))  # Ray's may be more
    info, rows, validation = data.get()
    state, task, batches = set_up(rows, info.schema, job.hyperparameters, job.initial_weights)
    keeper.start(0)
    try:
        fit(
            state,
            task,
            batches,
            EvaluationLoader(validation) if validation else None,
            job.hyperparameters,
            _EpochReporter(job, info, state, context, keeper),
        )
    finally:
        keeper.flush()


class _EpochReporter:
    """Keeps every epoch's metrics, and reports to Ray Tune those epochs that matter.

    All metrics and the best epoch's model are kept before the report, because Tune may end the
    trial there.
    """

    def __init__(
        self,
        job: WorkerJob,
        info: DatasetInfo,
        state: TrainState,
        context: SweepContext,
        keeper: RemoteKeeper,
    ) -> None:
        self._job, self._info, self._state = job, info, state
        self._context, self._keeper = context, keeper
        self._history: list[EpochMetrics] = []
        self._saved: EpochMetrics = {}
        self._reported_at = time.monotonic()

    def __call__(self, metrics: EpochMetrics) -> None:
        """Take the metrics of an epoch that is done."""
        self._keeper.add_epochs(metrics)
        self._history.append(metrics)
        finished = metrics["epoch"] == self._job.hyperparameters.epochs
        is_due = time.monotonic() - self._reported_at >= _REPORT_EVERY_S
        if finished or is_due or metrics["epoch"] in self._context.rungs:
            self._keeper.flush()
            self._save_best()
            self._context.report(self._history, self._state.best, finished)
            self._reported_at = time.monotonic()

    def _save_best(self) -> None:
        state = self._state
        if self._saved is not state.best:
            hardware = Hardware(1, "cpu", state.precision)
            artifact = build_artifact(
                self._job, self._info, state.best_weights, state.best, hardware
            )
            self._keeper.save_model(artifact.to_files())
            self._saved = state.best


def _train_on_workers(
    job: WorkerJob,
    folder: Path,
    data: DatasetRefs,
    resources: WorkerResources,
    context: SweepContext,
) -> None:
    """Train as ``lstmfcn train`` does, and report until the end, or until Ray Tune stops the trial.

    Raises:
        LstmfcnError: the training ended with it.
    """
    from lstmfcn.distributed.ray_trainer import train_until_done  # 0.1 s of Ray Train

    keeper = RemoteKeeper(context.keeper, folder)
    keeper.request_stop(False)  # as a sweep did that was interrupted
    reporter = _CheckpointReporter(job, folder, ray.get(data.info), resources, context)
    with scratch_folder() as storage:
        training = in_thread(lambda: train_until_done(job, keeper, data, resources, storage))
        try:
            while not training.done():
                time.sleep(_POLL_INTERVAL_S)
                reporter.report_newest()
        except SystemExit:  # Ray Tune stops the trial
            keeper.request_stop(True)
            training.exception()
            keeper.request_stop(False)
            raise
        training.result()  # raises the error, if it ended with one
    reporter.report_newest(ended=True)


class _CheckpointReporter:
    """Reports the epoch of the newest checkpoint, and saves its best weights as a model first.

    Nothing else saves the trial's model: it must be that of the reported epoch.
    """

    def __init__(
        self,
        job: WorkerJob,
        folder: Path,
        info: DatasetInfo,
        resources: WorkerResources,
        context: SweepContext,
    ) -> None:
        self._job, self._info, self._context = job, info, context
        self._keeper = RemoteKeeper(context.keeper, folder, writer="reporter")
        self._resources, self._reported_epoch = resources, 0

    def report_newest(self, *, ended: bool = False) -> None:
        """Report the newest epoch if it is new; the last one only once the training has ended."""
        progress = self._keeper.progress(self._reported_epoch)
        if progress is None:
            return
        saved, history = progress
        epoch = saved.position.epoch
        finished = epoch == self._job.hyperparameters.epochs
        state = saved.unpack(logger.warning)
        if state is None or (finished and not ended):
            return
        resources = self._resources
        hardware = Hardware(resources.num_workers, resources.device, state.get("precision", "fp32"))
        artifact = build_artifact(
            self._job, self._info, state["best_weights"], state["best"], hardware
        )
        self._keeper.save_model(artifact.to_files())
        self._reported_epoch = epoch
        self._context.report(history, state["best"], finished)
