"""Search hyperparameters on Ray: check all that needs no Ray, start Ray, and sweep."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lstmfcn.distributed.runtime import ray_runtime
from lstmfcn.distributed.train import Resources
from lstmfcn.errors import DataError, OutputError
from lstmfcn.hyperparameters import Hyperparameters, resume_with
from lstmfcn.reading import ShardSet, survey
from lstmfcn.records import refuse_changes
from lstmfcn.run_folder import RunRecord, refuse_used, run_folder
from lstmfcn.search_space import SearchSpace
from lstmfcn.sweep import Objective, Trial
from lstmfcn.sweep_record import Search, SweepRecord

if TYPE_CHECKING:
    from lstmfcn.artifact import Artifact

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """How much a sweep may take.

    Attributes:
        max_concurrent: trials at a time; None for as many as the cluster has room for.
        time_budget_s: seconds in which trials may run.
    """

    max_concurrent: int | None = None
    time_budget_s: float | None = None


@dataclass(frozen=True)
class SweepRequest:
    """A sweep that may begin: headers were read and agree, its output folder may be used."""

    record: RunRecord
    sweep: SweepRecord
    space: SearchSpace
    training: ShardSet
    validation: ShardSet | None
    start: Artifact | None
    folder: Path
    resources: Resources
    limits: Limits

    @property
    def objective(self) -> Objective:
        """What trials are compared by."""
        return Objective(self.sweep.metric)


def tune(
    train: str | None,
    output: str,
    *,
    validation: str | None = None,
    model: str | None = None,
    hyperparameters: Hyperparameters = Hyperparameters(),
    search: Search = Search(),
    resources: Resources = Resources(),
    limits: Limits = Limits(),
    resume: bool = False,
) -> Trial:
    """Search hyperparameters, and write what `lstmfcn.sweep` and `lstmfcn.run_folder` list.

    Args:
        train: training shards: a file, folder, glob or URI; may be None with ``resume``.
        output: a folder that holds no sweep yet, on storage that all machines share.
        validation: validation shards.
        model: a model directory that every trial continues from.
        hyperparameters: those that are given are not searched.
        search: how to search.
        resources: what of the cluster each trial takes.
        limits: how much the sweep may take.
        resume: go on with the sweep that the output folder holds.

    Returns:
        The best trial.

    Raises:
        UserError: data, output, space, model or cluster do not allow it.
        TrainingError: no trial finished.
    """
    folder = Path(output).absolute()
    record = RunRecord.load(folder) if resume else None
    known = SweepRecord.load(folder) if resume else None
    if record and not known:
        raise OutputError(f"{folder}: holds a training, not a sweep; name another --output")
    if record is None or known is None:
        if train is None:
            raise DataError("no training data", "name it with --train")
        refuse_used(folder)
        if resume:
            logger.info("%s: nothing to resume there; starting anew", folder)
        record = RunRecord(
            train=train, validation=validation, model=model, hyperparameters=hyperparameters
        )
        sweep = SweepRecord.of(search, hyperparameters.model_fields_set)
    else:
        given = {"train": train, "validation": validation, "model": model}
        changes = {name: value for name, value in given.items() if value is not None}
        refuse_changes(record.hyperparameters, hyperparameters)
        record = record.model_copy(update=changes)
        sweep = known.resumed_with(search)
    request = _request(record, sweep, folder, resources, limits)
    with run_folder(folder), ray_runtime(meanwhile="lstmfcn.distributed.sweep_run"):
        from lstmfcn.distributed.sweep_run import run  # imports PyTorch, while Ray started

        return run(request)


def _request(
    record: RunRecord,
    sweep: SweepRecord,
    folder: Path,
    resources: Resources,
    limits: Limits,
) -> SweepRequest:
    """Read the headers, and the model to continue from.

    Raises:
        UserError: they do not fit.
    """
    Objective(sweep.metric).refuse_unknown(record.validation is not None)
    space = sweep.search_space()
    start = None
    if record.model:
        space.refuse_for_loaded_model(sweep.space)
        from lstmfcn.artifact import Artifact  # imports PyTorch

        start = Artifact.load(record.model)
        continued = resume_with(start.hyperparameters, record.hyperparameters, logger.info)
        record = record.model_copy(update={"hyperparameters": continued})
    training = survey(record.train, record.hyperparameters.task, start.schema if start else None)
    validation = survey(record.validation, schema=training.schema) if record.validation else None
    if ignored := training.ignored_columns():
        logger.info("columns not used: %s", ", ".join(ignored))
    return SweepRequest(
        record, sweep, space, training, validation, start, folder, resources, limits
    )
