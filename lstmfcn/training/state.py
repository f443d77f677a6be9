"""Set up a training: the network, the optimiser and everything else that a checkpoint restores."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lstmfcn.data.batch_plan import batch_size_for
from lstmfcn.data.dataset import Dataset
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.hyperparameters import Hyperparameters, KeepByName, PrecisionName
from lstmfcn.model.network import LSTMFCN
from lstmfcn.model.task import Task, compute_class_weights, make_task
from lstmfcn.training.batches import BatchLoader, RowsTaken, WorkerContext, make_loader
from lstmfcn.training.checkpoints import Position, State
from lstmfcn.training.collective import Collective, SingleProcess
from lstmfcn.training.keeper import Checkpoints
from lstmfcn.training.metrics_log import EpochMetrics
from lstmfcn.training.optim import Adam

logger = logging.getLogger(__name__)


class TrainState:
    """Everything that changes while a model is trained; saves and restores checkpoints of it.

    Args:
        model: the network, already on its device.
        workers: the workers that train the model together; by default this process alone.
        keep_by: what the best epoch is chosen by.

    Attributes:
        position: finished epochs, and finished steps of the current epoch.
        taken: rows of the current epoch that these steps have used.
        sums: this worker's sums over these steps: loss, correct, exact, rows; float64 (4,).
        seconds: time spent on these steps.
        losses: train_loss of every finished epoch.
        best: metrics of the best epoch so far; empty before the first epoch ends.
        best_weights: weights of the best epoch, on the CPU.
        precision: number format of the training; `lstmfcn.training.loop.fit` sets it.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        workers: Collective | None = None,
        weight_decay: float = 0.0,
        keep_by: KeepByName = "loss",
    ) -> None:
        self.model, self.workers = model, workers or SingleProcess()
        self.optimizer = Adam(model.parameters(), lr, weight_decay)
        self.device = next(model.parameters()).device
        self.position, self.taken = Position(), RowsTaken()
        self.sums = torch.zeros(4, dtype=torch.float64, device=self.device)
        self.seconds = 0.0
        self.losses: list[float] = []
        self.best: EpochMetrics = {}
        self.best_weights: dict[str, Tensor] = {}
        self.precision: PrecisionName = "fp32"
        self._keep_by = keep_by

    def tensors(self) -> Iterator[Tensor]:
        """Yield all tensors that a step changes."""
        yield from self.model.parameters()
        yield from self.model.buffers()
        for tensors in self.optimizer.state_dict().values():
            yield from tensors
        yield self.sums

    def finish_epoch(self, metrics: EpochMetrics) -> None:
        """Count the epoch, and copy its weights if it is the best so far."""
        self.position, self.taken = Position(self.position.epoch + 1), RowsTaken()
        self.sums.zero_()
        self.seconds = 0.0
        self.losses.append(float(metrics["train_loss"]))
        rank = partial(rank_epoch, keep_by=self._keep_by)
        if not self.best or rank(metrics) < rank(self.best):
            self.best = metrics
            weights = self.model.state_dict()
            if not self.best_weights:
                self.best_weights = {
                    name: torch.empty_like(tensor, device="cpu") for name, tensor in weights.items()
                }
            for name, tensor in weights.items():
                self.best_weights[name].copy_(tensor)

    def save(self, checkpoints: Checkpoints) -> None:
        """Write a checkpoint, or raise `OutputError`; all workers call this, the first writes."""
        buffers = self.workers.all_gather(self._buffers())
        sums = self.workers.all_reduce(self.sums.clone())
        if self.workers.rank == 0:
            state: State = {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "buffers": buffers,
                "taken": tuple(self.taken),
                "sums": sums,
                "seconds": self.seconds,
                "losses": self.losses,
                "best": self.best,
                "best_weights": self.best_weights,
                "precision": self.precision,
            }
            checkpoints.save(self.position, state)

    def restore_newest(self, checkpoints: Checkpoints) -> None:
        """Restore the newest checkpoint that fits this network; without one, change nothing."""
        for position, state in checkpoints.load_all():
            mismatch = self._find_mismatch(state)
            if not mismatch:
                self.restore(position, state)
                return
            logger.warning(
                "the checkpoint after %s does not belong to this training (%s); falling back to "
                "the one before it",
                position,
                mismatch,
            )

    def restore(self, position: Position, state: State) -> None:
        """Restore a checkpoint, also one that another number of workers wrote."""
        self.position, self.seconds = position, state["seconds"]
        self.losses = list(state["losses"])
        self.best, self.best_weights = state["best"], state["best_weights"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.workers.rank == 0:
            self.sums.copy_(state["sums"])
        buffers = state["buffers"]
        rows = int(state["sums"][3])  # older checkpoints have no "taken", only these sums
        self.taken = RowsTaken(*state.get("taken", (rows, len(buffers) if rows else 0)))
        same_workers = len(buffers) == self.workers.world_size
        self._set_buffers(buffers[self.workers.rank] if same_workers else buffers.mean(dim=0))

    def _find_mismatch(self, state: State) -> str:
        """Name the part of a checkpoint's state that does not fit; empty where all of it fits."""
        weights = self.model.state_dict()
        optimizer = state.get("optimizer")
        if not isinstance(optimizer, dict) or not all(
            _same_structure(optimizer.get(name), tensors)
            for name, tensors in self.optimizer.state_dict().items()
        ):
            return "its optimizer's state"
        best = state.get("best_weights")
        if not _same_structure(state.get("model"), weights) or not (
            best == {} or _same_structure(best, weights)
        ):
            return "its weights"
        buffers, sums = state.get("buffers"), state.get("sums")
        if not _same_structure(sums, self.sums) or not isinstance(buffers, Tensor):
            return "its sums"
        if (
            buffers.ndim != 2
            or not len(buffers)
            or not _same_structure(buffers[0], self._buffers())
        ):
            return "its batch-norm statistics"
        kinds = {"seconds": float | int, "losses": list, "best": dict}
        return next(
            (name for name, kind in kinds.items() if not isinstance(state.get(name), kind)), ""
        )

    def _buffers(self) -> Tensor:
        """This worker's batch-norm statistics, (n,)."""
        floats = [buffer for buffer in self.model.buffers() if buffer.is_floating_point()]
        return torch.cat([buffer.flatten() for buffer in floats])

    def _set_buffers(self, numbers: Tensor) -> None:
        start = 0
        for buffer in self.model.buffers():
            if buffer.is_floating_point():
                part = numbers[start : start + buffer.numel()]
                buffer.copy_(part.reshape(buffer.shape))
                start += buffer.numel()


def rank_epoch(metrics: EpochMetrics, keep_by: KeepByName) -> float:
    """Return what is lowest for the best epoch, by its validation rows if there are any."""
    value = float(metrics[f"{'valid' if 'valid_loss' in metrics else 'train'}_{keep_by}"])
    return value if keep_by == "loss" else -value


def _same_structure(loaded: object, expected: object) -> bool:
    """Whether both have the same keys, lengths, tensor shapes and dtypes."""
    if isinstance(expected, Tensor):
        return (
            isinstance(loaded, Tensor)
            and loaded.shape == expected.shape
            and loaded.dtype == expected.dtype
        )
    if isinstance(expected, dict):
        return (
            isinstance(loaded, dict)
            and loaded.keys() == expected.keys()
            and all(_same_structure(loaded[name], part) for name, part in expected.items())
        )
    return (
        isinstance(loaded, list)
        and isinstance(expected, list)
        and len(loaded) == len(expected)
        and all(map(_same_structure, loaded, expected))
    )


class TrainSetup(NamedTuple):
    """The arguments of `lstmfcn.training.loop.fit` that depend on the training rows."""

    training: TrainState
    task: Task
    batches: BatchLoader


def set_up(
    rows: Dataset,
    schema: SeriesSchema,
    hyperparameters: Hyperparameters,
    weights: Mapping[str, Tensor] | None = None,
    workers: Collective | None = None,
    share: WorkerContext = WorkerContext(),
) -> TrainSetup:
    """Build the network and its optimiser (the same on every worker), the task and the batches.

    Args:
        rows: all training rows, scaled.
        weights: weights of the model that training continues from; None to initialise them.
        workers: the workers that train the model together; by default this process alone.
        share: this worker's share of every batch, and its device.
    """
    seed = hyperparameters.seed
    weight_of_class = compute_class_weights(hyperparameters.class_weight, schema, rows.labels)
    if weight_of_class is not None:
        weight_of_class = weight_of_class.to(share.device)
    task = make_task(schema, weight_of_class, hyperparameters.label_smoothing)
    torch.manual_seed(seed)
    network = LSTMFCN(hyperparameters, schema.n_timepoints, task.n_outputs, schema.n_channels)
    if weights is not None:
        network.load_state_dict(weights)
    training = TrainState(
        network.to(share.device),
        hyperparameters.lr,
        workers,
        hyperparameters.weight_decay,
        hyperparameters.keep_by,
    )
    batch_size = batch_size_for(hyperparameters.batch_size, len(rows), share.world_size)
    batches = make_loader(rows, batch_size, seed, share, hyperparameters.rows_per_epoch)
    return TrainSetup(training, task, batches)
