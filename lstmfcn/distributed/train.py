"""Train one model on Ray Train's TorchTrainer: check everything first, then train, then save.

The driver reads and checks the data, and follows ``metrics.jsonl``, to which the first worker
writes a line an epoch. Workers run `lstmfcn.training.fit` over rows in shared memory.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import ray
import ray.train
from ray.train.torch import TorchConfig, TorchTrainer

from lstmfcn.artifact import Artifact
from lstmfcn.batches import Rows, batch_bounds
from lstmfcn.curves import save_learning_curve
from lstmfcn.distributed.data import LoadedData, load
from lstmfcn.distributed.runtime import most_cpus_each, nodes, own_error, places, ray_runtime
from lstmfcn.distributed.worker import METRICS_FILE, MODEL_FOLDER, TrainingRun, train_worker
from lstmfcn.errors import DataError, OutputError, ResourceError
from lstmfcn.hyperparameters import Hyperparameters, resume_with
from lstmfcn.metrics_file import following, read_metrics
from lstmfcn.progress import Progress
from lstmfcn.reading import ShardSet, survey
from lstmfcn.scaling import Scaler
from lstmfcn.training import EpochMetrics

CURVE_FILE = "learning_curve.png"
_TRAINER_FOLDER = ".ray_train"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Allotment:
    """What of the cluster a training takes."""

    num_workers: int
    cpus_per_worker: int
    use_gpu: bool


def train(
    train: str,
    output: str,
    *,
    validation: str | None = None,
    model: str | None = None,
    hyperparameters: Hyperparameters = Hyperparameters(),
    num_workers: int = 1,
    cpus_per_worker: int | None = None,
    use_gpu: bool = False,
) -> EpochMetrics:
    """Train on shards and write ``OUTPUT/model``, ``metrics.jsonl`` and ``learning_curve.png``.

    Args:
        train: training shards: a file, folder, glob or URI.
        output: a folder that holds no run yet, on storage that all workers share.
        validation: validation shards; decides which epoch is kept, where given.
        model: a model directory to continue from.
        hyperparameters: of the net and the training; see `Hyperparameters`.
        num_workers: workers that share every batch.
        cpus_per_worker: CPUs, and so threads, of each; by default an equal share of the cluster's.
        use_gpu: give each worker a GPU.

    Returns:
        The kept epoch's metrics.

    Raises:
        UserError: data, output, model or cluster do not allow it; nothing has been written then.
        TrainingError: the loss became infinite or nan.
    """
    folder = Path(output).absolute()
    _refuse_used_output(folder)
    start = Artifact.load(model) if model else None
    if start:
        hyperparameters = resume_with(start.hyperparameters, hyperparameters, logger.info)
    training = survey(train, hyperparameters.task, start.schema if start else None)
    held_out = survey(validation, schema=training.schema) if validation else None
    _tell_ignored(training)
    with ray_runtime():
        allotment = _allot(num_workers, cpus_per_worker, use_gpu)
        run = _prepare(training, held_out, start, hyperparameters, folder, allotment)
        _create_output(folder)
        metrics = _run(run, allotment, folder)
    logger.info("model: %s", folder / MODEL_FOLDER)
    return metrics


def _prepare(
    training: ShardSet,
    validation: ShardSet | None,
    start: Artifact | None,
    hyperparameters: Hyperparameters,
    folder: Path,
    allotment: Allotment,
) -> TrainingRun:
    """Read and check all data, fit the scaler, and put the scaled rows where workers find them."""
    data = load(training)
    data.schema.refuse_absent_classes(data.rows.labels, training.data)
    _tell("training", data)
    held_out = load(validation._replace(schema=data.schema)) if validation else None
    if held_out:
        _tell("validation", held_out)
    fewest = 2 * allotment.num_workers
    batch_bounds(len(data.rows), hyperparameters.batch_size, fewest)
    if len(data.rows) < fewest:
        raise DataError(
            f"{len(data.rows)} rows for {allotment.num_workers} workers",
            "give each worker at least two rows",
            file=training.data,
        )
    scaler = start.scaler if start else Scaler.fit(hyperparameters.scaling, data.rows.values)
    return TrainingRun(
        hyperparameters=hyperparameters,
        schema=data.schema,
        scaler=scaler,
        training=_shared(data.rows, scaler),
        validation=_shared(held_out.rows, scaler) if held_out else None,
        initial_weights=ray.put(start.weights) if start else None,
        record=_record(data, held_out, start, allotment),
        output=str(folder),
        threads=allotment.cpus_per_worker,
    )


def _run(run: TrainingRun, allotment: Allotment, folder: Path) -> EpochMetrics:
    """Run the workers, with progress on the terminal, and draw the curve at the end."""
    logger.info(
        "starting %d worker%s, %d CPUs%s",
        allotment.num_workers,
        "s" if allotment.num_workers > 1 else "",
        allotment.cpus_per_worker,
        " and a GPU each" if allotment.use_gpu else "",
    )
    resources = {"CPU": allotment.cpus_per_worker, "GPU": int(allotment.use_gpu)}
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"run": ray.put(run)},
        scaling_config=ray.train.ScalingConfig(
            num_workers=allotment.num_workers,
            use_gpu=allotment.use_gpu,
            resources_per_worker=resources,
        ),
        run_config=ray.train.RunConfig(storage_path=str(folder), name=_TRAINER_FOLDER),
        torch_config=TorchConfig(timeout_s=300),
    )
    path = folder / METRICS_FILE
    progress = Progress(run.hyperparameters.epochs)
    try:
        with progress, following(path, progress.show):
            best = cast(EpochMetrics, trainer.fit().return_value)
    except ray.train.TrainingFailedError as error:
        raise own_error(error) or error from None
    finally:
        shutil.rmtree(folder / _TRAINER_FOLDER, ignore_errors=True)
    progress.summary(best)
    save_learning_curve(read_metrics(path), best["epoch"], folder / CURVE_FILE)
    return best


def _shared(rows: Rows, scaler: Scaler) -> Any:
    """A reference to the scaled rows in the object store."""
    return ray.put((scaler.transform(rows.values), rows.labels))


def _tell_ignored(shard_set: ShardSet) -> None:
    if ignored := shard_set.ignored_columns():
        logger.info("columns not used: %s", ", ".join(ignored))


def _tell(purpose: str, data: LoadedData) -> None:
    counts = data.schema.class_counts(data.rows.labels)
    shown = [f"{name} {count}" for name, count in counts.items()]
    logger.info(
        "%s: %d rows of %d timepoints from %d shard%s (%s)",
        purpose,
        len(data.rows),
        data.schema.n_timepoints,
        data.n_shards,
        "s" if data.n_shards > 1 else "",
        ", ".join(shown[:12]) + (", ..." if len(shown) > 12 else ""),
    )


def _record(
    data: LoadedData, held_out: LoadedData | None, start: Artifact | None, allotment: Allotment
) -> dict[str, Any]:
    """How the model comes to be, for model.json."""
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "train_rows": len(data.rows),
        "train_sha256": data.fingerprint(),
        "validation_rows": len(held_out.rows) if held_out else 0,
        "continued_from": start.training.get("train_sha256") if start else None,
        **asdict(allotment),
    }


def _allot(num_workers: int, cpus_per_worker: int | None, use_gpu: bool) -> Allotment:
    """Settle CPUs for each worker and refuse what the cluster does not have."""
    there, gpus = nodes(), int(use_gpu)
    each = cpus_per_worker or most_cpus_each(there, num_workers, gpus)
    if places(there, each, gpus) < num_workers:
        machines = ", ".join(f"{node.cpus} CPUs and {node.gpus} GPUs" for node in there)
        raise ResourceError(
            f"{num_workers} workers of {each} CPUs{' and a GPU' if use_gpu else ''} do not fit "
            f"the cluster's machines ({machines}); lower --num-workers or --cpus-per-worker"
            + (", or leave out --use-gpu" if use_gpu else "")
        )
    return Allotment(num_workers, each, use_gpu)


def _refuse_used_output(folder: Path) -> None:
    for name in (MODEL_FOLDER, METRICS_FILE):
        if (folder / name).exists():
            raise OutputError(
                f"{folder}: found {name} of an earlier run; name another --output or remove it"
            )


def _create_output(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror})") from error
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{folder}: cannot be written to; name another --output")
