"""The training loop: fit → train_epoch → step, and evaluate.

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
from functools import partial

import torch
from torch import Tensor, nn

from lstmfcn.errors import RunInterruptedError, TrainingError
from lstmfcn.hyperparameters import Hyperparameters, PrecisionName
from lstmfcn.model.replay import graphed
from lstmfcn.model.task import MetricSums, Task
from lstmfcn.training.batches import Batch, BatchLoader
from lstmfcn.training.checkpoints import Position
from lstmfcn.training.collective import Collective, SingleProcess
from lstmfcn.training.keeper import Checkpoints
from lstmfcn.training.metrics_log import EpochMetrics
from lstmfcn.training.optim import learning_rate
from lstmfcn.training.state import TrainState

_STEPS_BETWEEN_CHECKS = 16
"""Steps between checks whether a checkpoint is due; the workers must agree, which takes time."""

Report = Callable[[EpochMetrics], None]
Step = Callable[[Batch], object]
Score = Callable[[Tensor, Tensor], Tensor]
"""Scaled series (n, V) and targets (n, ...) to sums (4 + 3C,): `_compute_sums` and by class."""


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
    step, score = make_step(training, task), make_score(model, task)
    while training.position.epoch < hyperparameters.epochs:
        epoch = training.position.epoch + 1
        started = time.perf_counter() - training.seconds
        lr = learning_rate(hyperparameters, training.losses)
        training.optimizer.lr = lr
        totals = train_epoch(training, step, batches, hyperparameters.seed, checkpoints)
        metrics: EpochMetrics = {"epoch": epoch, **totals.metrics("train", task)}
        trained_in = time.perf_counter() - started
        workers.average_buffers(model)
        if validation is not None:
            metrics |= evaluate(model, task, validation, workers, score).metrics("valid", task)
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
    step: Step,
    batches: BatchLoader,
    seed: int,
    checkpoints: Checkpoints | None = None,
) -> MetricSums:
    """Train on the remaining batches of an epoch; returns the sums over all workers' rows."""
    workers = training.workers
    if not training.model.training:  # train() visits every module, which takes time
        training.model.train()
    started = time.perf_counter() - training.seconds
    epoch, first = training.position.epoch + 1, training.position.step
    for number, batch in enumerate(batches(epoch, training.taken), start=first + 1):
        _seed_step(training.device, f"{seed}/{epoch}/{number}/{workers.rank}")
        step(batch)
        checks = checkpoints is not None and number % _STEPS_BETWEEN_CHECKS == 0
        if checkpoints and checks and _is_due(training, checkpoints):
            training.position, training.taken = Position(epoch - 1, number), batch.taken
            training.seconds = time.perf_counter() - started
            training.save(checkpoints)
            _raise_if_stopping(training, checkpoints)
    return MetricSums(*workers.all_reduce(training.sums).tolist())


def make_step(training: TrainState, task: Task) -> Step:
    """Return the training step: forward, backward, update, and adding up the batch's sums.

    The gradient is that of the mean loss over the global batch: each worker divides its sum by the
    global number of rows, and the workers add up their gradients. On a GPU a step is one CUDA
    graph; two if there are several workers, which may have batches of different sizes, and so
    capture their graphs at different steps: what they exchange stands between the graphs.
    """
    optimizer, workers = training.optimizer, training.workers

    def differentiate(x: Tensor, targets: Tensor, n_rows_global: int) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=training.precision == "bf16"):
            logits = training.model(x)
        logits = logits.float()
        loss = task.loss_sum(logits, targets)
        optimizer.zero_grad()
        torch.autograd.backward(loss * (1 / n_rows_global))
        training.sums += _compute_sums(task, logits.detach(), loss.detach(), targets)
        return training.sums

    def update() -> Tensor:
        optimizer.step()
        return training.sums

    def differentiate_and_update(x: Tensor, targets: Tensor, n_rows_global: int) -> Tensor:
        differentiate(x, targets, n_rows_global)
        return update()

    capture = partial(graphed, device=training.device, state=training.tensors)
    if workers.world_size == 1:
        train = capture(differentiate_and_update, name="the training step")
        return lambda batch: train(batch.x, batch.targets, batch.n_rows_global)

    gradients = optimizer.join_gradients()
    first, last = capture(differentiate, name="the gradient"), capture(update, name="the update")

    def step(batch: Batch) -> None:
        if len(batch.x):
            first(batch.x, batch.targets, batch.n_rows_global)
        else:  # an epoch that resumes with more workers may end with fewer rows than workers
            gradients.zero_()
        workers.all_reduce(gradients)
        last()

    return step


def make_score(model: nn.Module, task: Task) -> Score:
    """Return the function that computes a batch's sums for `evaluate`."""

    def score(x: Tensor, targets: Tensor) -> Tensor:
        logits = model(x)
        sums = _compute_sums(task, logits, task.loss_sum(logits, targets), targets)
        return torch.cat([sums, task.count_by_class(logits, targets).flatten()])

    return graphed(score, next(model.parameters()).device, "the evaluation")


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    task: Task,
    batches: Iterable[Batch],
    workers: Collective | None = None,
    score: Score | None = None,
) -> MetricSums:
    """Return the sums over all workers' batches, also by class, in evaluation mode and fp32.

    Args:
        score: from `make_score`, for those who evaluate a model again and again.
    """
    model.eval()
    score = score or make_score(model, task)
    device = next(model.parameters()).device
    sums = torch.zeros(4 + 3 * task.n_classes, dtype=torch.float64, device=device)
    for batch in batches:
        sums += score(batch.x, batch.targets)
    loss, correct, exact, rows, *by_class = (workers or SingleProcess()).all_reduce(sums).tolist()
    return MetricSums(loss, correct, exact, rows, tuple(by_class))


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
