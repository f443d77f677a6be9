"""The driver of a training, once Ray is up, or in the process that trains.

It has the data read while the workers start, shows each epoch, draws the learning curve while the
workers save the model, and gives them time for a checkpoint when the user stops the run.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

import ray
from ray.util.metrics import Gauge

from lstmfcn.console import pluralize
from lstmfcn.data.dataset import MemoryLimitError
from lstmfcn.distributed.capacity import memory_bytes, nodes
from lstmfcn.distributed.ensemble import train_members
from lstmfcn.distributed.keeper import RemoteKeeper, keeper_process
from lstmfcn.distributed.load import Loading, LoadingThread, start_loading
from lstmfcn.distributed.ray_trainer import train_in_this_process, train_until_done
from lstmfcn.distributed.requests import (
    Resources,
    TrainInputs,
    WorkerResources,
    members_at_once,
    resolve_resources,
)
from lstmfcn.distributed.worker import WorkerJob
from lstmfcn.errors import LstmfcnError, RunInterruptedError
from lstmfcn.model.artifact import Artifact
from lstmfcn.signals import in_thread
from lstmfcn.storage.scratch import scratch_folder
from lstmfcn.training.calibration import calibration_summary
from lstmfcn.training.checkpoints import find_newest_position
from lstmfcn.training.dataset_info import log_dataset
from lstmfcn.training.keeper import FolderKeeper
from lstmfcn.training.metrics_log import (
    EpochMetrics,
    keep_epochs,
    mean_metrics,
    read_metrics,
    tail_metrics,
)
from lstmfcn.training.progress import Progress
from lstmfcn.training.run_directory import (
    CHECKPOINTS,
    CURVE,
    METRICS,
    MODEL,
    RunConfig,
    find_run_position,
    list_member_folders,
    request_stop,
)
from lstmfcn.training.state import rank_epoch

_SECONDS_TO_STOP = 30.0
"""After Ctrl-C, for a busy machine or a slow disk; a second Ctrl-C ends the command at once."""
_SECONDS_TO_FAIL = 5.0
"""After an error of the data, which ends the workers too."""
_JOB_SECONDS_TO_STOP = 3.0
"""What Ray gives a job that is stopped, unless RAY_JOB_STOP_WAIT_TIME_S says otherwise."""

_GAUGES = {
    "running": "1 while the training runs, 0 once it has ended.",
    "epoch": "Epochs that are done.",
    "train_loss": "Loss of the training rows in the newest epoch.",
    "valid_loss": "Loss of the validation rows in the newest epoch.",
    "rows_per_second": "Training rows per second in the newest epoch.",
    "checkpoint_time_seconds": "When the newest checkpoint was written, in Unix time.",
}
"""The metrics of a training for Prometheus; Ray writes ``ray_lstmfcn_training_`` in front."""

logger = logging.getLogger(__name__)


def run_training(
    inputs: TrainInputs,
    resources: Resources,
    checkpoint_every_s: float,
    started: float,
    ray_stays: bool,
    in_blocks: bool = False,
) -> EpochMetrics:
    """Train a model, or the members of an ensemble, and show each epoch.

    Args:
        inputs: the checked run.
        resources: what the user asks of the cluster.
        checkpoint_every_s: seconds between checkpoints.
        started: when the command started, in seconds since the epoch of Unix.
        ray_stays: whether Ray, and workers that still run, outlive this command.
        in_blocks: whether it is known that the rows take more memory than they may.

    Returns:
        The best epoch's metrics.

    Raises:
        MemoryLimitError: the rows take more memory than they may, against all estimates.
        UserError: data, output or cluster cannot be used.
        TrainingError: the loss became infinite or nan.
        RunInterruptedError: the user stopped the run.
    """
    machines = nodes()
    members = inputs.hyperparameters.members
    worker_resources = resolve_resources(machines, resources, members)
    memory_limit = memory_bytes(resources.memory_gb, machines)
    is_alone = not ray.is_initialized()
    data = start_loading(inputs, worker_resources.num_workers, memory_limit, in_blocks)
    _log_start(inputs, worker_resources, ray_stays)
    job = _worker_job(inputs, worker_resources, checkpoint_every_s, started)
    epochs = _EpochDisplay(inputs, started, members_at_once(machines, worker_resources, members))
    with scratch_folder() as storage:
        training = in_thread(lambda: _train(job, inputs.folder, data, worker_resources, storage))
        try:
            log_dataset(data.wait(), memory_limit)
            epochs.show_until_done(training)
        except (KeyboardInterrupt, SystemExit) as stop:
            data.stop()
            _stop(inputs, training, stop, ray_stays)
        except LstmfcnError as error:
            is_tried_again = isinstance(error, MemoryLimitError)
            waits = ray_stays or is_alone or is_tried_again
            with suppress(TimeoutError):  # the workers get the same error from the data
                training.exception(None if waits else _SECONDS_TO_FAIL)
            raise
        finally:
            if not (ray_stays or is_alone):
                training.abandon()
    model = Artifact.load(inputs.folder / MODEL)
    if inputs.hyperparameters.has_post_training:
        for line in calibration_summary(model):
            logger.info(line)
    return model.metrics


def _log_start(inputs: TrainInputs, resources: WorkerResources, on_a_cluster: bool) -> None:
    """Say what starts; on a cluster under the name that the dashboard and the metrics have."""
    members = inputs.hyperparameters.members
    trained = (members, "member") if members > 1 else (resources.num_workers, "worker")
    is_alone = not ray.is_initialized()
    logger.info(
        "%sreading %s, %s %s%s",
        f"run {inputs.folder.name}: " if on_a_cluster else "",
        pluralize(len(inputs.training.shards), "shard"),
        "training in this process with" if is_alone else f"starting {pluralize(*trained)} of",
        pluralize(resources.cpus_per_worker, "CPU"),
        " and a GPU" if resources.use_gpu else "",
    )


def _worker_job(
    inputs: TrainInputs, resources: WorkerResources, checkpoint_every_s: float, started: float
) -> WorkerJob:
    base_model = inputs.base_model
    return WorkerJob(
        hyperparameters=inputs.hyperparameters,
        initial_weights=base_model.weights if base_model else None,
        provenance={
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
            "continued_from": base_model.training.get("train_sha256") if base_model else None,
            "cpus_per_worker": resources.cpus_per_worker,
        },
        threads=resources.cpus_per_worker,
        checkpoint_every_s=checkpoint_every_s,
    )


def _train(
    job: WorkerJob, folder: Path, data: Loading, resources: WorkerResources, storage: Path
) -> None:
    if isinstance(data, LoadingThread):
        train_in_this_process(job, FolderKeeper(folder), data, resources, storage)
        return
    refs = data.refs()
    with keeper_process() as keeper:
        if job.hyperparameters.members > 1:
            train_members(job, keeper, folder, refs, resources)
        else:
            train_until_done(job, RemoteKeeper(keeper, folder), refs, resources, storage)


class _ClusterMetrics:
    """A training in the metrics of the cluster; each member of an ensemble for itself."""

    def __init__(self, run: Path) -> None:
        self._tags = {"run": run.name}
        self._gauges = {
            name: Gauge(f"lstmfcn_training_{name}", text, ("run", "member"))
            for name, text in _GAUGES.items()
        }

    def set(self, values: Mapping[str, float], member: int = 0) -> None:
        """Replace those values that have a metric."""
        for name in self._gauges.keys() & values.keys():
            self._gauges[name].set(values[name], self._tags | {"member": str(member)})


class _EpochDisplay:
    """Shows each epoch of a run as its workers write it, and draws the learning curve.

    Args:
        inputs: the run.
        started: when the command started, in seconds since the epoch of Unix.
        at_once: how many members of an ensemble train at a time.
    """

    def __init__(self, inputs: TrainInputs, started: float, at_once: int) -> None:
        self._folder = inputs.folder
        self._epochs, self._members = inputs.hyperparameters.epochs, inputs.hyperparameters.members
        self._rank = partial(rank_epoch, keep_by=inputs.hyperparameters.keep_by)
        self._at_once = at_once
        self._folders = list_member_folders(self._folder, self._members)
        positions = [find_newest_position(folder / CHECKPOINTS) for folder in self._folders]
        self._done = [position.epoch for position in positions]
        is_amid_epoch = any(position.step for position in positions)
        self._began = None if is_amid_epoch else started  # its seconds began in an earlier command
        for folder, epochs in zip(self._folders, self._done, strict=True):
            if (folder / METRICS).exists():  # what is trained again is not shown as it was before
                keep_epochs(folder / METRICS, epochs)
        self._cluster = _ClusterMetrics(self._folder) if ray.is_initialized() else None
        self._first_epoch, self._all_epochs = threading.Event(), threading.Event()
        self._unfinished: set[int] = set()

    def show_until_done(self, training: Future[None]) -> None:
        """Show each epoch until the training ends.

        Raises:
            LstmfcnError: the training ended with it.
        """
        training.add_done_callback(self._training_ended)
        with self._showing():
            self._first_epoch.wait()
            # imports matplotlib, while the workers train
            from lstmfcn.training.progress import save_learning_curve

            self._all_epochs.wait()
            if training.done():
                training.result()  # raises the error, if it ended with one
            history = mean_metrics([read_metrics(folder / METRICS) for folder in self._folders])
            best_epoch = min(history, key=self._rank)["epoch"]
            save_learning_curve(history, best_epoch, self._folder / CURVE)
            training.result()

    def _training_ended(self, _: Future[None]) -> None:
        if self._cluster:
            for member in range(self._members):
                self._cluster.set({"running": 0}, member)
        self._first_epoch.set()
        self._all_epochs.set()

    @contextmanager
    def _showing(self) -> Iterator[None]:
        """Follow the metrics of all members inside this block."""
        self._unfinished = {k for k, epochs in enumerate(self._done) if epochs < self._epochs}
        progress = Progress(
            self._epochs * self._members, sum(self._done), self._began, self._at_once
        )
        with progress, ExitStack() as followers:
            for member, folder in enumerate(self._folders):
                show = partial(self._show, progress, member)
                followers.enter_context(tail_metrics(folder / METRICS, show, self._done[member]))
            yield

    def _show(self, progress: Progress, member: int, metrics: EpochMetrics) -> None:
        progress.show(metrics, member if self._members > 1 else None)
        if self._cluster:
            saved = {"checkpoint_time_seconds": _newest_time(self._folders[member] / CHECKPOINTS)}
            self._cluster.set(metrics | saved | {"running": 1}, member)
        self._first_epoch.set()
        if metrics["epoch"] == self._epochs:
            self._unfinished.discard(member)
        if not self._unfinished:
            self._all_epochs.set()


def _newest_time(folder: Path) -> float:
    """When the newest checkpoint was written, in Unix time; 0 if there is none."""
    newest = 0.0
    for checkpoint in folder.glob("epoch-*"):
        with suppress(FileNotFoundError):  # a newer one has replaced it
            newest = max(newest, checkpoint.stat().st_mtime)
    return newest


def _stop(
    inputs: TrainInputs,
    training: Future[None],
    stop: KeyboardInterrupt | SystemExit,
    ray_stays: bool,
) -> NoReturn:
    """Give the workers time to write a checkpoint; as much as they take if Ray stays.

    Raises:
        RunInterruptedError: says after which epoch the run can resume, and how many epochs are
            lost.
    """
    logger.info("stopping after a checkpoint (Ctrl-C again stops at once)")
    request_stop(inputs.folder, inputs.hyperparameters.members)
    seconds = _seconds_to_stop(stop)
    try:
        training.exception(None if ray_stays else seconds)
    except TimeoutError:
        logger.info("the workers did not stop in %g s", seconds)
    members = inputs.hyperparameters.members
    message = f"stopped after {find_run_position(inputs.folder, members)}"
    if lost := sum(map(_epochs_lost, list_member_folders(inputs.folder, members))):
        message += (
            f": no checkpoint could be written; {pluralize(lost, 'epoch')} after it will be "
            "trained again"
        )
    resumable = RunConfig.load(inputs.folder) is not None
    raise RunInterruptedError(message, resumable=resumable) from stop


def _seconds_to_stop(stop: KeyboardInterrupt | SystemExit) -> float:
    """How long the workers may take; a job that gets SIGTERM is killed soon after it."""
    if isinstance(stop, KeyboardInterrupt):
        return _SECONDS_TO_STOP
    setting = os.environ.get("RAY_JOB_STOP_WAIT_TIME_S", "")
    is_number = setting.replace(".", "", 1).isdigit()
    return max(0.0, (float(setting) if is_number else _JOB_SECONDS_TO_STOP) - 0.5)


def _epochs_lost(folder: Path) -> int:
    """How many epochs were shown, but are in no checkpoint."""
    path = folder / METRICS
    history = read_metrics(path) if path.exists() else []
    saved = find_newest_position(folder / CHECKPOINTS).epoch
    return sum(metrics["epoch"] > saved for metrics in history)
