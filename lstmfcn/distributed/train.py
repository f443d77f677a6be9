"""Train one model on Ray: check all that needs no Ray, start Ray, and run."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lstmfcn.counts import number
from lstmfcn.data_arguments import Data
from lstmfcn.distributed.inputs import Asked, Inputs, read_inputs
from lstmfcn.distributed.own_ray import refuse_more_than_this_machine
from lstmfcn.distributed.runtime import ray_runtime
from lstmfcn.errors import OutputError
from lstmfcn.files import local_path
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.records import TrackerName
from lstmfcn.run_folder import MODEL, RunRecord, run_folder, run_position
from lstmfcn.sweep_record import SweepRecord
from lstmfcn.tracking import members_tracked, tracking

if TYPE_CHECKING:
    from lstmfcn.metrics_file import EpochMetrics

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resources:
    """What of the cluster a training may take; None is what `lstmfcn.distributed.run` settles.

    Attributes:
        num_workers: workers that share every batch.
        min_workers: the fewest that training goes on with where machines are lost.
        cpus_per_worker: CPUs, and so threads, of each.
        use_gpu: whether each has a GPU.
        memory_gb: the most that all rows may take in memory.
    """

    num_workers: int = 1
    min_workers: int | None = None
    cpus_per_worker: int | None = None
    use_gpu: bool | None = None
    memory_gb: float | None = None

    def refuse_more_than_this_machine(self) -> None:
        """Refuse what cannot be had, where there is no cluster.

        Raises:
            ResourceError: names the flags.
        """
        refuse_more_than_this_machine(self.num_workers, self.cpus_per_worker, self.use_gpu)


@dataclass(frozen=True)
class Request:
    """A training that may begin: its headers were read and agree, its output folder may be used."""

    inputs: Inputs
    folder: Path
    resources: Resources
    checkpoint_every_s: float
    began: float


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
    """Train on shards and write what `lstmfcn.run_folder` lists.

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
    asked = Asked(train, validation, model, hyperparameters, track)
    known = record = RunRecord.load(folder) if resume else None
    if record and SweepRecord.load(folder):
        raise OutputError(f"{folder}: holds a sweep, not a training; name another --output")
    if record is None:
        record = asked.begin(folder, resume)
    else:
        resumed = record.resumed_with(hyperparameters)
        record = asked.found_at(record).model_copy(update={"hyperparameters": resumed})
        if done := _done_already(folder, record):
            if record.track:
                with run_folder(folder), _tracking(folder, record, resumed=True):
                    pass  # sends what could not be sent before
            return done
    resources.refuse_more_than_this_machine()
    request = Request(read_inputs(record), folder, resources, checkpoint_every_s, began)
    with (
        run_folder(folder),
        _tracking(folder, request.inputs.record, resumed=known is not None),
        ray_runtime(meanwhile="lstmfcn.distributed.run") as ray_stays,
    ):
        from lstmfcn.distributed.run import run  # imports PyTorch, while Ray started

        return run(request, ray_stays)


def _tracking(folder: Path, record: RunRecord, *, resumed: bool) -> AbstractContextManager[None]:
    runs = members_tracked(record.hyperparameters)
    return tracking(record.track, folder, lambda: runs, resumed=resumed)


def _done_already(folder: Path, record: RunRecord) -> EpochMetrics | None:
    """The metrics of a run that has nothing left to do; else tell where it goes on."""
    epochs, members = record.hyperparameters.epochs, record.hyperparameters.members
    position = run_position(folder, members, logger.info)
    if position.epoch >= epochs and (folder / MODEL).exists():
        from lstmfcn.artifact import Artifact

        done = "the epoch was" if epochs == 1 else f"all {epochs:,} epochs were"
        logger.info("%s: %s done already", folder, done)
        return Artifact.load(folder / MODEL).metrics
    logger.info("%s: going on after %s of %s", folder, position, number(epochs, "epoch"))
    return None
