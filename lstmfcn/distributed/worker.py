"""What a training worker runs: its job, the training loop on its share of the rows, and saving.

`train_worker` is what Ray Train starts in each worker, `train_alone` what it runs in this process;
`train_model` is the same without Ray Train, which trains a member of an ensemble in a plain task.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import ray
import ray.train
import torch
import torch.distributed
from ray.train.torch import get_device
from torch import Tensor, nn

from lstmfcn.distributed.capacity import available_cpus
from lstmfcn.distributed.failures import LOST
from lstmfcn.distributed.load import TrainingData
from lstmfcn.errors import LstmfcnError, ResourceError
from lstmfcn.hyperparameters import Hyperparameters, PrecisionName
from lstmfcn.model.artifact import Artifact
from lstmfcn.training.batches import EvaluationLoader, WorkerContext
from lstmfcn.training.calibration import calibrate
from lstmfcn.training.collective import Collective, SingleProcess
from lstmfcn.training.dataset_info import DatasetInfo
from lstmfcn.training.keeper import Checkpoints, Keeper
from lstmfcn.training.loop import fit
from lstmfcn.training.metrics_log import EpochMetrics
from lstmfcn.training.state import set_up

_ALLOCATION_FAILURES = ("can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED")

_ASK_EVERY_S = 5.0
"""How often Ray Train itself looks for machines that will be taken away."""

_SECONDS_TO_NOTICE = 60.0
"""Ray takes about 20 seconds to notice that a machine is gone."""


@dataclass(frozen=True)
class WorkerJob:
    """All that a worker needs, apart from the data and the keeper.

    Attributes:
        initial_weights: those of the base model, if there is one.
        provenance: how the model comes to be, for model.json.
        threads: of each worker.
        checkpoint_every_s: seconds between checkpoints.
        saves_model: whether the first worker saves the model at the end. The model of a trial is
            saved by the process that follows its checkpoints.
    """

    hyperparameters: Hyperparameters
    initial_weights: dict[str, Tensor] | None
    provenance: dict[str, Any]
    threads: int
    checkpoint_every_s: float
    saves_model: bool = True


def train_worker(config: dict[str, Any]) -> None:
    """Train as one worker of Ray Train; the first worker saves the model.

    Args:
        config: under ``job`` the reference of a `WorkerJob`, under ``data`` those of the data,
            under ``keeper`` the `Keeper`. They are references because Ray Train's controller
            unpacks the function too.

    Raises:
        ResourceError: the memory of the worker or its device is too small.
        LostConnectionError: the connection to the other workers broke.
        WorkerFaultError: any other error, which is a bug.
    """
    try:
        with refusing_memory_errors():
            job = ray.get(config["job"])
            train_model(job, config["keeper"], config["data"], TorchCollective(), get_device())
    except (LstmfcnError, *LOST):
        raise
    except Exception as error:
        if isinstance(error, RuntimeError) and _is_connection_error(error):
            # Another worker was lost, or failed by an error of its own, which is the one to
            # report: Ray ends this worker as soon as it knows
            time.sleep(_SECONDS_TO_NOTICE)
            raise LostConnectionError(str(error).splitlines()[0]) from error
        raise WorkerFaultError(traceback.format_exc()) from error


def _is_connection_error(error: RuntimeError) -> bool:
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error)


def train_alone(config: dict[str, Any]) -> None:
    """Train as the only worker, in the process of the command, and save the model.

    Args:
        config: under ``job`` a `WorkerJob`, under ``keeper`` a `Keeper`, under ``data`` a
            `LoadingThread`, under ``device`` the name of a PyTorch device.

    Raises:
        ResourceError: the memory of the machine or its device is too small.
    """
    with refusing_memory_errors():
        device = torch.device(config["device"])
        train_model(config["job"], config["keeper"], config["data"], SingleProcess(), device)


class WorkerFaultError(Exception):
    """A bug in a worker, with its traceback; the training is not tried again."""


class LostConnectionError(Exception):
    """The other workers cannot be reached, and Ray has not noticed why."""


def train_model(
    job: WorkerJob,
    keeper: Keeper,
    data: TrainingData,
    collective: Collective,
    device: torch.device,
) -> None:
    """Train from the newest checkpoint on; the first worker saves the model if the job says so."""
    info, rows, validation = data.get()
    hyperparameters = job.hyperparameters
    context = WorkerContext(collective.rank, collective.world_size, device)
    torch.set_num_threads(min(job.threads, available_cpus()))  # Ray's may be more than there are
    state, task, batches = set_up(
        rows, info.schema, hyperparameters, job.initial_weights, collective, context
    )
    checkpoints = Checkpoints(keeper, job.checkpoint_every_s)
    state.restore_newest(checkpoints)
    if collective.rank == 0:
        keeper.start(state.position.epoch)
    batches_to_evaluate = EvaluationLoader(validation, context) if validation else None
    try:
        fit(
            state,
            task,
            batches,
            batches_to_evaluate,
            hyperparameters,
            keeper.add_epochs,
            checkpoints,
        )
    finally:
        keeper.flush()
    if collective.rank == 0 and job.saves_model:
        hardware = Hardware(collective.world_size, device.type, state.precision)
        artifact = build_artifact(job, info, state.best_weights, state.best, hardware)
        if validation:
            artifact = calibrate(artifact, validation, device)
        keeper.save_model(artifact.to_files())


class Hardware(NamedTuple):
    """What a model was trained on, as model.json has it."""

    num_workers: int
    device: str
    precision: PrecisionName


def build_artifact(
    job: WorkerJob,
    info: DatasetInfo,
    weights: dict[str, Tensor],
    best: EpochMetrics,
    hardware: Hardware,
) -> Artifact:
    """The best epoch's model, with how it came to be."""
    return Artifact(
        hyperparameters=job.hyperparameters,
        schema=info.schema,
        scaler=info.scaler,
        weights=weights,
        metrics=best,
        training={
            **job.provenance,
            "train_rows": info.training.rows,
            "train_sha256": info.train_sha256,
            "validation_rows": info.validation.rows if info.validation else 0,
            **hardware._asdict(),
        },
    )


