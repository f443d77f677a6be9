"""The training loop: fit → train_epoch → train_step, and evaluate.

Plain PyTorch. Batches, the report of an epoch, and the other workers are arguments, so the loop
runs the same under Ray Train, in a tuning trial and in a test.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lstmfcn.batches import Batch, BatchSource
from lstmfcn.errors import TrainingError
from lstmfcn.hyperparameters import Hyperparameters, PrecisionName
from lstmfcn.task import Task, Totals

ADAM_EPSILON = 1e-7
"""Keras 2.2.4's, which the paper's results were computed with (PyTorch's default is 1e-8)."""

EpochMetrics = dict[str, Any]
"""A line of metrics.jsonl: epoch, train_loss, train_accuracy, valid_loss, ... as plain numbers."""

Report = Callable[[EpochMetrics], None]


class Workers(Protocol):
    """The workers that train one model together."""

    world_size: int

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model as a training step calls it, gradients averaged over workers."""

    def add_up(self, totals: Tensor) -> Tensor:
        """The sum of every worker's totals."""

    def average_buffers(self, model: nn.Module) -> None:
        """Give every worker the mean of all workers' batch-norm statistics."""


class OneWorker:
    """Training alone: nothing to share."""

    world_size = 1

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model itself."""
        return model

    def add_up(self, totals: Tensor) -> Tensor:
        """The totals themselves."""
        return totals

    def average_buffers(self, model: nn.Module) -> None:
        """Nothing to do."""


class Trained:
    """What a fit leaves: the best epoch's weights and metrics, and every epoch's metrics."""

    def __init__(self) -> None:
        self.best_weights: dict[str, Tensor] = {}
        self.best: EpochMetrics = {}
        self.history: list[EpochMetrics] = []

    def keep(self, metrics: EpochMetrics, model: nn.Module) -> None:
        """Note an epoch, and its weights if its loss (valid_loss, else train_loss) is the least."""
        self.history.append(metrics)
        if not self.best or deciding_loss(metrics) < deciding_loss(self.best):
            self.best = metrics
            weights = copy.deepcopy(model.state_dict())
            self.best_weights = {name: tensor.cpu() for name, tensor in weights.items()}


def deciding_loss(metrics: EpochMetrics) -> float:
    """The loss by which epochs are compared: valid_loss where there is one, else train_loss."""
    return float(metrics["valid_loss" if "valid_loss" in metrics else "train_loss"])


def fit(
    model: nn.Module,
    task: Task,
    batches: BatchSource,
    validation: Sequence[Batch] | None,
    hyperparameters: Hyperparameters,
    report: Report,
    workers: Workers | None = None,
) -> Trained:
    """Train for all epochs and keep the best.

    Args:
        model: on its device already; left with the last epoch's weights.
        task: loss and counts.
        batches: this worker's batches of any epoch.
        validation: this worker's share of the validation rows; None where there are none.
        hyperparameters: lr, epochs and precision apply here.
        report: called once an epoch with its metrics, the same on every worker.
        workers: who trains along; nobody by default.

    Raises:
        TrainingError: the loss is no longer finite.
    """
    workers = workers or OneWorker()
    device = next(model.parameters()).device
    precision = choose_precision(hyperparameters.precision, device)
    step_model = workers.wrap(model)
    optimizer = torch.optim.Adam(
        model.parameters(), lr=hyperparameters.lr, eps=ADAM_EPSILON, fused=True
    )
    trained = Trained()
    for epoch in range(1, hyperparameters.epochs + 1):
        started = time.perf_counter()
        totals = train_epoch(step_model, task, optimizer, batches(epoch), precision, workers)
        metrics: EpochMetrics = {"epoch": epoch, **totals.metrics("train", task)}
        trained_in = time.perf_counter() - started
        workers.average_buffers(model)
        if validation is not None:
            metrics |= evaluate(model, task, validation, workers).metrics("valid", task)
        metrics |= {
            "lr": hyperparameters.lr,
            "rows": int(totals.rows),
            "rows_per_second": round(totals.rows / trained_in, 1),
            "seconds": round(time.perf_counter() - started, 4),
        }
        _refuse_divergence(metrics)
        trained.keep(metrics, model)
        report(metrics)
    return trained


def train_epoch(
    model: nn.Module,
    task: Task,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
    precision: PrecisionName,
    workers: Workers,
) -> Totals:
    """One pass over the rows: a step a batch. Totals are over all workers' rows, as trained on."""
    model.train()
    device = next(model.parameters()).device
    sums = torch.zeros(4, dtype=torch.float64, device=device)
    for batch in batches:
        sums += train_step(model, task, optimizer, batch, precision, workers.world_size)
    return Totals(*workers.add_up(sums).tolist())


def train_step(
    model: nn.Module,
    task: Task,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    precision: PrecisionName,
    world_size: int,
) -> Tensor:
    """Forward, backward, update. Returns the batch's sums (loss, right, exact, rows), (4,).

    The gradient is that of the mean loss over the global batch: each worker's sum is divided by the
    global number of rows, and multiplied by the number of workers that DDP's average divides by.
    """
    with autocast(precision, batch.x.device):
        logits = model(batch.x)
    logits = logits.float()
    loss = task.loss_sum(logits, batch.targets)
    optimizer.zero_grad()
    torch.autograd.backward(loss * (world_size / batch.n_rows_global))
    optimizer.step()
    return _sums(task, logits.detach(), loss.detach(), batch.targets)


@torch.inference_mode()
def evaluate(
    model: nn.Module, task: Task, batches: Iterable[Batch], workers: Workers | None = None
) -> Totals:
    """Totals over the batches of all workers, in evaluation mode and fp32."""
    model.eval()
    device = next(model.parameters()).device
    sums = torch.zeros(4, dtype=torch.float64, device=device)
    for batch in batches:
        logits = model(batch.x)
        sums += _sums(task, logits, task.loss_sum(logits, batch.targets), batch.targets)
    return Totals(*(workers or OneWorker()).add_up(sums).tolist())


def choose_precision(wanted: PrecisionName, device: torch.device) -> PrecisionName:
    """Resolve ``auto``: bf16 where the device computes in it natively, else fp32."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    capabilities = torch.cpu.get_capabilities()
    gains = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return "bf16" if device.type == "cpu" and gains else "fp32"


@contextmanager
def autocast(precision: PrecisionName, device: torch.device) -> Iterator[None]:
    """Run matrix products and convolutions in bf16 where that is the precision."""
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        yield


def _sums(task: Task, logits: Tensor, loss: Tensor, targets: Tensor) -> Tensor:
    right = task.right(logits, targets)
    exact = (right == task.targets_per_row).sum()
    rows = torch.full_like(exact, len(targets))
    return torch.stack([loss.double(), right.sum().double(), exact.double(), rows.double()])


def _refuse_divergence(metrics: EpochMetrics) -> None:
    for name in ("train_loss", "valid_loss"):
        if name in metrics and not math.isfinite(metrics[name]):
            raise TrainingError(
                f"{name} became {metrics[name]} in epoch {metrics['epoch']}; try a smaller --lr, "
                "or look for values far larger than the others"
            )
