"""Train one model on Ray: check all that needs no Ray, start Ray, and run."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from lstmfcn.console import pluralize
from lstmfcn.data.listing import Data
from lstmfcn.distributed.cluster import ray_runtime
from lstmfcn.distributed.requests import CheckedTraining, Resources, TrainRequest, read_inputs
from lstmfcn.errors import OutputError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.storage.files import local_path
from lstmfcn.tracking.follow import tracked_members, tracking
from lstmfcn.training.run_directory import (
    MODEL,
    RunConfig,
    TrackerName,
    find_run_position,
    hold_run_folder,
)
from lstmfcn.tuning.sweep import SweepConfig

if TYPE_CHECKING:
    from lstmfcn.training.metrics_log import EpochMetrics

logger = logging.getLogger(__name__)


def train(
    train: Data | None,
    output: str,
    *,
    validation: Data | None = None,
    model: str | None = None,
    hyperparameters: Hyperparameters = Hyperparameters(),
    resources: Resources = Resources(),
    checkpoint_every_s: float = 30.0,
    resume: bool = False,
    track: Sequence[TrackerName] | None = None,
) -> EpochMetrics:
    """Train on shards and write what `lstmfcn.training.run_directory` lists.

    Args:
        train: training shards: a file, folder, glob or URI, or several; None with ``resume``.
        output: a folder that holds no run yet, on storage that all machines share.
        validation: validation shards; decides which epoch is kept, where given.
        model: a model directory to continue from.
        hyperparameters: of the net and the training; see `Hyperparameters`.
        resources: what of the cluster to take.
        checkpoint_every_s: seconds between checkpoints.
        resume: go on with the run that the output folder holds.
        track: what to track it by; None for what the run to resume has, or nothing.

    Returns:
        The kept epoch's metrics.

    Raises:
        UserError: data, output, model or cluster do not allow it; a run that was not begun leaves
            nothing behind, one that was can be resumed.
        TrainingError: the loss became infinite or nan.
    """
    began = time.time()
    folder = local_path(output).absolute()
    asked = TrainRequest(train, validation, model, hyperparameters, track)
    known = record = RunConfig.load(folder) if resume else None
    if record and SweepConfig.load(folder):
        raise OutputError(f"{folder}: holds a sweep, not a training; name another --output")
    if record is None:
        record = asked.begin(folder, resume)
    else:
        resumed = record.apply_resume_changes(hyperparameters)
        record = asked.found_at(record).model_copy(update={"hyperparameters": resumed})
        if done := _finished_metrics(folder, record):
            if record.track:
                with hold_run_folder(folder), _tracking(folder, record, resumed=True):
                    pass  # sends what could not be sent before
            return done
    resources.refuse_more_than_this_machine()
    request = CheckedTraining(read_inputs(record), folder, resources, checkpoint_every_s, began)
    with (
        hold_run_folder(folder),
        _tracking(folder, request.inputs.record, resumed=known is not None),
        ray_runtime(meanwhile="lstmfcn.distributed.train_driver") as ray_stays,
    ):
        from lstmfcn.distributed.train_driver import run  # imports PyTorch, while Ray started

        return run(request, ray_stays)


def _tracking(folder: Path, record: RunConfig, *, resumed: bool) -> AbstractContextManager[None]:
    runs = tracked_members(record.hyperparameters)
    return tracking(record.track, folder, lambda: runs, resumed=resumed)


def _finished_metrics(folder: Path, record: RunConfig) -> EpochMetrics | None:
    """The metrics of a run that has nothing left to do; else tell where it goes on."""
    epochs, members = record.hyperparameters.epochs, record.hyperparameters.members
    position = find_run_position(folder, members, logger.info)
    if position.epoch >= epochs and (folder / MODEL).exists():
        from lstmfcn.model.artifact import Artifact

        done = "the epoch was" if epochs == 1 else f"all {epochs:,} epochs were"
        logger.info("%s: %s done already", folder, done)
        return Artifact.load(folder / MODEL).metrics
    logger.info("%s: going on after %s of %s", folder, position, pluralize(epochs, "epoch"))
    return None
