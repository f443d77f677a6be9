"""Train the members of an ensemble, each in a Ray task of its own, and save them as one model."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

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
from lstmfcn.distributed.load import DatasetRefs
from lstmfcn.distributed.requests import WorkerResources
from lstmfcn.distributed.worker import WorkerJob, refusing_memory_errors, train_model
from lstmfcn.errors import RunInterruptedError
from lstmfcn.model.artifact import Artifact
from lstmfcn.training.batches import EvaluationLoader
from lstmfcn.training.calibration import calibrate
from lstmfcn.training.collective import SingleProcess
from lstmfcn.training.ensemble import combine_members, member_weights
from lstmfcn.training.metrics_log import MetricsWriter, mean_metrics, read_metrics
from lstmfcn.training.run_directory import CHECKPOINTS, METRICS, MODEL, list_member_folders

logger = logging.getLogger(__name__)


def train_members(job: WorkerJob, data: DatasetRefs, resources: WorkerResources) -> None:
    """Train as many members at a time as the cluster has room for, and save the ensemble.

    A member whose process is lost resumes from its newest checkpoint.

    Args:
        job: the job of the whole ensemble.
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
    budgets = [RestartBudget(jobs[k].output / CHECKPOINTS, f"member {k}") for k in range(len(jobs))]
    pending = {train.remote(jobs[k], data, resources.device): k for k in range(len(jobs))}
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
                    budgets[k].spend(reason)
                    pending[train.remote(jobs[k], data, resources.device)] = k
                else:
                    logger.info("member %d is trained", k)
            if interrupted:
                raise interrupted
            combine = ray.remote(**options | {"num_gpus": 0, "max_retries": 3})(_combine_members)
            ray.get(combine.remote(job, data))
    finally:
        for task in pending:
            ray.cancel(task)


def _member_jobs(job: WorkerJob) -> list[WorkerJob]:
    members = job.hyperparameters.split_into_members()
    weights = member_weights(job.initial_weights, len(members)) if job.initial_weights else None
    folders = list_member_folders(job.output, len(members))
    return [
        replace(
            job,
            hyperparameters=hyperparameters,
            initial_weights=weights[k] if weights else None,
            provenance={**job.provenance, "member": k},
            output=folder,
        )
        for k, (hyperparameters, folder) in enumerate(zip(members, folders, strict=True))
    ]


def _train_member(job: WorkerJob, data: DatasetRefs, device: str) -> None:
    job.output.mkdir(parents=True, exist_ok=True)
    with refusing_memory_errors():
        train_model(job, data, SingleProcess(), torch.device(device))


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


def _combine_members(job: WorkerJob, data: DatasetRefs) -> None:
    """Save the members as one model, and the means of their metrics."""
    torch.set_num_threads(job.threads)
    _, rows, validation = data.get()
    folders = list_member_folders(job.output, job.hyperparameters.members)
    batches = {"train": EvaluationLoader(rows)}
    if validation:
        batches["valid"] = EvaluationLoader(validation)
    members = [Artifact.load(folder / MODEL) for folder in folders]
    ensemble = combine_members(members, job.hyperparameters, batches)
    if validation:
        ensemble = calibrate(ensemble, validation)
    with MetricsWriter(job.output / METRICS) as writer:
        for metrics in mean_metrics([read_metrics(folder / METRICS) for folder in folders]):
            writer(metrics)
    ensemble.save(job.output / MODEL)
