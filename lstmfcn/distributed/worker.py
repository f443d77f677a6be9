"""What each Ray Train worker runs: a training, together with the other workers."""

from __future__ import annotations

import time
from typing import Any, cast

import ray
import ray.train
import torch
import torch.distributed
from ray.train.torch import get_device, prepare_model
from torch import Tensor, nn

from lstmfcn.distributed.training_run import refusing_memory_errors, train_model
from lstmfcn.metrics_file import EpochMetrics

_SECONDS_TO_NOTICE = 60.0
"""Ray takes about 20 to notice that a machine is gone."""


class LostConnectionError(Exception):
    """The other workers cannot be reached, and Ray has not noticed why."""


def train_worker(config: dict[str, Any]) -> EpochMetrics | None:
    """Train; the first worker returns the kept epoch's metrics, of the model that it saves.

    Args:
        config: under ``run`` the reference of a `TrainingRun`, under ``data`` those of the data.
            References, because Ray Train's controller unpacks the config too.

    Raises:
        ResourceError: the worker's memory, or its device's, is too small.
        LostConnectionError: the connection to the other workers broke.
    """
    try:
        with refusing_memory_errors():
            return train_model(ray.get(config["run"]), config["data"], RayWorkers(), get_device())
    except RuntimeError as error:
        if isinstance(error, torch.distributed.DistError) or "gloo" in str(error):
            # Some worker is lost, or failed by an error of its own, which is what has to be told:
            # Ray ends this one as soon as it knows
            time.sleep(_SECONDS_TO_NOTICE)
            raise LostConnectionError(str(error).splitlines()[0]) from error
        raise


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

    def gather(self, numbers: Tensor) -> Tensor:
        """Every worker's numbers (n,), as rows of (W, n)."""
        if self.world_size == 1:
            return numbers.unsqueeze(0)
        rows = [torch.empty_like(numbers) for _ in range(self.world_size)]
        torch.distributed.all_gather(rows, numbers)
        return torch.stack(rows)

    def agree(self, wish: bool) -> bool:
        """What the first worker wishes."""
        if self.world_size == 1:
            return wish
        decision = torch.tensor(int(wish), device=get_device())
        torch.distributed.broadcast(decision, src=0)
        return bool(decision)
