"""Run workers on Ray Train's TorchTrainer, for a run or inside a trial; again where some were lost.

Its controller runs in this process, which has all of it imported. As an actor the controller is a
process of its own, whose workers wait until it has imported Ray Train and PyTorch: on two cores
that is 2 to 3 seconds of every start.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Sequence
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
from lstmfcn.distributed.load import DatasetInfo, DatasetRefs
from lstmfcn.distributed.losses import MACHINE_GONE, RestartBudget, failure_reason, unwrap_ray_error
from lstmfcn.distributed.requests import WorkerResources
from lstmfcn.distributed.worker import (
    Hardware,
    LostConnectionError,
    WorkerJob,
    build_artifact,
    train_worker,
)
from lstmfcn.signals import in_thread
from lstmfcn.storage.scratch import scratch_folder
from lstmfcn.training.checkpoints import Checkpoints
from lstmfcn.training.metrics_log import EpochMetrics, read_metrics
from lstmfcn.training.run_directory import CHECKPOINTS, METRICS, MODEL

_CONNECT_TIMEOUT_S = 5.0
_NOTICE_TIMEOUT_S = 60.0
"""Ray takes 15 seconds to notice that a machine is gone, and longer where nothing comes back."""


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

Report = Callable[[Sequence[EpochMetrics], EpochMetrics, bool], None]

logger = logging.getLogger(__name__)

_POLL_INTERVAL_S = 0.5


def alive_node_ids() -> set[str]:
    """The ids of the machines that Ray counts on."""
    return {node["NodeID"] for node in alive_nodes()}


def await_lost_nodes(before: set[str]) -> bool:
    """Wait until Ray, too, knows of the machines that do not answer.

    It would else place workers there, and wait for them for a minute.

    Args:
        before: `alive_node_ids` of a time when all was well.

    Returns:
        Whether any of those are gone.
    """
    silent = {node["NodeID"] for node in alive_nodes() if not _answers(node)}
    deadline = time.monotonic() + _NOTICE_TIMEOUT_S
    while silent & alive_node_ids() and time.monotonic() < deadline:
        time.sleep(0.2)
    # Ray Train asks this actor for room, which looks at the machines every 20 seconds only
    coordinator = get_or_create_autoscaling_coordinator()
    ray.get(coordinator.get_reserved_resources.remote("lstmfcn", recompute=True))
    return bool(before - alive_node_ids() | silent)


def _answers(node: dict[str, Any]) -> bool:
    address = node["NodeManagerAddress"], node["NodeManagerPort"]
    try:
        socket.create_connection(address, timeout=_CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True


class Trainer(TorchTrainer):
    """TorchTrainer without the processes that this training has no use for.

    Beside the controller's: one that hands out Ray Data splits, of which there are none, and one
    that frees what a run holds whose controller was killed while its driver lives on. Nor does it
    appear on the dashboard's page of trainings (RAY_TRAIN_ENABLE_STATE_TRACKING), which wants a
    controller that is an actor.
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
    """Try again where there was no room for the workers; who was lost is for the caller to tell."""

    def _is_retryable_error(self, training_failed_error: Exception) -> bool:
        failure = getattr(training_failed_error, "controller_failure", None)
        return isinstance(failure, WorkerGroupStartupTimeoutError)


class _Workers(WorkerGroup):
    def _init_train_context_on_workers(
        self, workers: list[Worker], sync_actor: Any, train_context_args: dict[str, list[Any]]
    ) -> None:
        """As Ray Train does, but for the controller's handle: there is none, nor who asks for it.

        Only ``ray.train.get_all_reported_checkpoints`` would; the checkpoints are our own.
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


def train_until_done(
    run: WorkerJob,
    data: DatasetRefs,
    allotment: WorkerResources,
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
    losses = RestartBudget(run.output / CHECKPOINTS, "a worker was", "workers were", tell)
    while True:
        nodes = alive_node_ids()
        try:
            result = _trainer(config, allotment, storage).fit()
            return cast(EpochMetrics, result.return_value)
        except ray.train.TrainingFailedError as error:
            if own := unwrap_ray_error(error):
                raise own from None
            reason = _failure_reason(error)
            if reason is None:
                raise
            if await_lost_nodes(nodes):
                reason = MACHINE_GONE
        losses.count(reason)


def _trainer(config: dict[str, Any], allotment: WorkerResources, storage: Path) -> Trainer:
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


def _failure_reason(error: ray.train.TrainingFailedError) -> str | None:
    """Why a worker's process or machine ended; None where a worker failed by an error of its own.

    Workers that wait for a lost one fail too, by an error of the network.
    """
    failures = [*getattr(error, "worker_failures", {}).values()]
    failures += [getattr(error, "controller_failure", None)]
    lost = [str(failure) for failure in failures if isinstance(failure, _LOST)]
    if not lost:
        return None
    return failure_reason(lost)


def train_on_workers(
    run: WorkerJob, data: DatasetRefs, allotment: WorkerResources, report: Report
) -> None:
    """Train as `lstmfcn train` does, and report until the end, or until Ray Tune stops the trial.

    Args:
        report: takes the metrics of all epochs so far, those of the best, and whether it was the
            last.

    Raises:
        LstmfcnError: what the training ended with.
    """
    run.stop_file.unlink(missing_ok=True)  # of a sweep that was interrupted
    prepared: DatasetInfo = ray.get(data.prepared)
    relay = _Relay(run, prepared, allotment, report)
    with scratch_folder() as storage:
        training = in_thread(lambda: train_until_done(run, data, allotment, storage))
        try:
            while not training.done():
                time.sleep(_POLL_INTERVAL_S)
                relay.look()
        except SystemExit:  # Ray Tune has heard enough
            run.stop_file.touch()
            training.exception()
            run.stop_file.unlink(missing_ok=True)
            raise
        training.result()  # raises what it ended with
    relay.look(ended=True)


class _Relay:
    """Reports what the newest checkpoint holds, whose best weights it saves as a model first.

    Nobody else saves the trial's model: two at a time would replace the folder under each other.
    """

    def __init__(
        self, run: WorkerJob, prepared: DatasetInfo, allotment: WorkerResources, report: Report
    ) -> None:
        self._run, self._prepared, self._report = run, prepared, report
        self._allotment, self._reported = allotment, 0

    def look(self, *, ended: bool = False) -> None:
        """Report, where there is an epoch more; the last one when the training has ended."""
        found = Checkpoints(self._run.output / CHECKPOINTS).load_newest()
        if found is None:
            return
        (epoch, _), state = found
        finished = epoch == self._run.hyperparameters.epochs
        if epoch <= self._reported or (finished and not ended):
            return
        allotment = self._allotment
        trained_on = Hardware(allotment.num_workers, allotment.device, state["precision"])
        artifact = build_artifact(
            self._run, self._prepared, state["best_weights"], state["best"], trained_on
        )
        artifact.save(self._run.output / MODEL)
        self._reported = epoch
        history = read_metrics(self._run.output / METRICS)[:epoch]
        self._report(history, state["best"], finished)
