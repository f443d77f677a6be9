"""Train the members of an ensemble, each in a Ray task of its own, and make them one model."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, cast

import ray
import torch

from lstmfcn.artifact import Artifact
from lstmfcn.batches import EvaluationBatches
from lstmfcn.calibration import calibrated
from lstmfcn.distributed.allotment import Allotment
from lstmfcn.distributed.losses import (
    LOST,
    Losses,
    own_error,
    reason_of_loss,
    telling_losses,
)
from lstmfcn.distributed.prepare import PreparedRefs
from lstmfcn.distributed.runtime import TRAINING_ENVIRONMENT
from lstmfcn.distributed.training_run import TrainingRun, refusing_memory_errors, train_model
from lstmfcn.ensemble import ensemble_of, member_weights
from lstmfcn.errors import StoppedError
from lstmfcn.metrics_file import EpochMetrics, MetricsWriter, mean_metrics, read_metrics
from lstmfcn.run_folder import CHECKPOINTS, METRICS, MODEL, member_folders
from lstmfcn.workers import OneWorker

logger = logging.getLogger(__name__)


def train_members(run: TrainingRun, data: PreparedRefs, allotment: Allotment) -> EpochMetrics:
    """Train all members, as many at a time as the cluster has room for, and save the ensemble.

    A member whose process is lost goes on from its newest checkpoint.

    Returns:
        The ensemble's metrics.

    Raises:
        ResourceError: a member was lost several times without any progress between.
        LstmfcnError: what a member raised.
    """
    runs = _runs_of_members(run)
    resources = {
        "num_cpus": allotment.cpus_per_worker,
        "num_gpus": int(allotment.use_gpu),
        "max_retries": 0,
        "runtime_env": {"env_vars": TRAINING_ENVIRONMENT},
    }
    train = ray.remote(**resources)(_train_member)
    device = allotment.device
    pending = {train.remote(member, data, device): k for k, member in enumerate(runs)}
    losses = [
        Losses(member.output / CHECKPOINTS, f"member {k} was", f"member {k} was")
        for k, member in enumerate(runs)
    ]
    try:
        with telling_losses("the process that makes the members one model"):
            stopped = None
            while pending:
                (ended,), _ = ray.wait(list(pending))
                k = pending.pop(ended)
                try:
                    reason = _why_lost(ended)
                except StoppedError as stop:  # the others still write their checkpoints
                    stopped = stop
                    continue
                if reason:
                    losses[k].count(reason)
                    pending[train.remote(runs[k], data, device)] = k
                else:
                    logger.info("member %d is trained", k)
            if stopped:
                raise stopped
            combine = ray.remote(**resources | {"num_gpus": 0, "max_retries": 3})(_combine)
            return cast(EpochMetrics, ray.get(combine.remote(run, data)))
    finally:
        for left in pending:
            ray.cancel(left)


def _runs_of_members(run: TrainingRun) -> list[TrainingRun]:
    members = run.hyperparameters.of_members()
    weights = member_weights(run.initial_weights, len(members)) if run.initial_weights else None
    return [
        replace(
            run,
            hyperparameters=hyperparameters,
            initial_weights=weights[k] if weights else None,
            record={**run.record, "member": k},
            output=folder,
        )
        for k, (hyperparameters, folder) in enumerate(
            zip(members, member_folders(run.output, len(members)), strict=True)
        )
    ]


def _train_member(run: TrainingRun, data: PreparedRefs, device: str) -> None:
    run.output.mkdir(parents=True, exist_ok=True)
    with refusing_memory_errors():
        train_model(run, data, OneWorker(), torch.device(device))


def _why_lost(task: Any) -> str | None:
    """Why a member's process ended; None where the member is trained.

    Raises:
        LstmfcnError: what the member raised.
    """
    try:
        ray.get(task)
    except LOST as error:
        return reason_of_loss([str(error)])
    except ray.exceptions.RayTaskError as error:
        raise own_error(error) or error from None
    return None


def _combine(run: TrainingRun, data: PreparedRefs) -> EpochMetrics:
    """Save the members as one model, and the means of their metrics; returns the model's own."""
    torch.set_num_threads(run.threads)
    rows, held_out = ray.get(data.training), ray.get(data.validation)
    folders = member_folders(run.output, run.hyperparameters.members)
    batches = {"train": EvaluationBatches(rows)}
    if held_out:
        batches["valid"] = EvaluationBatches(held_out)
    members = [Artifact.load(folder / MODEL) for folder in folders]
    ensemble = ensemble_of(members, run.hyperparameters, batches)
    if held_out:
        ensemble = calibrated(ensemble, held_out)
    with MetricsWriter(run.output / METRICS) as writer:
        for metrics in mean_metrics([read_metrics(folder / METRICS) for folder in folders]):
            writer(metrics)
    ensemble.save(run.output / MODEL)
    return ensemble.metrics
