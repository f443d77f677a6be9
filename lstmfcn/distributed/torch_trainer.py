"""Ray Train's TorchTrainer with its controller in this process, which has all of it imported.

As an actor the controller is a process of its own, whose workers wait until it has imported Ray
Train and PyTorch: on two cores that is 2 to 3 seconds of every start.
"""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import Any

import ray
from ray.train import Result
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy
from ray.train.v2._internal.execution.worker_group import Worker, WorkerGroup

from lstmfcn.distributed.runtime import quiet
from lstmfcn.terminal import is_verbose


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
        with nullcontext() if is_verbose() else quiet("ray.train"):
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
