"""``lstmfcn train``: check the request, start Ray if it needs Ray, and train one model."""

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
from lstmfcn.data.dataset import MemoryLimitError
from lstmfcn.data.listing import Data
from lstmfcn.distributed.capacity import memory_bytes
from lstmfcn.distributed.cluster import has_cluster, ray_runtime, this_process
from lstmfcn.distributed.read import exceeds_memory
from lstmfcn.distributed.requests import (
    Resources,
    TrainInputs,
    TrainRequest,
    read_inputs,
)
from lstmfcn.errors import OutputError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.storage.outputs import run_folder
from lstmfcn.storage.places import Place, absolute, within
from lstmfcn.tracking.follow import tracked_members, tracking
from lstmfcn.training.metrics_log import EpochMetrics, mean_metrics, read_metrics
from lstmfcn.training.run_directory import (
    METRICS,
    MODEL,
    RUN_FILES,
    RunConfig,
    TrackerName,
    find_run_position,
    hold_run_folder,
    list_member_folders,
)
from lstmfcn.tuning.sweep import SWEEP_FILES, SweepConfig

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    """What a training wrote.

    Attributes:
        output: the folder of the run, or its URI as a text.
        model: the model directory in it, with the weights of the best epoch.
        best: the best epoch's metrics: ``epoch``, ``train_loss``, ``valid_accuracy``, ...
        history: the metrics of each epoch, in order; for an ensemble, the means over its members.
    """

    output: Place
    model: Place
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
    """Train a model on shards, and write the files that `lstmfcn.training.run_directory` lists.

    Args:
        data: training shards: a file, folder, glob or URI, or several; None with ``resume``.
        output: a folder without a run on this machine, or the URI of one, such as
            ``s3://bucket/run``; workers on other machines need not see it.
        validation: validation shards; they decide which epoch is the best one.
        model: a model directory to continue from, or its URI.
        hyperparameters: of the network and the training; see `Hyperparameters`.
        resources: CPUs, GPUs and memory to use.
        checkpoint_every_s: seconds between checkpoints.
        resume: resume the run in the output folder.
        track: the trackers to log to; None for those of the run to resume, or none.
        overwrite: replace the run or the sweep in the output folder.

    Returns:
        The model directory, the metrics of all epochs, and those of the best epoch.

    Raises:
        UserError: data, output, model or cluster cannot be used. A run that had not started leaves
            nothing behind, one that had can be resumed.
        TrainingError: the loss became infinite or nan.
    """
    started = time.time()
    request = TrainRequest(data, validation, model, hyperparameters, track, output)
    with run_folder(output, (*RUN_FILES, *SWEEP_FILES), resume=resume) as folder:
        earlier_run = RunConfig.load(folder) if resume else None
        if earlier_run is None:
            config = request.new_run(folder, resume, overwrite)
        else:
            config = _resumed_run(request, earlier_run, folder)
            if metrics := _finished_metrics(folder, config):
                _send_to_trackers(folder, config)
                return _result(output, folder, config, metrics)
        resources.refuse_more_than_this_machine()
        inputs = read_inputs(config, folder)
        with (
            hold_run_folder(folder, (*RUN_FILES, *SWEEP_FILES) if overwrite else ()),
            _tracking(folder, inputs.config, resumed=earlier_run is not None),
        ):
            best = _run(inputs, resources, checkpoint_every_s, started)
        return _result(output, folder, inputs.config, best)


def _run(
    inputs: TrainInputs,
    resources: Resources,
    checkpoint_every_s: float,
    started: float,
    in_blocks: bool = False,
) -> EpochMetrics:
    """Train; once more, on blocks, if the rows turn out to take more memory than they may."""
    try:
        with _runtime(inputs, resources, in_blocks) as ray_stays:
            from lstmfcn.distributed.train_driver import run_training  # imports PyTorch

            return run_training(
                inputs, resources, checkpoint_every_s, started, ray_stays, in_blocks
            )
    except MemoryLimitError as error:
        logger.info("%s: reading them again, into blocks", error)
    return _run(inputs, resources, checkpoint_every_s, started, in_blocks=True)


def _runtime(
    inputs: TrainInputs, resources: Resources, in_blocks: bool
) -> AbstractContextManager[bool]:
    """Ray, or this process alone if there is no cluster and it is enough for work and rows."""
    one_worker = resources.num_workers == inputs.hyperparameters.members == 1
    if (
        one_worker
        and not has_cluster()
        and not in_blocks
        and not exceeds_memory(inputs.datasets, memory_bytes(resources.memory_gb))
    ):
        return this_process()
    return ray_runtime(meanwhile="lstmfcn.distributed.train_driver")


def _result(output: Place, folder: Path, config: RunConfig, best: EpochMetrics) -> TrainingResult:
    paths = [each / METRICS for each in list_member_folders(folder, config.hyperparameters.members)]
    history = mean_metrics([read_metrics(path) for path in paths if path.exists()])
    place = absolute(output)
    return TrainingResult(place, within(place, MODEL), best, history)


def _resumed_run(request: TrainRequest, earlier_run: RunConfig, folder: Path) -> RunConfig:
    """The configuration of the run to resume, with what may change.

    Raises:
        OutputError: the folder holds a sweep.
        HyperparameterError: a hyperparameter is not that of the run.
    """
    if SweepConfig.load(folder):
        raise OutputError(f"{folder}: holds a sweep, not a training; name another --output")
    hyperparameters = earlier_run.apply_resume_changes(request.hyperparameters)
    config = request.resumed_run(earlier_run)
    return config.model_copy(update={"hyperparameters": hyperparameters})


def _finished_metrics(folder: Path, config: RunConfig) -> EpochMetrics | None:
    """The best epoch's metrics if all epochs are done; None if some are left to train."""
    epochs, members = config.hyperparameters.epochs, config.hyperparameters.members
    position = find_run_position(folder, members, logger.info)
    if position.epoch >= epochs and (folder / MODEL).exists():
        from lstmfcn.model.artifact import Artifact

        done = "the epoch is" if epochs == 1 else f"all {epochs:,} epochs are"
        logger.info("%s: %s already done", folder, done)
        return Artifact.load(folder / MODEL).metrics
    logger.info("%s: resuming after %s of %s", folder, position, pluralize(epochs, "epoch"))
    return None


def _send_to_trackers(folder: Path, config: RunConfig) -> None:
    """Send what the trackers of a finished run could not be sent while it ran."""
    if config.track:
        with hold_run_folder(folder), _tracking(folder, config, resumed=True):
            logger.debug("%s: sending metrics to %s", folder, ", ".join(config.track))


def _tracking(folder: Path, config: RunConfig, *, resumed: bool) -> AbstractContextManager[None]:
    runs = tracked_members(config.hyperparameters)
    return tracking(config.track, folder, lambda: runs, resumed=resumed)
