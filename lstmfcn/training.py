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

import torch
from torch import Tensor, nn

from lstmfcn.adam import Adam
from lstmfcn.batch_norm import BatchNorm
from lstmfcn.batches import Batch, BatchSource
from lstmfcn.checkpoints import Checkpoints, Position
from lstmfcn.errors import OutputError, TrainingError
from lstmfcn.hyperparameters import Hyperparameters, PrecisionName
from lstmfcn.metrics_file import EpochMetrics
from lstmfcn.schedules import learning_rate
from lstmfcn.task import Task, Totals
from lstmfcn.training_state import Training
from lstmfcn.workers import OneWorker, Workers

_STEPS_BETWEEN_LOOKS = 16
"""Steps after which workers look whether a checkpoint is due; they must agree, which costs time."""

Report = Callable[[EpochMetrics], None]


def fit(
    training: Training,
    task: Task,
    batches: BatchSource,
    validation: Iterable[Batch] | None,
    hyperparameters: Hyperparameters,
    report: Report,
    checkpoints: Checkpoints | None = None,
) -> None:
    """Train for all epochs that are left, and keep the best.

    Args:
        training: where it begins, the same on every worker; left with the last epoch's weights and
            those of the best one.
        task: loss and counts.
        batches: this worker's batches of any epoch.
        validation: this worker's share of the validation rows; None where there are none.
        hyperparameters: lr, epochs, precision and seed apply here.
        report: called once an epoch with its metrics, the same on every worker.
        checkpoints: where the state is written, on a clock and at the end.

    Raises:
        TrainingError: the loss is no longer finite.
        OutputError: a checkpoint cannot be written, or workers see different ones.
        StoppedError: training is to stop, and can go on from its last checkpoint.
    """
    model, workers = training.model, training.workers
    _refuse_different_starts(training)
    if checkpoints:
        training.stop_if_asked(checkpoints)
    training.precision = choose_precision(hyperparameters.precision, training.device)
    step_model = workers.wrap(model)
    while training.position.epoch < hyperparameters.epochs:
        epoch = training.position.epoch + 1
        started = time.perf_counter() - training.seconds
        lr = learning_rate(hyperparameters, training.losses)
        training.optimizer.lr = lr
        totals = train_epoch(training, step_model, task, batches, hyperparameters.seed, checkpoints)
        metrics: EpochMetrics = {"epoch": epoch, **totals.metrics("train", task)}
        trained_in = time.perf_counter() - started
        workers.average_buffers(model)
        if validation is not None:
            metrics |= evaluate(model, task, validation, workers).metrics("valid", task)
        metrics |= {
            "lr": lr,
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


def train_epoch(
    training: Training,
    step_model: nn.Module,
    task: Task,
    batches: BatchSource,
    seed: int,
    checkpoints: Checkpoints | None = None,
) -> Totals:
    """The rest of an epoch: a step a batch. Totals are over all workers' rows, as trained on."""
    workers = training.workers
    if not step_model.training:  # it goes through all modules
        step_model.train()
    started = time.perf_counter() - training.seconds
    epoch, first = training.position.epoch + 1, training.position.step
    for step, batch in enumerate(batches(epoch, training.taken), start=first + 1):
        _seed_step(training.device, f"{seed}/{epoch}/{step}/{workers.rank}")
        training.sums += train_step(
            step_model, task, training.optimizer, batch, training.precision, workers.world_size
        )
        if checkpoints and step % _STEPS_BETWEEN_LOOKS == 0 and workers.agree(checkpoints.due()):
            training.position, training.taken = Position(epoch - 1, step), batch.taken
            training.seconds = time.perf_counter() - started
            training.save(checkpoints)
    return Totals(*workers.add_up(training.sums).tolist())


def train_step(
    model: nn.Module,
    task: Task,
    optimizer: Adam,
    batch: Batch,
    precision: PrecisionName,
    world_size: int,
) -> Tensor:
    """Forward, backward, update. Returns the batch's sums (loss, right, exact, rows), (4,).

    The gradient is that of the mean loss over the global batch: each worker's sum is divided by the
    global number of rows, and multiplied by the number of workers that DDP's average divides by.
    """
    if not len(batch.x):
        return _step_without_rows(model, optimizer, batch.x)
    with autocast(precision, batch.x.device):
        logits = model(batch.x)
    logits = logits.float()
    loss = task.loss_sum(logits, batch.targets)
    optimizer.zero_grad()
    torch.autograd.backward(loss * (world_size / batch.n_rows_global))
    optimizer.step()
    return _sums(task, logits.detach(), loss.detach(), batch.targets)


def _step_without_rows(model: nn.Module, optimizer: Adam, x: Tensor) -> Tensor:
    """Take part in the other workers' step with a gradient of zero, and no batch statistics.

    An epoch that goes on with more workers may end with fewer rows than there are workers.
    """
    norms = [module for module in model.modules() if isinstance(module, BatchNorm)]
    for norm in norms:  # not the whole model: cuDNN computes no gradients of an LSTM in evaluation
        norm.eval()
    optimizer.zero_grad()
    torch.autograd.backward(0.0 * model(x.new_zeros(1, x.shape[1])).sum())
    for norm in norms:
        norm.train()
    optimizer.step()
    return torch.zeros(4, dtype=torch.float64, device=x.device)


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
    right_each = task.right(logits, targets)
    right = exact = right_each.sum(dtype=torch.float64)
    if task.targets_per_row > 1:
        exact = (right_each == task.targets_per_row).sum(dtype=torch.float64)
    return torch.stack([loss.double(), right, exact, torch.full_like(right, len(targets))])


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
