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

from lstmfcn.artifact import Artifact
from lstmfcn.calibration import told
from lstmfcn.checkpoints import newest_position
from lstmfcn.counts import number
from lstmfcn.distributed.allotment import Allotment, allot, members_at_once, memory_bytes
from lstmfcn.distributed.background import in_thread
from lstmfcn.distributed.members import train_members
from lstmfcn.distributed.prepare import PreparedRefs, Wanted, resolved, start_preparing
from lstmfcn.distributed.runtime import nodes
from lstmfcn.distributed.storage import refuse_unshared
from lstmfcn.distributed.telling import tell_data
from lstmfcn.distributed.train import Request
from lstmfcn.distributed.trainer import train_until_done
from lstmfcn.distributed.training_run import TrainingRun
from lstmfcn.errors import LstmfcnError, StoppedError
from lstmfcn.metrics_file import EpochMetrics, following, mean_metrics, read_metrics
from lstmfcn.progress import Progress
from lstmfcn.run_folder import (
    CHECKPOINTS,
    CURVE,
    METRICS,
    MODEL,
    STOP,
    RunRecord,
    member_folders,
    run_position,
)
from lstmfcn.scratch import scratch_folder
from lstmfcn.training_state import deciding_loss

_SECONDS_TO_STOP = 30.0
"""After Ctrl-C, for a busy machine or a slow disk; a second one ends the command at once."""
_SECONDS_OF_A_JOB = 3.0
"""What Ray gives a job that is stopped, unless RAY_JOB_STOP_WAIT_TIME_S says otherwise."""

logger = logging.getLogger(__name__)


def run(request: Request, ray_stays: bool) -> EpochMetrics:
    """Train as requested.

    Args:
        ray_stays: whether workers that still run at the end would stay too.

    Raises:
        UserError: data, output or cluster do not allow it.
        TrainingError: the loss became infinite or nan.
        StoppedError: the user stopped it.
    """
    there = nodes()
    members = request.inputs.record.hyperparameters.members
    allotment = allot(there, request.resources, members)
    at_once = members_at_once(there, allotment, members)
    refuse_unshared(request.folder)
    memory = memory_bytes(there, request.resources)
    data = start_preparing(_wanted(request, allotment, memory))
    _tell_start(request, allotment)
    with scratch_folder() as storage:
        training_run = _training_run(request, allotment)
        training = in_thread(lambda: _train(training_run, data, allotment, storage))
        try:
            prepared = resolved(data)
            tell_data(prepared, memory, request.folder)
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
    if request.inputs.record.hyperparameters.fits_decision:
        for line in told(Artifact.load(request.folder / MODEL)):
            logger.info(line)
    return best


def _train(
    run: TrainingRun, data: PreparedRefs, allotment: Allotment, storage: Path
) -> EpochMetrics:
    if run.hyperparameters.members > 1:
        return train_members(run, data, allotment)
    return train_until_done(run, data, allotment, storage)


def _wanted(request: Request, allotment: Allotment, memory_bytes: int) -> Wanted:
    return Wanted(
        record=request.inputs.record,
        training=request.inputs.training,
        validation=request.inputs.validation,
        scaling=request.inputs.record.hyperparameters.scaling,
        scaler=request.inputs.start.scaler if request.inputs.start else None,
        num_workers=allotment.num_workers,
        memory_bytes=memory_bytes,
        folder=request.folder,
    )


def _training_run(request: Request, allotment: Allotment) -> TrainingRun:
    start = request.inputs.start
    return TrainingRun(
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


def _follow(request: Request, training: Future[EpochMetrics], at_once: int) -> EpochMetrics:
    """Show each epoch; after the last one draw the curve, while the workers save the model.

    Args:
        at_once: members of an ensemble that are trained at a time.
    """
    hyperparameters = request.inputs.record.hyperparameters
    epochs, members = hyperparameters.epochs, hyperparameters.members
    folders = member_folders(request.folder, members)
    done = [newest_position(folder / CHECKPOINTS).epoch for folder in folders]
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
            followed.enter_context(following(folder / METRICS, shower, done[member]))
        begun.wait()
        from lstmfcn.curves import save_learning_curve  # imports matplotlib, while workers train

        ended.wait()
        if training.done():
            training.result()  # raises what it ended with
        history = mean_metrics([read_metrics(folder / METRICS) for folder in folders])
        kept = min(history, key=deciding_loss)["epoch"]
        save_learning_curve(history, kept, request.folder / CURVE)
        return training.result()


def _stop(
    request: Request,
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
    told = f"stopped after {run_position(request.folder, members)}"
    if lost := sum(map(_epochs_lost, member_folders(request.folder, members))):
        told += f": no checkpoint could be written; {number(lost, 'epoch')} after it will be "
        told += "trained again"
    began = RunRecord.load(request.folder) is not None
    raise StoppedError(told, goes_on=began) from stop


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
    done = newest_position(folder / CHECKPOINTS).epoch
    return sum(metrics["epoch"] > done for metrics in history)


def _tell_start(request: Request, allotment: Allotment) -> None:
    members = request.inputs.record.hyperparameters.members
    trained = (members, "member") if members > 1 else (allotment.num_workers, "worker")
    logger.info(
        "reading %s, starting %s of %s%s",
        number(len(request.inputs.training.shards), "shard"),
        number(*trained),
        number(allotment.cpus_per_worker, "CPU"),
        " and a GPU" if allotment.use_gpu else "",
    )
