"""The training loop: fit → train_epoch → train_step, and evaluate.

Plain PyTorch. Batches, the report of an epoch, checkpoints and the other workers are arguments, so
the loop runs the same under Ray Train, in a tuning trial and in a test.

Nothing random outlives a step: the order of rows follows from seed and epoch, dropout from seed,
epoch, step and worker. A training that goes on from a checkpoint therefore gives the same weights,
bit for bit, as one that was never interrupted.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn

from lstmfcn.batches import Batch, BatchSource
from lstmfcn.checkpoints import Checkpoints, Position, State
from lstmfcn.errors import OutputError, StoppedError, TrainingError
from lstmfcn.hyperparameters import Hyperparameters, PrecisionName
from lstmfcn.metrics_file import EpochMetrics
from lstmfcn.task import Task, Totals

ADAM_EPSILON = 1e-7
"""Keras 2.2.4's, which the paper's results were computed with (PyTorch's default is 1e-8)."""

_STEPS_BETWEEN_LOOKS = 16
"""Steps after which workers look whether a checkpoint is due; they must agree, which costs time."""

Report = Callable[[EpochMetrics], None]


class Workers(Protocol):
    """The workers that train one model together."""

    rank: int
    world_size: int

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model as a training step calls it, gradients averaged over workers."""

    def add_up(self, totals: Tensor) -> Tensor:
        """The sum of every worker's totals."""

    def average_buffers(self, model: nn.Module) -> None:
        """Give every worker the mean of all workers' batch-norm statistics."""

    def gather(self, numbers: Tensor) -> Tensor:
        """Every worker's numbers (n,), as rows of (W, n)."""

    def agree(self, wish: bool) -> bool:
        """What the first worker wishes."""


class OneWorker:
    """Training alone: nothing to share."""

    rank = 0
    world_size = 1

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model itself."""
        return model

    def add_up(self, totals: Tensor) -> Tensor:
        """The totals themselves."""
        return totals

    def average_buffers(self, model: nn.Module) -> None:
        """Nothing to do."""

    def gather(self, numbers: Tensor) -> Tensor:
        """The numbers, as the only row."""
        return numbers.unsqueeze(0)

    def agree(self, wish: bool) -> bool:
        """The wish itself."""
        return wish


class Training:
    """All that changes while a model is trained, and how it is written to a checkpoint.

    Attributes:
        position: epochs done, and steps done in the one after them.
        sums: this worker's totals over these steps.
        seconds: time spent on these steps.
        best: metrics of the epoch with the least loss so far; empty before the first.
        best_weights: its weights, on the CPU.
    """

    def __init__(self, model: nn.Module, lr: float, workers: Workers) -> None:
        self.model, self.workers = model, workers
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr, eps=ADAM_EPSILON, fused=True)
        self.device = next(model.parameters()).device
        self.position = Position()
        self.sums = torch.zeros(4, dtype=torch.float64, device=self.device)
        self.seconds = 0.0
        self.best: EpochMetrics = {}
        self.best_weights: dict[str, Tensor] = {}

    def finish_epoch(self, metrics: EpochMetrics) -> None:
        """Count the epoch, and keep its weights if its loss is the least."""
        self.position = Position(self.position.epoch + 1)
        self.sums, self.seconds = torch.zeros_like(self.sums), 0.0
        if not self.best or deciding_loss(metrics) < deciding_loss(self.best):
            self.best = metrics
            for name, tensor in self.model.state_dict().items():
                kept = self.best_weights.setdefault(name, torch.empty_like(tensor, device="cpu"))
                kept.copy_(tensor)

    def save(self, checkpoints: Checkpoints) -> None:
        """Write a checkpoint; every worker calls this, the first one writes.

        Raises:
            OutputError: it cannot be written.
            StoppedError: training is to stop; the checkpoint has been written.
        """
        buffers = self.workers.gather(self._buffers())
        sums = self.workers.add_up(self.sums.clone())
        if self.workers.rank == 0:
            state: State = {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "buffers": buffers,
                "sums": sums,
                "seconds": self.seconds,
                "best": self.best,
                "best_weights": self.best_weights,
            }
            checkpoints.save(self.position, state)
        if self.workers.agree(checkpoints.stopped()):
            raise StoppedError(f"stopped after {self.position}; go on with --resume")

    def restore(self, position: Position, state: State) -> None:
        """Go on from a checkpoint, which another number of workers may have written."""
        self.position, self.seconds = position, state["seconds"]
        self.best, self.best_weights = state["best"], state["best_weights"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.workers.rank == 0:
            self.sums = state["sums"].to(self.device)
        buffers = state["buffers"]
        same = len(buffers) == self.workers.world_size
        self._set_buffers(buffers[self.workers.rank] if same else buffers.mean(dim=0))

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


def deciding_loss(metrics: EpochMetrics) -> float:
    """The loss by which epochs are compared: valid_loss where there is one, else train_loss."""
    return float(metrics["valid_loss" if "valid_loss" in metrics else "train_loss"])


def fit(
    model: nn.Module,
    task: Task,
    batches: BatchSource,
    validation: Iterable[Batch] | None,
    hyperparameters: Hyperparameters,
    report: Report,
    workers: Workers | None = None,
    checkpoints: Checkpoints | None = None,
    start: tuple[Position, State] | None = None,
) -> Training:
    """Train for all epochs, and keep the best.

    Args:
        model: on its device already; left with the last epoch's weights.
        task: loss and counts.
        batches: this worker's batches of any epoch.
        validation: this worker's share of the validation rows; None where there are none.
        hyperparameters: lr, epochs, precision and seed apply here.
        report: called once an epoch with its metrics, the same on every worker.
        workers: who trains along; nobody by default.
        checkpoints: where the state is written, on a clock and at the end.
        start: the checkpoint to go on from, the same on every worker.

    Raises:
        TrainingError: the loss is no longer finite.
        OutputError: a checkpoint cannot be written, or workers see different ones.
        StoppedError: training is to stop, and can go on from its last checkpoint.
    """
    workers = workers or OneWorker()
    training = Training(model, hyperparameters.lr, workers)
    if start:
        training.restore(*start)
    _refuse_different_starts(training)
    precision = choose_precision(hyperparameters.precision, training.device)
    step_model = workers.wrap(model)
    while training.position.epoch < hyperparameters.epochs:
        epoch = training.position.epoch + 1
        started = time.perf_counter() - training.seconds
        totals = train_epoch(
            training, step_model, task, batches, precision, hyperparameters.seed, checkpoints
        )
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
            "time": round(time.time(), 3),
        }
        _refuse_divergence(metrics)
        training.finish_epoch(metrics)
        report(metrics)
        if checkpoints and workers.agree(checkpoints.due() or epoch == hyperparameters.epochs):
            training.save(checkpoints)
    return training


def train_epoch(
    training: Training,
    step_model: nn.Module,
    task: Task,
    batches: BatchSource,
    precision: PrecisionName,
    seed: int,
    checkpoints: Checkpoints | None = None,
) -> Totals:
    """The rest of an epoch: a step a batch. Totals are over all workers' rows, as trained on."""
    workers = training.workers
    step_model.train()
    started = time.perf_counter() - training.seconds
    epoch, first = training.position.epoch + 1, training.position.step
    for step, batch in enumerate(batches(epoch, first), start=first + 1):
        _seed_step(training.device, f"{seed}/{epoch}/{step}/{workers.rank}")
        training.sums += train_step(
            step_model, task, training.optimizer, batch, precision, workers.world_size
        )
        if checkpoints and step % _STEPS_BETWEEN_LOOKS == 0 and workers.agree(checkpoints.due()):
            training.position = Position(epoch - 1, step)
            training.seconds = time.perf_counter() - started
            training.save(checkpoints)
    return Totals(*workers.add_up(training.sums).tolist())


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


def _seed_step(device: torch.device, name: str) -> None:
    """Seed one step's dropout by the step's name.

    Not by ``torch.manual_seed``, which without a GPU notes a call stack for each absent device,
    every time, and keeps them all.
    """
    seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest())
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def _sums(task: Task, logits: Tensor, loss: Tensor, targets: Tensor) -> Tensor:
    right = task.right(logits, targets)
    exact = (right == task.targets_per_row).sum()
    rows = torch.full_like(exact, len(targets))
    return torch.stack([loss.double(), right.sum().double(), exact.double(), rows.double()])


def _refuse_different_starts(training: Training) -> None:
    position = torch.tensor(training.position, device=training.device)
    positions = training.workers.gather(position)
    if not bool((positions == positions[0]).all()):
        raise OutputError(
            f"workers see checkpoints at {[str(Position(*p)) for p in positions.tolist()]}; "
            "--output must be storage that all of them share"
        )


def _refuse_divergence(metrics: EpochMetrics) -> None:
    for name in ("train_loss", "valid_loss"):
        if name in metrics and not math.isfinite(metrics[name]):
            raise TrainingError(
                f"{name} became {metrics[name]} in epoch {metrics['epoch']}; try a smaller --lr, "
                "or look for values far larger than the others"
            )
