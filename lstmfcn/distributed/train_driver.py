"""With Ray up: read the data while the workers start, follow the training, draw the curve."""

from __future__ import annotations

import logging
import os
import threading
import time
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NoReturn

from lstmfcn.console import pluralize
from lstmfcn.distributed.cluster import nodes, require_shared_storage
from lstmfcn.distributed.ensemble import train_members
from lstmfcn.distributed.load import DatasetRefs, LoadRequest, log_dataset, start_loading, wait_for
from lstmfcn.distributed.ray_trainer import train_until_done
from lstmfcn.distributed.requests import (
    CheckedTraining,
    WorkerResources,
    members_at_once,
    memory_bytes,
    resolve_resources,
)
from lstmfcn.distributed.worker import WorkerJob
from lstmfcn.errors import LstmfcnError, RunInterruptedError
from lstmfcn.model.artifact import Artifact
from lstmfcn.signals import in_thread
from lstmfcn.storage.scratch import scratch_folder
from lstmfcn.training.calibration import calibration_summary
from lstmfcn.training.checkpoints import find_newest_position
from lstmfcn.training.metrics_log import EpochMetrics, mean_metrics, read_metrics, tail_metrics
from lstmfcn.training.progress import Progress
from lstmfcn.training.run_directory import (
    CHECKPOINTS,
    CURVE,
    METRICS,
    MODEL,
    STOP,
    RunConfig,
    find_run_position,
    list_member_folders,
)
from lstmfcn.training.state import selection_loss

_SECONDS_TO_STOP = 30.0
"""After Ctrl-C, for a busy machine or a slow disk; a second one ends the command at once."""
_SECONDS_OF_A_JOB = 3.0
"""What Ray gives a job that is stopped, unless RAY_JOB_STOP_WAIT_TIME_S says otherwise."""

logger = logging.getLogger(__name__)


def run(request: CheckedTraining, ray_stays: bool) -> EpochMetrics:
    """Train as requested.

    Args:
        ray_stays: whether workers that still run at the end would stay too.

    Raises:
        UserError: data, output or cluster do not allow it.
        TrainingError: the loss became infinite or nan.
        StoppedError: the user stopped it.
    """
    machines = nodes()
    members = request.inputs.record.hyperparameters.members
    allotment = resolve_resources(machines, request.resources, members)
    at_once = members_at_once(machines, allotment, members)
    require_shared_storage(request.folder)
    memory = memory_bytes(machines, request.resources)
    data = start_loading(_load_request(request, allotment, memory))
    _log_start(request, allotment)
    with scratch_folder() as storage:
        training_run = _worker_job(request, allotment)
        training = in_thread(lambda: _train(training_run, data, allotment, storage))
        try:
            prepared = wait_for(data)
            log_dataset(prepared, memory, request.folder)
            best = _follow(request, training, at_once)
        except (KeyboardInterrupt, SystemExit) as stop:
            _stop(request, training, stop, ray_stays)
        except LstmfcnError:
            if ray_stays:  # the workers get the same error from the data; leave none behind
                training.exception()
            raise
        finally:
            if not ray_stays:
                training.abandon()
    if request.inputs.record.hyperparameters.has_post_training:
        for line in calibration_summary(Artifact.load(request.folder / MODEL)):
            logger.info(line)
    return best


def _train(
    run: WorkerJob, data: DatasetRefs, allotment: WorkerResources, storage: Path
) -> EpochMetrics:
    if run.hyperparameters.members > 1:
        return train_members(run, data, allotment)
    return train_until_done(run, data, allotment, storage)


def _load_request(
    request: CheckedTraining, allotment: WorkerResources, memory_bytes: int
) -> LoadRequest:
    return LoadRequest(
        record=request.inputs.record,
        training=request.inputs.training,
        validation=request.inputs.validation,
        scaling=request.inputs.record.hyperparameters.scaling,
        scaler=request.inputs.start.scaler if request.inputs.start else None,
        num_workers=allotment.num_workers,
        memory_bytes=memory_bytes,
        folder=request.folder,
    )


def _worker_job(request: CheckedTraining, allotment: WorkerResources) -> WorkerJob:
    start = request.inputs.start
    return WorkerJob(
        hyperparameters=request.inputs.record.hyperparameters,
        initial_weights=start.weights if start else None,
        record={
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(request.began)),
            "continued_from": start.training.get("train_sha256") if start else None,
            "cpus_per_worker": allotment.cpus_per_worker,
        },
        output=request.folder,
        threads=allotment.cpus_per_worker,
        checkpoint_every_s=request.checkpoint_every_s,
        stop_file=request.folder / STOP,
    )