@contextmanager
def refusing_memory_errors() -> Iterator[None]:
    """Raise PyTorch's failures to allocate memory as a one-line error.

    Raises:
        ResourceError: the memory, or that of the device, is too small.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        is_memory = isinstance(error, MemoryError)
        if not is_memory and not any(phrase in str(error) for phrase in _ALLOCATION_FAILURES):
            raise
        reason = str(error).partition("\n")[0][:200] or "MemoryError"
        raise ResourceError(
            f"out of memory in a worker ({reason}); lower --batch-size or the sizes of the network"
        ) from error


class TorchCollective:
    """The workers of this Ray Train run, as the training loop sees them."""

    def __init__(self) -> None:
        self._notice, self._asked_at = None, time.monotonic()
        context = ray.train.get_context()
        self.rank: int = context.get_world_rank()
        self.world_size: int = context.get_world_size()
        if get_device().type == "cuda":
            torch.cuda.set_device(get_device())  # NCCL exchanges tensors of the current one

    def all_reduce(self, totals: Tensor) -> Tensor:
        """Sum over workers, in place."""
        if self.world_size > 1:
            torch.distributed.all_reduce(totals)
        return totals

    def average_buffers(self, model: nn.Module) -> None:
        """Replace running statistics, which differ by worker, by their mean over workers."""
        if self.world_size == 1:
            return
        for buffer in model.buffers():
            if buffer.is_floating_point():
                torch.distributed.all_reduce(buffer)
                buffer /= self.world_size

    def all_gather(self, numbers: Tensor) -> Tensor:
        """Collect every worker's numbers (n,), as rows of (W, n)."""
        if self.world_size == 1:
            return numbers.unsqueeze(0)
        rows = [torch.empty_like(numbers) for _ in range(self.world_size)]
        torch.distributed.all_gather(rows, numbers)
        return torch.stack(rows)

    def broadcast(self, wish: bool) -> bool:
        """The first worker's value, on all workers."""
        return bool(self._broadcast(int(wish)))

    def wants_checkpoint(self, due: bool) -> bool:
        """Whether the first worker's checkpoint is due, or a machine will be taken away soon."""
        asks = time.monotonic() - self._asked_at >= _ASK_EVERY_S
        decision = self._broadcast(2 * asks + due)
        has_notice = decision >= 2 and self._has_new_notice()
        return has_notice or decision % 2 == 1

    def _broadcast(self, number: int) -> int:
        if self.world_size == 1:
            return number
        numbers = torch.tensor(number, device=get_device())
        torch.distributed.broadcast(numbers, src=0)
        return int(numbers)

    def _has_new_notice(self) -> bool:
        """Whether Ray Train knows of a machine that will be taken away; all workers ask at once."""
        self._asked_at = time.monotonic()
        ask = getattr(ray.train, "get_preemption_info", None)  # from Ray 2.60 on
        notice = ask() if ask else None
        is_new = notice is not None and notice != self._notice
        self._notice = notice
        return is_new
