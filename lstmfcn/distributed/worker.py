"""What runs a training in a worker or a task of Ray: the job, and the loop over rows it gets."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import ray
import ray.train
import torch
import torch.distributed
from ray.train.torch import get_device, prepare_model
from torch import Tensor, nn

from lstmfcn.data.dataset import Dataset
from lstmfcn.distributed.load import DatasetInfo, DatasetRefs
from lstmfcn.errors import ResourceError
from lstmfcn.hyperparameters import Hyperparameters, PrecisionName
from lstmfcn.model.artifact import Artifact
from lstmfcn.training.batches import EvaluationLoader, WorkerContext
from lstmfcn.training.calibration import calibrate
from lstmfcn.training.checkpoints import Checkpoints
from lstmfcn.training.collective import Collective
from lstmfcn.training.loop import Report, fit
from lstmfcn.training.metrics_log import EpochMetrics, MetricsWriter
from lstmfcn.training.run_directory import CHECKPOINTS, METRICS, MODEL
from lstmfcn.training.state import TrainState, set_up

_ALLOCATION_FAILURES = ("can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED")


_SECONDS_TO_NOTICE = 60.0
"""Ray takes about 20 to notice that a machine is gone."""


@dataclass(frozen=True)
class WorkerJob:
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
    run: WorkerJob, data: DatasetRefs, workers: Collective, device: torch.device
) -> EpochMetrics | None:
    """Go on from the newest checkpoint, and train; the first worker saves the model, if asked."""
    prepared: DatasetInfo = ray.get(data.prepared)
    rows: Dataset = ray.get(data.training)
    held_out: Dataset | None = ray.get(data.validation)
    hyperparameters = run.hyperparameters
    share = WorkerContext(workers.rank, workers.world_size, device)
    torch.set_num_threads(min(run.threads, os.cpu_count() or 1))  # Ray's CPUs may be imagined
    training, task, batches = set_up(
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
            EvaluationLoader(held_out, share) if held_out else None,
            hyperparameters,
            report,
            checkpoints,
        )
    if workers.rank > 0:
        return None
    if not run.saves_model:
        return training.best
    trained_on = Hardware(workers.world_size, device.type, training.precision)
    artifact = build_artifact(run, prepared, training.best_weights, training.best, trained_on)
    if held_out:
        artifact = calibrate(artifact, held_out, device)
    artifact.save(run.output / MODEL)
    return training.best


class Hardware(NamedTuple):
    """What a model was trained on, as model.json has it."""

    num_workers: int
    device: str
    precision: PrecisionName


def build_artifact(
    run: WorkerJob,
    prepared: DatasetInfo,
    weights: dict[str, Tensor],
    best: EpochMetrics,
    trained_on: Hardware,
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


def _report(path: Path, training: TrainState) -> AbstractContextManager[Report]:
    """What writes the epochs' metrics; nothing, but on the first worker."""
    if training.workers.rank > 0:
        return nullcontext(lambda _: None)
    return MetricsWriter(path, epochs_done=training.position.epoch)


class LostConnectionError(Exception):
    """The other workers cannot be reached, and Ray has not noticed why."""


def train_worker(config: dict[str, Any]) -> EpochMetrics | None:
    """Train; the first worker returns the kept epoch's metrics, of the model that it saves.

    Args:
        config: under ``run`` the reference of a `WorkerJob`, under ``data`` those of the data.
            References, because Ray Train's controller unpacks the config too.

    Raises:
        ResourceError: the worker's memory, or its device's, is too small.
        LostConnectionError: the connection to the other workers broke.
    """
    try:
        with refusing_memory_errors():
            return train_model(
                ray.get(config["run"]), config["data"], TorchCollective(), get_device()
            )
    except RuntimeError as error:
        if isinstance(error, torch.distributed.DistError) or "gloo" in str(error):
            # Some worker is lost, or failed by an error of its own, which is what has to be told:
            # Ray ends this one as soon as it knows
            time.sleep(_SECONDS_TO_NOTICE)
            raise LostConnectionError(str(error).splitlines()[0]) from error
        raise


class TorchCollective:
    """The workers of this Ray Train run, as the training loop sees them."""

    def __init__(self) -> None:
        context = ray.train.get_context()
        self.rank: int = context.get_world_rank()
        self.world_size: int = context.get_world_size()

    def wrap(self, model: nn.Module) -> nn.Module:
        """DDP. Batch-norm statistics stay each worker's own until `average_buffers`."""
        return cast(
            nn.Module,
            prepare_model(model, parallel_strategy_kwargs={"broadcast_buffers": False}),
        )

    def all_reduce(self, totals: Tensor) -> Tensor:
        """The sum over workers, in place."""
        if self.world_size > 1:
            torch.distributed.all_reduce(totals)
        return totals

    def average_buffers(self, model: nn.Module) -> None:
        """Replace running statistics by their mean over workers."""
        if self.world_size == 1:
            return
        for buffer in model.buffers():
            if buffer.is_floating_point():
                torch.distributed.all_reduce(buffer)
                buffer /= self.world_size

    def all_gather(self, numbers: Tensor) -> Tensor:
        """Every worker's numbers (n,), as rows of (W, n)."""
        if self.world_size == 1:
            return numbers.unsqueeze(0)
        rows = [torch.empty_like(numbers) for _ in range(self.world_size)]
        torch.distributed.all_gather(rows, numbers)
        return torch.stack(rows)

    def broadcast(self, wish: bool) -> bool:
        """What the first worker wishes."""
        if self.world_size == 1:
            return wish
        decision = torch.tensor(int(wish), device=get_device())
        torch.distributed.broadcast(decision, src=0)
        return bool(decision)
