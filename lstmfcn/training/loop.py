"""The training loop: fit → train_epoch → train_step, and evaluate.

Plain PyTorch. Batches, the callback for each epoch, checkpoints and the other workers are
arguments, so the loop runs the same under Ray Train, in a tuning trial and in a test.

No random state outlives a step: the order of rows depends on seed and epoch, dropout on seed,
epoch, step and worker. A training that resumes from a checkpoint therefore gives the same weights,
bit for bit, as one that was never interrupted.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from lstmfcn.errors import RunInterruptedError, TrainingError
from lstmfcn.hyperparameters import Hyperparameters, PrecisionName
from lstmfcn.model.layers import BatchNorm
from lstmfcn.model.task import MetricSums, Task
from lstmfcn.training.batches import Batch, BatchLoader
from lstmfcn.training.checkpoints import Position
from lstmfcn.training.collective import Collective, SingleProcess
from lstmfcn.training.keeper import Checkpoints
from lstmfcn.training.metrics_log import EpochMetrics
from lstmfcn.training.optim import Adam, learning_rate
from lstmfcn.training.state import TrainState

_STEPS_BETWEEN_CHECKS = 16
"""Steps between checks whether a checkpoint is due; the workers must agree, which takes time."""

Report = Callable[[EpochMetrics], None]


def fit(
    training: TrainState,
    task: Task,
    batches: BatchLoader,
    validation: Iterable[Batch] | None,
    hyperparameters: Hyperparameters,
    report: Report,
    checkpoints: Checkpoints | None = None,
) -> None:
    """Train for all remaining epochs, and keep the weights of the best one.

    Args:
        training: the state to start from, the same on every worker; afterwards it has the weights
            of the last epoch and of the best one.
        batches: returns this worker's batches of an epoch.
        validation: this worker's share of the validation rows; None without validation.
        hyperparameters: lr, schedule, epochs, precision and seed apply here.
        report: called after each epoch with its metrics, on the first worker.
        checkpoints: where the state is saved, at intervals and at the end; None saves nothing.

    Raises:
        TrainingError: the loss is no longer finite.
        OutputError: metrics or a checkpoint cannot be written.
        RunInterruptedError: the user asked to stop; the run resumes from its last checkpoint.
    """
    model, workers = training.model, training.workers
    if checkpoints:
        _raise_if_stopping(training, checkpoints)
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
        if workers.rank == 0:
            report(metrics)
        is_last = epoch == hyperparameters.epochs
        if checkpoints and (is_last or _is_due(training, checkpoints)):
            training.save(checkpoints)
            _raise_if_stopping(training, checkpoints)


def train_epoch(
    training: TrainState,
    step_model: nn.Module,
    task: Task,
    batches: BatchLoader,
    seed: int,
    checkpoints: Checkpoints | None = None,
) -> MetricSums:
    """Train on the remaining batches of an epoch; returns the sums over all workers' rows."""
    workers = training.workers
    if not step_model.training:  # train() visits every module, which takes time
        step_model.train()
    started = time.perf_counter() - training.seconds
    epoch, first = training.position.epoch + 1, training.position.step
    for step, batch in enumerate(batches(epoch, training.taken), start=first + 1):
        _seed_step(training.device, f"{seed}/{epoch}/{step}/{workers.rank}")
        training.sums += train_step(
            step_model, task, training.optimizer, batch, training.precision, workers.world_size
        )
        checks = checkpoints is not None and step % _STEPS_BETWEEN_CHECKS == 0
        if checkpoints and checks and _is_due(training, checkpoints):
            training.position, training.taken = Position(epoch - 1, step), batch.taken
            training.seconds = time.perf_counter() - started
            training.save(checkpoints)
            _raise_if_stopping(training, checkpoints)
    return MetricSums(*workers.all_reduce(training.sums).tolist())


