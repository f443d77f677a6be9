"""Run workers on Ray Train's TorchTrainer, and start them again after a process was lost."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Set
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train.torch import TorchConfig, TorchTrainer

from lstmfcn.console import is_verbose
from lstmfcn.distributed.capacity import alive_nodes, capacity, nodes
from lstmfcn.distributed.cluster import TRAINING_ENVIRONMENT, silence_logger
from lstmfcn.distributed.failures import (
    MACHINE_GONE,
    NO_ROOM,
    RestartBudget,
    failure_reason,
    unwrap_ray_error,
)
from lstmfcn.distributed.keeper import RemoteKeeper
from lstmfcn.distributed.load import DatasetRefs, LoadingThread
from lstmfcn.distributed.requests import WorkerResources
from lstmfcn.distributed.worker import WorkerFaultError, WorkerJob, train_alone, train_worker
from lstmfcn.training.keeper import Keeper

_CONNECT_TIMEOUT_S = 5.0
_NOTICE_TIMEOUT_S = 60.0
"""Ray takes 15 seconds to notice that a machine is gone, and longer if nothing comes back."""

_START_ATTEMPTS = 10
"""Each attempt waits for a minute; a cluster takes some minutes to start a machine."""

_COLLECTIVE_TIMEOUT_S = 300

_STARTUP_FAILURES = ("WorkerGroupStartupFailedError", "WorkerGroupStartupTimeoutError")
"""What Ray Train's controller fails with if workers do not start; their classes are not public."""

_KNOWS_PREEMPTION = hasattr(ray.train, "PreemptionError")  # from Ray 2.60 on
_PREEMPTED = (ray.train.PreemptionError,) if _KNOWS_PREEMPTION else ()
_PREEMPTION_LIMIT: dict[str, Any] = {"max_preemption_failures": 0} if _KNOWS_PREEMPTION else {}
"""A machine that was taken away, as announced, is no failure: `train_until_done` starts again."""

logger = logging.getLogger(__name__)


def train_until_done(
    job: WorkerJob,
    keeper: RemoteKeeper,
    data: DatasetRefs,
    resources: WorkerResources,
    storage: Path,
) -> None:
    """Train on workers; if one is lost, all start again from the newest checkpoint.

    Args:
        job: what each worker does.
        keeper: keeps what they leave; each attempt but the first renews it.
        data: the rows.
        resources: how many workers, and what each has.
        storage: a folder for what Ray Train's controller writes, which nobody reads. No worker
            looks for it, because none reports a checkpoint to Ray Train.

    Raises:
        ResourceError: workers were lost several times without progress, or there is no room.
        LstmfcnError: a worker raised it.
    """
    config = {"job": ray.put(job), "data": data}
    name = keeper.folder.name
    budget = RestartBudget(name, "a worker")
    starts, n_workers = 0, resources.num_workers
    leaving: set[str] = set()
    while True:
        nodes_before = _alive_node_ids()
        try:
            with nullcontext() if is_verbose() else silence_logger("ray.train"):
                attempt = config | {"keeper": keeper}
                _trainer(name, attempt, resources, n_workers, storage).fit()
        except _PREEMPTED as notice:
            logger.warning("a machine is taken away; continuing from the newest checkpoint")
            leaving.update(notice.preemption_info.preempted_node_to_ranks)
            keeper.renew()
            n_workers = _count_fitting_workers(resources, leaving)
            continue
        except ray.train.TrainingFailedError as error:
            if ours := unwrap_ray_error(error):
                raise ours from None
            if not _is_loss(error):
                raise
            reason = failure_reason([str(error)])
        else:
            return
        if reason == NO_ROOM and starts < _START_ATTEMPTS:
            starts += 1
        else:
            if _await_lost_nodes(nodes_before):
                reason = MACHINE_GONE
            budget.spend(reason, keeper.renew())
        n_workers = _count_fitting_workers(resources, leaving)


def train_in_this_process(
    job: WorkerJob,
    keeper: Keeper,
    data: LoadingThread,
    resources: WorkerResources,
    storage: Path,
) -> None:
    """Train by Ray Train's local mode: in this process, without Ray's own processes.

    Args:
        job: what to do.
        keeper: keeps what the training leaves.
        data: the rows.
        resources: what this process has.
        storage: a folder for what Ray Train writes, which nobody reads.

    Raises:
        LstmfcnError: the training raised it.
    """
    with silence_logger("ray.train"):  # it says that it runs in local mode
        trainer = TorchTrainer(
            train_alone,
            train_loop_config={
                "job": job,
                "keeper": keeper,
                "data": data,
                "device": resources.device,
            },
            scaling_config=ray.train.ScalingConfig(num_workers=0, use_gpu=resources.use_gpu),
            run_config=ray.train.RunConfig(storage_path=str(storage), name="lstmfcn"),
        )
        trainer.fit()


def _count_fitting_workers(resources: WorkerResources, leaving: Set[str]) -> int:
    """How many workers to continue with on the machines that are up and stay."""
    room = capacity(nodes(leaving), resources.cpus_per_worker, int(resources.use_gpu))
    return min(max(room, resources.min_workers), resources.num_workers)


def _trainer(
    name: str,
    config: dict[str, Any],
    resources: WorkerResources,
    n_workers: int,
    storage: Path,
) -> TorchTrainer:
    each = {"CPU": resources.cpus_per_worker, "GPU": int(resources.use_gpu)}
    return TorchTrainer(
        partial(train_worker, config),  # not as its config, which the dashboard writes as JSON
        scaling_config=ray.train.ScalingConfig(
            num_workers=n_workers, use_gpu=resources.use_gpu, resources_per_worker=each
        ),
        run_config=ray.train.RunConfig(
            storage_path=str(storage),
            name=name,  # on the dashboard
            worker_runtime_env={"env_vars": TRAINING_ENVIRONMENT},
            # `RestartBudget` decides: it knows whether there was progress
            failure_config=ray.train.FailureConfig(
                max_failures=0, controller_failure_limit=0, **_PREEMPTION_LIMIT
            ),
        ),
        torch_config=TorchConfig(timeout_s=_COLLECTIVE_TIMEOUT_S),
    )


def _is_loss(error: ray.train.TrainingFailedError) -> bool:
    """Whether a process or a machine was lost; otherwise the code of a worker has a bug."""
    if isinstance(error, ray.train.ControllerError):
        return type(error.controller_failure).__name__ in _STARTUP_FAILURES
    return unwrap_ray_error(error, WorkerFaultError) is None


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
