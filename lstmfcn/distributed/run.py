"""With Ray up: read the data while the workers start, follow the training, draw the curve."""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import NoReturn, cast

import ray

from lstmfcn.bounds import refuse_small_batches
from lstmfcn.checkpoints import newest_position
from lstmfcn.distributed.background import in_thread
from lstmfcn.distributed.prepare import Prepared, PreparedRefs, Summary, Wanted, start_preparing
from lstmfcn.distributed.runtime import (
    Node,
    may_grow_to,
    most_cpus_each,
    nodes,
    own_error,
    places,
)
from lstmfcn.distributed.storage import refuse_unshared
from lstmfcn.distributed.train import Request, Resources
from lstmfcn.distributed.trainer import Allotment, train_until_done
from lstmfcn.distributed.worker import TrainingRun
from lstmfcn.errors import LstmfcnError, ResourceError, StoppedError
from lstmfcn.metrics_file import EpochMetrics, following, read_metrics
from lstmfcn.progress import Progress
from lstmfcn.run_folder import CHECKPOINTS, CURVE, METRICS, MODEL, ROWS, STOP
from lstmfcn.training_state import deciding_loss

_SHARE_OF_OBJECT_STORE = 0.5
"""Rows in memory lie in the object store of each machine, beside what is being read."""

_SHOWN_CLASSES = 12
_SECONDS_TO_STOP = 2.5
"""Ray gives a job that is stopped 3 seconds (RAY_JOB_STOP_WAIT_TIME_S)."""

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
    allotment = allot(there, request.resources)
    refuse_small_batches(request.inputs.record.hyperparameters.batch_size, allotment.num_workers)
    refuse_unshared(request.folder)
    memory = memory_bytes(there, request.resources)
    data = start_preparing(_wanted(request, allotment, memory))
    _tell_start(request, allotment)
    with tempfile.TemporaryDirectory(prefix="lstmfcn-", ignore_cleanup_errors=True) as storage:
        training_run = _training_run(request, allotment)
        training = in_thread(lambda: train_until_done(training_run, data, allotment, storage))
        try:
            prepared = resolved(data)
            tell_data(prepared, memory, request.folder)
            best = _follow(request, training)
        except (KeyboardInterrupt, SystemExit) as stop:
            _stop(request, training, stop)
        except LstmfcnError:
            if ray_stays:  # the workers get the same error from the data; leave none behind
                training.exception()
            raise
    logger.info("model: %s", request.folder / MODEL)
    return best


def _wanted(request: Request, allotment: Allotment, memory_bytes: int) -> Wanted:
    return Wanted(
        record=request.inputs.record,
        training=request.inputs.training,
        validation=request.inputs.validation,
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
    )


def _follow(request: Request, training: Future[EpochMetrics]) -> EpochMetrics:
    """Show each epoch; after the last one draw the curve, while the workers save the model."""
    path = request.folder / METRICS
    done = newest_position(request.folder / CHECKPOINTS).epoch
    progress = Progress(request.inputs.record.hyperparameters.epochs, done, request.began)
    begun, ended = threading.Event(), threading.Event()
    training.add_done_callback(lambda _: begun.set())
    training.add_done_callback(lambda _: ended.set())

    def show(metrics: EpochMetrics) -> None:
        progress.show(metrics)
        begun.set()
        if metrics["epoch"] == request.inputs.record.hyperparameters.epochs:
            ended.set()

    with progress, following(path, show, done):
        begun.wait()
        from lstmfcn.curves import save_learning_curve  # imports matplotlib, while workers train

        ended.wait()
        if training.done():
            training.result()  # raises what it ended with
        history = read_metrics(path)
        kept = min(history, key=deciding_loss)["epoch"]
        save_learning_curve(history, kept, request.folder / CURVE)
        best = training.result()
    progress.summary(best)
    return best


def _stop(
    request: Request, training: Future[EpochMetrics], stop: KeyboardInterrupt | SystemExit
) -> NoReturn:
    """Give the workers a moment to write a checkpoint.

    Raises:
        StoppedError: tells where the training can go on.
    """
    (request.folder / STOP).touch()
    try:
        training.exception(_SECONDS_TO_STOP)
    except TimeoutError:
        logger.info("the workers did not stop in %g s", _SECONDS_TO_STOP)
    position = newest_position(request.folder / CHECKPOINTS)
    raise StoppedError(f"stopped after {position}; go on with --resume") from stop


