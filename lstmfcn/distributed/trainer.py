"""Run the workers on Ray Train's TorchTrainer, and start them again where some were lost."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import ray
import ray.train
from ray.train.torch import TorchConfig
from ray.train.v2._internal.exceptions import (
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)

from lstmfcn.checkpoints import newest_position
from lstmfcn.distributed.allotment import Allotment
from lstmfcn.distributed.lost_nodes import await_lost_nodes, living_ids
from lstmfcn.distributed.prepare import PreparedRefs
from lstmfcn.distributed.runtime import TRAINING_ENVIRONMENT, own_error
from lstmfcn.distributed.torch_trainer import Trainer
from lstmfcn.distributed.training_run import TrainingRun
from lstmfcn.distributed.worker import LostConnectionError, train_worker
from lstmfcn.errors import ResourceError
from lstmfcn.metrics_file import EpochMetrics
from lstmfcn.run_folder import CHECKPOINTS

_LOSSES_WITHOUT_PROGRESS = 3
_START_ATTEMPTS = 10
"""Each waits for a minute; a machine that a cluster starts anew takes a few."""
_COLLECTIVE_TIMEOUT_S = 300

_LOST = (
    LostConnectionError,
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)
_MACHINE_GONE = "its machine is gone"
_REASONS = {
    "running low on memory": "Ray ended it, because its machine ran low on memory",
    "node has died": _MACHINE_GONE,
    "startup timed out": "the cluster has no room for all of them",
    "health check hangs": "it does not answer",
    "": "its process was killed or crashed",
}
"""What to say, by a part of Ray's own long text; the first that fits."""

logger = logging.getLogger(__name__)


def train_until_done(
    run: TrainingRun,
    data: PreparedRefs,
    allotment: Allotment,
    storage: str,
    tell: Callable[[str], None] = logger.info,
) -> EpochMetrics:
    """Run the workers; where one is lost, all go on from the newest checkpoint.

    Args:
        storage: a folder for what Ray Train stores beside, which is of no use: checkpoints are our
            own.

    Returns:
        The kept epoch's metrics.

    Raises:
        ResourceError: workers were lost several times without any progress between.
        LstmfcnError: what a worker raised.
    """
    config = {"run": ray.put(run), "data": data}
    losses = Losses(run.output / CHECKPOINTS, "a worker was", "workers were", tell)
    while True:
        nodes = living_ids()
        try:
            result = _trainer(config, allotment, storage).fit()
            return cast(EpochMetrics, result.return_value)
        except ray.train.TrainingFailedError as error:
            if own := own_error(error):
                raise own from None
            reason = _why_lost(error)
            if reason is None:
                raise
            if await_lost_nodes(nodes):
                reason = _MACHINE_GONE
        losses.count(reason)


class Losses:
    """Counts losses at one and the same checkpoint.

    Args:
        checkpoints: of the training that goes on from them.
        once: who was lost, to tell of one loss: ``a worker was``.
        often: the same, to tell of several.
        tell: is told of each.
    """

    def __init__(
        self, checkpoints: Path, once: str, often: str, tell: Callable[[str], None] = logger.info
    ) -> None:
        self._checkpoints, self._once, self._often, self._tell = checkpoints, once, often, tell
        self._count, self._before = 0, newest_position(checkpoints, tell)

    def count(self, reason: str) -> None:
        """One more.

        Raises:
            ResourceError: it is the third without progress.
        """
        now = newest_position(self._checkpoints, self._tell)
        self._count = self._count + 1 if now == self._before else 1
        self._before = now
        if self._count == _LOSSES_WITHOUT_PROGRESS:
            raise ResourceError(
                f"{self._often} lost {self._count} times without progress, the last time because: "
                f"{reason}; if memory is short, lower --batch-size, --memory-gb or the net's "
                "sizes; go on with --resume"
            )
        self._tell(f"{self._once} lost ({reason}); starting again from {now}")


def _trainer(config: dict[str, Any], allotment: Allotment, storage: str) -> Trainer:
    num_workers: int | tuple[int, int] = allotment.num_workers
    if allotment.min_workers < allotment.num_workers:
        num_workers = (allotment.min_workers, allotment.num_workers)
    resources = {"CPU": allotment.cpus_per_worker, "GPU": int(allotment.use_gpu)}
    return Trainer(
        train_worker,
        train_loop_config=config,
        scaling_config=ray.train.ScalingConfig(
            num_workers=num_workers, use_gpu=allotment.use_gpu, resources_per_worker=resources
        ),
        run_config=ray.train.RunConfig(
            storage_path=storage,
            name="lstmfcn",
            worker_runtime_env={"env_vars": TRAINING_ENVIRONMENT},
            failure_config=ray.train.FailureConfig(controller_failure_limit=_START_ATTEMPTS),
        ),
        torch_config=TorchConfig(timeout_s=_COLLECTIVE_TIMEOUT_S),
    )


def _why_lost(error: ray.train.TrainingFailedError) -> str | None:
    """Why a worker's process or machine ended; None where a worker failed by an error of its own.

    Workers that wait for a lost one fail too, by an error of the network.
    """
    failures = [*getattr(error, "worker_failures", {}).values()]
    failures += [getattr(error, "controller_failure", None)]
    lost = [str(failure) for failure in failures if isinstance(failure, _LOST)]
    if not lost:
        return None
    return reason_of_loss(lost)


def reason_of_loss(told: list[str]) -> str:
    """Why a process ended, by Ray's own long texts."""
    return next((why for sign, why in _REASONS.items() if any(sign in text for text in told)), "")
