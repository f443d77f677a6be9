"""Train one model on Ray: check all that needs no Ray, start Ray, and run."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
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
from lstmfcn.training.metrics_log import EpochMetrics, mean_metrics, read_metrics
from lstmfcn.training.run_directory import (
    METRICS,
    MODEL,
    RUN_FILES,
    RunConfig,
    TrackerName,
    member_folders,
    run_folder,
    run_position,
)
from lstmfcn.tuning.sweep import SWEEP_FILES, SweepConfig

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    """What a training wrote.

    Attributes:
        output: the folder of the run.
        model: the model directory, in it: that of the best epoch.
        best: the best epoch's metrics: ``epoch``, ``train_loss``, ``valid_accuracy``, ...
        history: the metrics of each epoch, in order; of an ensemble, the means over its members.
    """

    output: Path
    model: Path
    best: EpochMetrics
    history: Sequence[EpochMetrics] = field(repr=False)

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """The history as a table: one row per epoch, with the columns of ``metrics.jsonl``."""
        import pandas as pd

        return pd.DataFrame(self.history)


def train(
    data: Data | None,
    output: str | Path,
    *,
    validation: Data | None = None,
    model: str | Path | None = None,
    hyperparameters: Hyperparameters = Hyperparameters(),
    resources: Resources = Resources(),
    checkpoint_every_s: float = 30.0,
    resume: bool = False,
    track: Sequence[TrackerName] | None = None,
    overwrite: bool = False,
) -> TrainingResult:
    """Train on shards and write what `lstmfcn.training.run_directory` lists.

    Args:
        data: training shards: a file, folder, glob or URI, or several; None with ``resume``.
        output: a folder that holds no run yet, on storage that all machines share.
        validation: validation shards; decides which epoch is kept, where given.
        model: a model directory to continue from.
        hyperparameters: of the net and the training; see `Hyperparameters`.
        resources: what of the cluster to take.
        checkpoint_every_s: seconds between checkpoints.
        resume: go on with the run that the output folder holds.
        track: what to track it by; None for what the run to resume has, or nothing.
        overwrite: replace the run or the sweep that the output folder holds.

    Returns:
        The model directory, the metrics of all epochs, and those of the best epoch.

    Raises:
        UserError: data, output, model or cluster do not allow it; a run that was not begun leaves
            nothing behind, one that was can be resumed.
        TrainingError: the loss became infinite or nan.
    """
    began = time.time()
    folder = local_path(output).absolute()
    asked = TrainRequest(data, validation, model, hyperparameters, track)
    known = record = RunConfig.load(folder) if resume else None
    if record and SweepConfig.load(folder):
        raise OutputError(f"{folder}: holds a sweep, not a training; name another --output")
    if record is None:
        record = asked.begin(folder, resume, overwrite)
    else:
        resumed = record.resumed_with(hyperparameters)
        record = asked.found_at(record).model_copy(update={"hyperparameters": resumed})
        if done := _finished_metrics(folder, record):
            if record.track:
                with run_folder(folder), _tracking(folder, record, resumed=True):
                    pass  # sends what could not be sent before
            return _result(folder, record, done)
    resources.refuse_more_than_this_machine()
    request = CheckedTraining(read_inputs(record), folder, resources, checkpoint_every_s, began)
    with (
        run_folder(folder, (*RUN_FILES, *SWEEP_FILES) if overwrite else ()),
        _tracking(folder, request.inputs.record, resumed=known is not None),
        ray_runtime(meanwhile="lstmfcn.distributed.train_driver") as ray_stays,
    ):
        from lstmfcn.distributed.train_driver import run  # imports PyTorch, while Ray started

        return _result(folder, request.inputs.record, run(request, ray_stays))


def _result(folder: Path, record: RunConfig, best: EpochMetrics) -> TrainingResult:
    folders = member_folders(folder, record.hyperparameters.members)
    paths = [each / METRICS for each in folders]
    history = mean_metrics([read_metrics(path) for path in paths if path.exists()])
    return TrainingResult(folder, folder / MODEL, best, history)


def _tracking(folder: Path, record: RunConfig, *, resumed: bool) -> AbstractContextManager[None]:
    runs = tracked_members(record.hyperparameters)
    return tracking(record.track, folder, lambda: runs, resumed=resumed)


def _finished_metrics(folder: Path, record: RunConfig) -> EpochMetrics | None:
    """The metrics of a run that has nothing left to do; else tell where it goes on."""
    epochs, members = record.hyperparameters.epochs, record.hyperparameters.members
    position = run_position(folder, members, logger.info)
    if position.epoch >= epochs and (folder / MODEL).exists():
        from lstmfcn.model.artifact import Artifact

        done = "the epoch was" if epochs == 1 else f"all {epochs:,} epochs were"
        logger.info("%s: %s done already", folder, done)
        return Artifact.load(folder / MODEL).metrics
    logger.info("%s: going on after %s of %s", folder, position, pluralize(epochs, "epoch"))
    return None
