"""What each Ray Train worker runs: fetch the rows, train, and, on the first worker, save."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import ray
import ray.train
import torch
import torch.distributed
from ray.train.torch import get_device, prepare_model
from torch import Tensor, nn

from lstmfcn.artifact import Artifact
from lstmfcn.batches import MemoryBatches, Rows, Share, evaluation_batches
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.metrics_file import MetricsWriter
from lstmfcn.model import LSTMFCN
from lstmfcn.scaling import Scaler
from lstmfcn.schema import SeriesSchema
from lstmfcn.task import task_of
from lstmfcn.training import EpochMetrics, choose_precision, fit

MODEL_FOLDER, METRICS_FILE = "model", "metrics.jsonl"


@dataclass(frozen=True)
class TrainingRun:
    """All that a worker needs; rows are references into the object store."""

    hyperparameters: Hyperparameters
    schema: SeriesSchema
    scaler: Scaler
    training: Any
    validation: Any
    initial_weights: Any
    record: dict[str, Any]
    output: str
    threads: int


def train_worker(config: dict[str, Any]) -> EpochMetrics | None:
    """Train; the first worker saves the model and returns the kept epoch's metrics.

    Args:
        config: under ``run`` the reference of a `TrainingRun`. A reference, because Ray Train's
            controller unpacks the config too, and would import PyTorch for it.
    """
    run: TrainingRun = ray.get(config["run"])
    hyperparameters = run.hyperparameters
    workers = RayWorkers()
    device = get_device()
    torch.set_num_threads(run.threads)
    torch.manual_seed(hyperparameters.seed)
    task = task_of(run.schema)
    network = LSTMFCN(hyperparameters, run.schema.n_timepoints, task.n_outputs)
    if run.initial_weights is not None:
        network.load_state_dict(ray.get(run.initial_weights))
    torch.manual_seed(hyperparameters.seed + workers.rank)
    share = Share(workers.rank, workers.world_size, device)
    batches = MemoryBatches(
        _fetched(run.training), hyperparameters.batch_size, hyperparameters.seed, share
    )
    held_out = evaluation_batches(_fetched(run.validation), share) if run.validation else None
    with MetricsWriter(Path(run.output) / METRICS_FILE, enabled=workers.rank == 0) as report:
        trained = fit(network.to(device), task, batches, held_out, hyperparameters, report, workers)
    if workers.rank > 0:
        return None
    precision = choose_precision(hyperparameters.precision, device)
    Artifact(
        hyperparameters=hyperparameters,
        schema=run.schema,
        scaler=run.scaler,
        weights=trained.best_weights,
        metrics=trained.best,
        training=run.record | {"device": device.type, "precision": precision},
    ).save(Path(run.output) / MODEL_FOLDER)
    return trained.best


class RayWorkers:
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

    def add_up(self, totals: Tensor) -> Tensor:
        """The sum over workers."""
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


def _fetched(reference: Any) -> Rows:
    return Rows(*ray.get(reference))