def resolved(data: PreparedRefs) -> Prepared:
    """What is known of the data, once all of it has been read and checked.

    Raises:
        UserError: the data does not allow the training.
    """
    try:
        return cast(Prepared, ray.get(data.prepared))
    except ray.exceptions.RayError as error:
        raise own_error(error) or error from None


def allot(there: list[Node], wanted: Resources) -> Allotment:
    """Settle what was left open, and refuse what the cluster does not have.

    A worker takes a GPU where there are any, and by default all CPUs of a machine: on two, one
    worker of two threads trained 0.98 to 2.5 times as fast as two workers of one, and 1.3 to 1.6
    times as fast as one of one but for tiny nets on tiny sets (benchmarks/train.py, workers).
    """
    use_gpu = any(node.gpus for node in there) if wanted.use_gpu is None else wanted.use_gpu
    gpus, num_workers = int(use_gpu), wanted.num_workers
    each = wanted.cpus_per_worker or most_cpus_each(there, num_workers, gpus)
    fewest = num_workers if wanted.min_workers is None else wanted.min_workers
    if fewest > num_workers:
        raise ResourceError(f"--min-workers {fewest} is more than --num-workers {num_workers}")
    if places(there, each, gpus) >= num_workers:
        return Allotment(num_workers, fewest, each, use_gpu)
    if not may_grow_to(each * num_workers, gpus * num_workers):
        machines = ", ".join(f"{node.cpus} CPUs and {node.gpus} GPUs" for node in there)
        raise ResourceError(
            f"{num_workers} workers of {each} CPUs{' and a GPU' if use_gpu else ''} do not fit "
            f"the cluster's machines ({machines}); lower --num-workers or --cpus-per-worker"
            + (", or add --no-use-gpu" if use_gpu else "")
        )
    logger.info("the machines that are up do not hold %d workers; asking for more", num_workers)
    return Allotment(num_workers, fewest, each, use_gpu)


def memory_bytes(there: list[Node], wanted: Resources) -> int:
    """The most that all rows may take in memory: by default half of the least object store."""
    if wanted.memory_gb is not None:
        return int(wanted.memory_gb * 1e9)
    return int(_SHARE_OF_OBJECT_STORE * min(node.object_store_bytes for node in there))


def _tell_start(request: Request, allotment: Allotment) -> None:
    logger.info(
        "reading %d shards, starting %d worker%s of %d CPU%s%s",
        len(request.inputs.training.shards),
        allotment.num_workers,
        "s" if allotment.num_workers > 1 else "",
        allotment.cpus_per_worker,
        "s" if allotment.cpus_per_worker > 1 else "",
        " and a GPU" if allotment.use_gpu else "",
    )


def _tell(purpose: str, data: Summary) -> None:
    shown = [f"{name} {count}" for name, count in data.classes.items()]
    logger.info(
        "%s: %d rows of %d timepoints from %d shard%s (%s)",
        purpose,
        data.rows,
        data.n_timepoints,
        data.shards,
        "s" if data.shards > 1 else "",
        ", ".join(shown[:_SHOWN_CLASSES]) + (", ..." if len(shown) > _SHOWN_CLASSES else ""),
    )


def tell_data(prepared: Prepared, granted_bytes: int, folder: Path) -> None:
    """Rows and classes, whether rows are in memory or streamed, and why."""
    purposes = {"training": prepared.training}
    if prepared.validation:
        purposes["validation"] = prepared.validation
    for purpose, data in purposes.items():
        _tell(purpose, data)
    kept = sum(data.value_bytes for data in purposes.values() if not data.streamed)
    if kept:
        logger.info(
            "%.3g GB of rows kept in memory, of %.3g GB granted", kept / 1e9, granted_bytes / 1e9
        )
    for purpose, data in purposes.items():
        if data.streamed:
            logger.info(
                "%s rows take %.3g GB, more than the %.3g GB granted: packed in %s and streamed, "
                "shuffled in windows",
                purpose,
                data.value_bytes / 1e9,
                granted_bytes / 1e9,
                folder / ROWS,
            )
