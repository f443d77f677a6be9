"""One training, wherever it runs: what it is to do, and the loop over rows out of Ray's store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import ray
import torch
from torch import Tensor

from lstmfcn.artifact import Artifact
from lstmfcn.batches import EvaluationBatches, Share
from lstmfcn.calibration import calibrated
from lstmfcn.checkpoints import Checkpoints
from lstmfcn.distributed.prepare import Prepared, PreparedRefs
from lstmfcn.errors import ResourceError
from lstmfcn.hyperparameters import Hyperparameters, PrecisionName
from lstmfcn.metrics_file import EpochMetrics, MetricsWriter
from lstmfcn.rows import Rows
from lstmfcn.run_folder import CHECKPOINTS, METRICS, MODEL
from lstmfcn.training import Report, fit
from lstmfcn.training_start import start_of
from lstmfcn.training_state import Training
from lstmfcn.workers import Workers

_ALLOCATION_FAILURES = ("can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED")


@dataclass(frozen=True)
class TrainingRun:
    """All that a worker needs beside the data.

    Attributes:
        initial_weights: of the model that training continues from.
        record: how the model comes to be, for model.json.
        threads: of each worker.
        checkpoint_every_s: seconds between checkpoints.
        stop_file: training is to stop once it is there.
        saves_model: whether the first worker saves the model at the end; of a trial, whoever
            follows its checkpoints does.
    """

    hyperparameters: Hyperparameters
    initial_weights: dict[str, Tensor] | None
    record: dict[str, Any]
    output: Path
    threads: int
    checkpoint_every_s: float
    stop_file: Path
    saves_model: bool = True


def train_model(
    run: TrainingRun, data: PreparedRefs, workers: Workers, device: torch.device
) -> EpochMetrics | None:
    """Go on from the newest checkpoint, and train; the first worker saves the model, if asked."""
    prepared: Prepared = ray.get(data.prepared)
    rows: Rows = ray.get(data.training)
    held_out: Rows | None = ray.get(data.validation)
    hyperparameters = run.hyperparameters
    share = Share(workers.rank, workers.world_size, device)
    torch.set_num_threads(min(run.threads, os.cpu_count() or 1))  # Ray's CPUs may be imagined
    training, task, batches = start_of(
        rows, prepared.schema, hyperparameters, run.initial_weights, workers, share
    )
    checkpoints = Checkpoints(
        run.output / CHECKPOINTS,
        run.checkpoint_every_s,
        sync_first=run.output / METRICS,
        stop_file=run.stop_file,
    )
    training.restore_newest(checkpoints)
    with _report(run.output / METRICS, training) as report:
        fit(
            training,
            task,
            batches,
            EvaluationBatches(held_out, share) if held_out else None,
            hyperparameters,
            report,
            checkpoints,
        )
    if workers.rank > 0:
        return None
    if not run.saves_model:
        return training.best
    trained_on = TrainedOn(workers.world_size, device.type, training.precision)
    artifact = artifact_of(run, prepared, training.best_weights, training.best, trained_on)
    if held_out:
        artifact = calibrated(artifact, held_out, device)
    artifact.save(run.output / MODEL)
    return training.best


class TrainedOn(NamedTuple):
    """What a model was trained on, as model.json has it."""

    num_workers: int
    device: str
    precision: PrecisionName


def artifact_of(
    run: TrainingRun,
    prepared: Prepared,
    weights: dict[str, Tensor],
    best: EpochMetrics,
    trained_on: TrainedOn,
) -> Artifact:
    """The kept epoch's model, and how it came to be."""
    return Artifact(
        hyperparameters=run.hyperparameters,
        schema=prepared.schema,
        scaler=prepared.scaler,
        weights=weights,
        metrics=best,
        training={
            **run.record,
            "train_rows": prepared.training.rows,
            "train_sha256": prepared.train_sha256,
            "validation_rows": prepared.validation.rows if prepared.validation else 0,
            **trained_on._asdict(),
        },
    )


@contextmanager
def refusing_memory_errors() -> Iterator[None]:
    """Tell PyTorch's failures to allocate from its other errors.

    Raises:
        ResourceError: memory, or the device's, is too small.
    """
    try:
        yield
    except RuntimeError as error:
        if not any(sign in str(error) for sign in _ALLOCATION_FAILURES):
            raise
        raise ResourceError(
            f"out of memory in a worker ({str(error).splitlines()[0][:200]}); "
            "lower --batch-size or the net's sizes"
        ) from error


def _report(path: Path, training: Training) -> AbstractContextManager[Report]:
    """What writes the epochs' metrics; nothing, but on the first worker."""
    if training.workers.rank > 0:
        return nullcontext(lambda _: None)
    return MetricsWriter(path, epochs_done=training.position.epoch)