def train_step(
    model: nn.Module,
    task: Task,
    optimizer: Adam,
    batch: Batch,
    precision: PrecisionName,
    world_size: int,
) -> Tensor:
    """Forward, backward, update. Returns the batch's sums (loss, correct, exact, rows), (4,).

    The gradient is that of the mean loss over the global batch: each worker divides its sum by the
    global number of rows, and multiplies it by the number of workers, as DDP averages over workers.
    """
    if not len(batch.x):
        return _step_without_rows(model, optimizer, batch.x)
    with torch.autocast(batch.x.device.type, torch.bfloat16, enabled=precision == "bf16"):
        logits = model(batch.x)
    logits = logits.float()
    loss = task.loss_sum(logits, batch.targets)
    optimizer.zero_grad()
    torch.autograd.backward(loss * (world_size / batch.n_rows_global))
    optimizer.step()
    return _compute_sums(task, logits.detach(), loss.detach(), batch.targets)


def _step_without_rows(model: nn.Module, optimizer: Adam, x: Tensor) -> Tensor:
    """Join the other workers' step with a gradient of zero and without batch statistics.

    An epoch that resumes with more workers may end with fewer rows than there are workers.
    """
    norms = [module for module in model.modules() if isinstance(module, BatchNorm)]
    for norm in norms:  # not the whole model: cuDNN has no LSTM gradients in evaluation mode
        norm.eval()
    optimizer.zero_grad()
    torch.autograd.backward(0.0 * model(x.new_zeros(1, x.shape[1])).sum())
    for norm in norms:
        norm.train()
    optimizer.step()
    return torch.zeros(4, dtype=torch.float64, device=x.device)


@torch.inference_mode()
def evaluate(
    model: nn.Module, task: Task, batches: Iterable[Batch], workers: Collective | None = None
) -> MetricSums:
    """Return loss and accuracy sums over all workers' batches, in evaluation mode and fp32."""
    model.eval()
    device = next(model.parameters()).device
    sums = torch.zeros(4, dtype=torch.float64, device=device)
    for batch in batches:
        logits = model(batch.x)
        sums += _compute_sums(task, logits, task.loss_sum(logits, batch.targets), batch.targets)
    return MetricSums(*(workers or SingleProcess()).all_reduce(sums).tolist())


def choose_precision(requested: PrecisionName, device: torch.device) -> PrecisionName:
    """Resolve ``auto``: bf16 where the device has instructions for it, else fp32."""
    if requested != "auto":
        return requested
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    capabilities = torch.cpu.get_capabilities()
    has_bf16 = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return "bf16" if device.type == "cpu" and has_bf16 else "fp32"


def _seed_step(device: torch.device, name: str) -> None:
    """Seed the dropout of one step by the step's name.

    ``torch.manual_seed`` would record a call stack for each absent device at every step, and keep
    them all.
    """
    seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest())
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def _compute_sums(task: Task, logits: Tensor, loss: Tensor, targets: Tensor) -> Tensor:
    """Stack the sums that `MetricSums` holds: loss, correct, exact, rows; float64 (4,)."""
    n_correct = task.n_correct(logits, targets)
    correct = exact = n_correct.sum(dtype=torch.float64)
    if task.targets_per_row > 1:
        exact = (n_correct == task.targets_per_row).sum(dtype=torch.float64)
    return torch.stack([loss.double(), correct, exact, torch.full_like(correct, len(targets))])


def _is_due(training: TrainState, checkpoints: Checkpoints) -> bool:
    """Whether a checkpoint is due; the first worker decides for all."""
    workers = training.workers
    return workers.wants_checkpoint(workers.rank == 0 and checkpoints.is_due())


def _raise_if_stopping(training: TrainState, checkpoints: Checkpoints) -> None:
    """Stop every worker where the user asked for it; call only right after a checkpoint."""
    workers = training.workers
    if workers.broadcast(workers.rank == 0 and checkpoints.stop_requested()):
        raise RunInterruptedError(f"stopped after {training.position}", resumable=True)


def _refuse_divergence(metrics: EpochMetrics) -> None:
    for name in ("train_loss", "valid_loss"):
        if name in metrics and not math.isfinite(metrics[name]):
            raise TrainingError(
                f"{name} became {metrics[name]} in epoch {metrics['epoch']}; try a smaller --lr, "
                "or look for values that are far larger than the others"
            )
