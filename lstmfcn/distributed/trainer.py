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

from lstmfcn.distributed.allotment import Allotment
from lstmfcn.distributed.losses import MACHINE_GONE, Losses, own_error, reason_of_loss
from lstmfcn.distributed.lost_nodes import await_lost_nodes, living_ids
from lstmfcn.distributed.prepare import PreparedRefs
from lstmfcn.distributed.runtime import TRAINING_ENVIRONMENT
from lstmfcn.distributed.torch_trainer import Trainer
from lstmfcn.distributed.training_run import TrainingRun
from lstmfcn.distributed.worker import LostConnectionError, train_worker
from lstmfcn.metrics_file import EpochMetrics
from lstmfcn.run_folder import CHECKPOINTS

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

logger = logging.getLogger(__name__)


def train_until_done(
    run: TrainingRun,
    data: PreparedRefs,
    allotment: Allotment,
    storage: Path,
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
                reason = MACHINE_GONE
        losses.count(reason)


def _trainer(config: dict[str, Any], allotment: Allotment, storage: Path) -> Trainer:
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
            storage_path=str(storage),
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
