"""Train the members of an ensemble, each in a Ray task of its own, and save them as one model."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import ray
import torch

from lstmfcn.distributed.cluster import TRAINING_ENVIRONMENT
from lstmfcn.distributed.failures import (
    LOST,
    RestartBudget,
    failure_reason,
    reporting_ray_errors,
    unwrap_ray_error,
)
from lstmfcn.distributed.keeper import RemoteKeeper
from lstmfcn.distributed.load import DatasetRefs
from lstmfcn.distributed.requests import WorkerResources
from lstmfcn.distributed.worker import WorkerJob, refusing_memory_errors, train_model
from lstmfcn.errors import RunInterruptedError
from lstmfcn.model.artifact import Artifact
from lstmfcn.training.batches import EvaluationLoader
from lstmfcn.training.calibration import calibrate
from lstmfcn.training.collective import SingleProcess
from lstmfcn.training.ensemble import combine_members, member_weights
from lstmfcn.training.keeper import FolderKeeper, Keeper
from lstmfcn.training.metrics_log import mean_metrics, read_metrics
from lstmfcn.training.run_directory import METRICS, MODEL, list_member_folders

logger = logging.getLogger(__name__)


def train_members(
    job: WorkerJob, keeper: Any, folder: Path, data: DatasetRefs, resources: WorkerResources
) -> None:
    """Train as many members at a time as the cluster has room for, and save the ensemble.

    A member whose process is lost resumes from its newest checkpoint.

    Args:
        job: the job of the whole ensemble.
        keeper: the handle of the `KeeperActor`.
        folder: of the run.
        data: the rows.
        resources: CPUs and GPU of each member.

    Raises:
        ResourceError: a member was lost several times without progress.
        LstmfcnError: a member raised it.
    """
    options = {
        "num_cpus": resources.cpus_per_worker,
        "num_gpus": int(resources.use_gpu),
        "max_retries": 0,
        "runtime_env": {"env_vars": TRAINING_ENVIRONMENT},
    }
    train = ray.remote(**options)(_train_member)
    jobs = _member_jobs(job)
    folders = list_member_folders(folder, len(jobs))
    keepers = [RemoteKeeper(keeper, member) for member in folders]
    budgets = [RestartBudget(member.name, f"member {k}") for k, member in enumerate(folders)]

    def start(k: int) -> Any:
        return train.remote(jobs[k], keepers[k], data, resources.device)

    pending = {start(k): k for k in range(len(jobs))}
    try:
        with reporting_ray_errors("the process that combines the members"):
            interrupted = None
            while pending:
                (ended,), _ = ray.wait(list(pending))
                k = pending.pop(ended)
                try:
                    reason = _failure_reason(ended)
                except RunInterruptedError as stop:  # the others still write their checkpoints
                    interrupted = stop
                    continue
                if reason:
                    budgets[k].spend(reason, keepers[k].renew())
                    pending[start(k)] = k
                else:
                    logger.info("member %d is trained", k)
            if interrupted:
                raise interrupted
            combine = ray.remote(**options | {"num_gpus": 0, "max_retries": 3})(_combine_members)
            members = [Artifact.load(member / MODEL) for member in folders]
            ensemble = cast(Artifact, ray.get(combine.remote(job, members, data)))
            _save(ensemble, folder, folders)
    finally:
        for task in pending:
            ray.cancel(task)


def _member_jobs(job: WorkerJob) -> list[WorkerJob]:
    members = job.hyperparameters.split_into_members()
    weights = member_weights(job.initial_weights, len(members)) if job.initial_weights else None
    return [
        replace(
            job,
            hyperparameters=hyperparameters,
            initial_weights=weights[k] if weights else None,
            provenance={**job.provenance, "member": k},
        )
        for k, hyperparameters in enumerate(members)
    ]


def _train_member(job: WorkerJob, keeper: Keeper, data: DatasetRefs, device: str) -> None:
    with refusing_memory_errors():
        train_model(job, keeper, data, SingleProcess(), torch.device(device))


def _failure_reason(task: Any) -> str | None:
    """Why a member's process was lost; None if the member is trained.

    Raises:
        LstmfcnError: the member raised it.
    """
    try:
        ray.get(task)
    except LOST as error:
        return failure_reason([str(error)])
    except ray.exceptions.RayTaskError as error:
        raise unwrap_ray_error(error) or error from None
    return None


def _combine_members(job: WorkerJob, members: list[Artifact], data: DatasetRefs) -> Artifact:
    """Combine the members to one model, calibrated if there are validation rows."""
    torch.set_num_threads(job.threads)
    _, rows, validation = data.get()
    batches = {"train": EvaluationLoader(rows)}
    if validation:
        batches["valid"] = EvaluationLoader(validation)
    ensemble = combine_members(members, job.hyperparameters, batches)
    return calibrate(ensemble, validation) if validation else ensemble


def _save(ensemble: Artifact, folder: Path, member_folders: list[Path]) -> None:
    """Save the model, and the means of its members' metrics."""
    keeper = FolderKeeper(folder)
    keeper.start(0)
    keeper.add_epochs(*mean_metrics([read_metrics(member / METRICS) for member in member_folders]))
    keeper.save_model(ensemble.to_files())
