"""Run workers on Ray Train's TorchTrainer, and start them again after a process was lost.

Ray Train's controller runs in this process, which has all of it imported. Otherwise it is an actor,
a process of its own whose workers wait until it has imported Ray Train and PyTorch: on two cores
that is 2 to 3 seconds of every start.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import ray
import ray.train
from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import (
    get_or_create_autoscaling_coordinator,
)
from ray.train import Result
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2._internal.exceptions import (
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy
from ray.train.v2._internal.execution.worker_group import Worker, WorkerGroup

from lstmfcn.console import is_verbose
from lstmfcn.distributed.cluster import TRAINING_ENVIRONMENT, alive_nodes, silence_logger
from lstmfcn.distributed.failures import (
    MACHINE_GONE,
    RestartBudget,
    failure_reason,
    unwrap_ray_error,
)
from lstmfcn.distributed.load import DatasetRefs, LoadingThread
from lstmfcn.distributed.requests import WorkerResources
from lstmfcn.distributed.worker import LostConnectionError, WorkerJob, train_alone, train_worker
from lstmfcn.training.metrics_log import EpochMetrics
from lstmfcn.training.run_directory import CHECKPOINTS

_CONNECT_TIMEOUT_S = 5.0
_NOTICE_TIMEOUT_S = 60.0
"""Ray takes 15 seconds to notice that a machine is gone, and longer if nothing comes back."""

_START_ATTEMPTS = 10
"""Each attempt waits for a minute; a cluster takes some minutes to start a machine."""

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
    job: WorkerJob, data: DatasetRefs, resources: WorkerResources, storage: Path
) -> EpochMetrics:
    """Train on workers; if one is lost, all start again from the newest checkpoint.

    Args:
        job: what each worker does.
        data: the rows.
        resources: how many workers, and what each has.
        storage: a folder for what Ray Train writes, which nobody reads.

    Returns:
        The best epoch's metrics.

    Raises:
        ResourceError: workers were lost several times without progress.
        LstmfcnError: a worker raised it.
    """
    config = {"job": ray.put(job), "data": data}
    budget = RestartBudget(job.output / CHECKPOINTS, "a worker")
    while True:
        nodes_before = _alive_node_ids()
        try:
            result = _trainer(config, resources, storage).fit()
            return cast(EpochMetrics, result.return_value)
        except ray.train.TrainingFailedError as error:
            if ours := unwrap_ray_error(error):
                raise ours from None
            reason = _failure_reason(error)
            if reason is None:
                raise
            if _await_lost_nodes(nodes_before):
                reason = MACHINE_GONE
        budget.spend(reason)


def train_in_this_process(
    job: WorkerJob, data: LoadingThread, resources: WorkerResources, storage: Path
) -> EpochMetrics:
    """Train by Ray Train's local mode: in this process, without Ray's own processes.

    Args:
        job: what to do.
        data: the rows.
        resources: what this process has.
        storage: a folder for what Ray Train writes, which nobody reads.

    Returns:
        The best epoch's metrics.

    Raises:
        LstmfcnError: the training raised it.
    """
    with silence_logger("ray.train"):  # it says that it runs in local mode
        trainer = TorchTrainer(
            train_alone,
            train_loop_config={"job": job, "data": data, "device": resources.device},
            scaling_config=ray.train.ScalingConfig(num_workers=0, use_gpu=resources.use_gpu),
            run_config=ray.train.RunConfig(storage_path=str(storage), name="lstmfcn"),
        )
        return cast(EpochMetrics, trainer.fit().return_value)


def _trainer(config: dict[str, Any], resources: WorkerResources, storage: Path) -> _Trainer:
    num_workers: int | tuple[int, int] = resources.num_workers
    if resources.min_workers < resources.num_workers:
        num_workers = (resources.min_workers, resources.num_workers)
    each = {"CPU": resources.cpus_per_worker, "GPU": int(resources.use_gpu)}
    return _Trainer(
        train_worker,
        train_loop_config=config,
        scaling_config=ray.train.ScalingConfig(
            num_workers=num_workers, use_gpu=resources.use_gpu, resources_per_worker=each
        ),
        run_config=ray.train.RunConfig(
            storage_path=str(storage),
            name="lstmfcn",
            worker_runtime_env={"env_vars": TRAINING_ENVIRONMENT},
            failure_config=ray.train.FailureConfig(controller_failure_limit=_START_ATTEMPTS),
        ),
        torch_config=TorchConfig(timeout_s=_COLLECTIVE_TIMEOUT_S),
    )


def _failure_reason(error: ray.train.TrainingFailedError) -> str | None:
    """Why a worker's process or machine was lost; None if a worker failed by an error of its own.

    Workers that wait for a lost one fail too, by an error of the network.
    """
    failures = [*getattr(error, "worker_failures", {}).values()]
    failures += [getattr(error, "controller_failure", None)]
    messages = [str(failure) for failure in failures if isinstance(failure, _LOST)]
    return failure_reason(messages) if messages else None


def _await_lost_nodes(nodes_before: set[str]) -> bool:
    """Wait until Ray, too, has noticed which machines do not answer.

    Otherwise it would place workers there, and wait for them for a minute.

    Args:
        nodes_before: `_alive_node_ids` before the failure.

    Returns:
        Whether any of those machines is gone.
    """
    silent = {node["NodeID"] for node in alive_nodes() if not _answers(node)}
    deadline = time.monotonic() + _NOTICE_TIMEOUT_S
    while silent & _alive_node_ids() and time.monotonic() < deadline:
        time.sleep(0.2)
    # Ray Train asks this actor for room; by itself it looks at the machines every 20 seconds only
    coordinator = get_or_create_autoscaling_coordinator()
    ray.get(coordinator.get_reserved_resources.remote("lstmfcn", recompute=True))
    return bool(nodes_before - _alive_node_ids() | silent)


def _alive_node_ids() -> set[str]:
    return {node["NodeID"] for node in alive_nodes()}


def _answers(node: dict[str, Any]) -> bool:
    address = node["NodeManagerAddress"], node["NodeManagerPort"]
    try:
        socket.create_connection(address, timeout=_CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True


class _Trainer(TorchTrainer):
    """TorchTrainer without the processes that this training does not use.

    Apart from the controller's, these are one that hands out Ray Data splits, of which there are
    none, and one that frees what a run holds after its controller was killed while its driver
    lives. The run does not appear on the dashboard's Train page either
    (RAY_TRAIN_ENABLE_STATE_TRACKING), which needs a controller that is an actor.
    """

    def _create_default_callbacks(self) -> list[Any]:
        unused = ("DatasetsCallback", "PlacementGroupCleanerCallback", "StateManagerCallback")
        callbacks = super()._create_default_callbacks()
        return [callback for callback in callbacks if type(callback).__name__ not in unused]

    def _initialize_and_run_controller(self, **arguments: Any) -> Result:
        with nullcontext() if is_verbose() else silence_logger("ray.train"):
            arguments["failure_policy"] = _FailurePolicy(self.run_config.failure_config)
            controller = _Controller(**arguments)
            asyncio.run(controller.run())
            return controller.get_result()


class _FailurePolicy(DefaultFailurePolicy):
    """Tries again if there was no room for the workers; `train_until_done` handles lost ones."""

    def _is_retryable_error(self, training_failed_error: Exception) -> bool:
        failure = getattr(training_failed_error, "controller_failure", None)
        return isinstance(failure, WorkerGroupStartupTimeoutError)


class _Workers(WorkerGroup):
    def _init_train_context_on_workers(
        self, workers: list[Worker], sync_actor: Any, train_context_args: dict[str, list[Any]]
    ) -> None:
        """Do as Ray Train does, without the handle of the controller, which is no actor here.

        Only ``ray.train.get_all_reported_checkpoints`` would use it; our checkpoints are files.
        """
        ray.get(
            [
                worker.actor.init_train_context.remote(
                    train_run_context=self._train_run_context,
                    distributed_context=worker.distributed_context,
                    synchronization_actor=sync_actor,
                    storage_context=self._storage_context,
                    worker_callbacks=self._worker_callbacks_to_propagate,
                    controller_actor=None,
                    **{name: values[rank] for name, values in train_context_args.items()},
                )
                for rank, worker in enumerate(workers)
            ]
        )
        self._decorate_worker_log_file_paths(workers)


class _Controller(TrainController):
    worker_group_cls = _Workers