def _follow(request: CheckedTraining, training: Future[EpochMetrics], at_once: int) -> EpochMetrics:
    """Show each epoch; after the last one draw the curve, while the workers save the model.

    Args:
        at_once: members of an ensemble that are trained at a time.
    """
    hyperparameters = request.inputs.record.hyperparameters
    epochs, members = hyperparameters.epochs, hyperparameters.members
    folders = list_member_folders(request.folder, members)
    done = [find_newest_position(folder / CHECKPOINTS).epoch for folder in folders]
    progress = Progress(epochs * members, sum(done), request.began, at_once)
    begun, ended = threading.Event(), threading.Event()
    training.add_done_callback(lambda _: begun.set())
    training.add_done_callback(lambda _: ended.set())
    running = {member for member in range(members) if done[member] < epochs}

    def show(member: int, metrics: EpochMetrics) -> None:
        progress.show(metrics, member if members > 1 else None)
        begun.set()
        if metrics["epoch"] == epochs:
            running.discard(member)
        if not running:
            ended.set()

    with progress, ExitStack() as followed:
        for member, folder in enumerate(folders):
            shower = partial(show, member)
            followed.enter_context(tail_metrics(folder / METRICS, shower, done[member]))
        begun.wait()
        from lstmfcn.training.progress import (
            save_learning_curve,  # imports matplotlib, while workers train
        )

        ended.wait()
        if training.done():
            training.result()  # raises what it ended with
        history = mean_metrics([read_metrics(folder / METRICS) for folder in folders])
        kept = min(history, key=selection_loss)["epoch"]
        save_learning_curve(history, kept, request.folder / CURVE)
        return training.result()


def _stop(
    request: CheckedTraining,
    training: Future[EpochMetrics],
    stop: KeyboardInterrupt | SystemExit,
    ray_stays: bool,
) -> NoReturn:
    """Give the workers time to write a checkpoint; all the time they take, where Ray stays.

    Raises:
        StoppedError: tells where the training can go on, and how many epochs are lost.
    """
    logger.info("stopping, with a checkpoint (Ctrl-C again ends it at once)")
    (request.folder / STOP).touch()
    seconds = _seconds_to_stop(stop)
    try:
        training.exception(None if ray_stays else seconds)
    except TimeoutError:
        logger.info("the workers did not stop in %g s", seconds)
    members = request.inputs.record.hyperparameters.members
    told = f"stopped after {find_run_position(request.folder, members)}"
    if lost := sum(map(_epochs_lost, list_member_folders(request.folder, members))):
        told += f": no checkpoint could be written; {pluralize(lost, 'epoch')} after it will be "
        told += "trained again"
    began = RunConfig.load(request.folder) is not None
    raise RunInterruptedError(told, resumable=began) from stop


def _seconds_to_stop(stop: KeyboardInterrupt | SystemExit) -> float:
    """How long the workers may take: a job that is stopped, by SIGTERM, is killed soon."""
    if isinstance(stop, KeyboardInterrupt):
        return _SECONDS_TO_STOP
    granted = os.environ.get("RAY_JOB_STOP_WAIT_TIME_S", "")
    seconds = float(granted) if granted.replace(".", "", 1).isdigit() else _SECONDS_OF_A_JOB
    return max(0.0, seconds - 0.5)


def _epochs_lost(folder: Path) -> int:
    """Epochs that were reported, and that no checkpoint has."""
    path = folder / METRICS
    history = read_metrics(path) if path.exists() else []
    done = find_newest_position(folder / CHECKPOINTS).epoch
    return sum(metrics["epoch"] > done for metrics in history)


def _log_start(request: CheckedTraining, allotment: WorkerResources) -> None:
    members = request.inputs.record.hyperparameters.members
    trained = (members, "member") if members > 1 else (allotment.num_workers, "worker")
    logger.info(
        "reading %s, starting %s of %s%s",
        pluralize(len(request.inputs.training.shards), "shard"),
        pluralize(*trained),
        pluralize(allotment.cpus_per_worker, "CPU"),
        " and a GPU" if allotment.use_gpu else "",
    )
