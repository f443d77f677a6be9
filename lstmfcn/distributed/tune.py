"""Search hyperparameters on Ray: check all that needs no Ray, start Ray, and sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lstmfcn.data_arguments import Data
from lstmfcn.distributed.inputs import Asked, Inputs, read_inputs
from lstmfcn.distributed.runtime import ray_runtime
from lstmfcn.distributed.train import Resources
from lstmfcn.errors import HyperparameterError, OutputError
from lstmfcn.files import local_path
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.records import TrackerName, refuse_changes
from lstmfcn.run_folder import RunRecord, run_folder
from lstmfcn.search_space import SearchSpace
from lstmfcn.sweep import Objective, SweepLog, Trial
from lstmfcn.sweep_plotter import sweep_plotter
from lstmfcn.sweep_record import Search, SweepRecord
from lstmfcn.tracking import tracking, trials_tracked


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

    inputs: Inputs
    sweep: SweepRecord
    space: SearchSpace
    folder: Path
    resources: Resources
    limits: Limits

    @property
    def objective(self) -> Objective:
        """What trials are compared by."""
        return Objective(self.sweep.metric)


def tune(
    train: Data | None,
    output: str,
    *,
    validation: Data | None = None,
    model: str | None = None,
    hyperparameters: Hyperparameters = Hyperparameters(),
    search: Search = Search(),
    resources: Resources = Resources(),
    limits: Limits = Limits(),
    resume: bool = False,
    track: Sequence[TrackerName] | None = None,
) -> tuple[Trial, Objective]:
    """Search hyperparameters, and write what `lstmfcn.sweep` and `lstmfcn.run_folder` list.

    Args:
        train: training shards: a file, folder, glob or URI, or several; None with ``resume``.
        output: a folder that holds no sweep yet, on storage that all machines share.
        validation: validation shards.
        model: a model directory that every trial continues from.
        hyperparameters: those that are given are not searched.
        search: how to search.
        resources: what of the cluster each trial takes.
        limits: how much the sweep may take.
        resume: go on with the sweep that the output folder holds.
        track: what to track it by; None for what the sweep to resume has, or nothing.

    Returns:
        The best trial, and what it was compared by.

    Raises:
        UserError: data, output, space, model or cluster do not allow it.
        TrainingError: no trial finished.
    """
    folder = local_path(output).absolute()
    asked = Asked(train, validation, model, hyperparameters, track)
    record = RunRecord.load(folder) if resume else None
    known = SweepRecord.load(folder) if resume else None
    if record and not known:
        raise OutputError(f"{folder}: holds a training, not a sweep; name another --output")
    if record is None or known is None:
        record = asked.begin(folder, resume)
        sweep = SweepRecord.of(search, hyperparameters.model_fields_set)
    else:
        refuse_changes(record.hyperparameters, hyperparameters)
        record = asked.found_at(record)
        sweep = known.resumed_with(search)
    Objective(sweep.metric).refuse_unknown(record.validation is not None)
    space = sweep.search_space()
    if record.model:
        space.refuse_for_loaded_model(sweep.space)
    resources.refuse_more_than_this_machine()
    inputs = read_inputs(record)
    refuse_members(inputs.record.hyperparameters)
    request = SweepRequest(inputs, sweep, space, folder, resources, limits)
    with run_folder(folder):
        log = SweepLog(folder)
        with (
            tracking(
                inputs.record.track,
                folder,
                lambda: trials_tracked(inputs.record.hyperparameters, log.events),
                resumed=known is not None,
            ),
            sweep_plotter() as draw,
            ray_runtime(meanwhile="lstmfcn.distributed.sweep_run"),
        ):
            from lstmfcn.distributed.sweep_run import run  # imports PyTorch, while Ray started

            return run(request, log, draw), request.objective


def refuse_members(hyperparameters: Hyperparameters) -> None:
    """Refuse to sweep over ensembles.

    Raises:
        HyperparameterError: there are several members.
    """
    if hyperparameters.members > 1:
        raise HyperparameterError(
            f"members: found {hyperparameters.members}; a sweep trains single networks: leave it "
            "out, and give it to lstmfcn train together with what the sweep finds"
        )
