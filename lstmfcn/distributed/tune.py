"""Search hyperparameters on Ray: check all that needs no Ray, start Ray, and sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lstmfcn.data.listing import Data
from lstmfcn.distributed.cluster import ray_runtime
from lstmfcn.distributed.requests import CheckedSweep, Limits, Resources, TrainRequest, read_inputs
from lstmfcn.errors import HyperparameterError, OutputError
from lstmfcn.hyperparameters import Hyperparameters, to_flag
from lstmfcn.storage.files import local_path
from lstmfcn.tracking.base import TrackedRun
from lstmfcn.tracking.follow import tracking
from lstmfcn.training.run_directory import RunConfig, TrackerName, hold_run_folder, refuse_changes
from lstmfcn.tuning.plotter import sweep_plotter
from lstmfcn.tuning.sweep import (
    Objective,
    SearchConfig,
    SweepConfig,
    SweepLog,
    TrialResult,
    TrialStarted,
    trial_folder,
)


def tune(
    train: Data | None,
    output: str,
    *,
    validation: Data | None = None,
    model: str | None = None,
    hyperparameters: Hyperparameters = Hyperparameters(),
    search: SearchConfig = SearchConfig(),
    resources: Resources = Resources(),
    limits: Limits = Limits(),
    resume: bool = False,
    track: Sequence[TrackerName] | None = None,
) -> tuple[TrialResult, Objective]:
    """Search hyperparameters, and write what `lstmfcn.tuning.sweep` and `run_directory` list.

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
    asked = TrainRequest(train, validation, model, hyperparameters, track)
    record = RunConfig.load(folder) if resume else None
    known = SweepConfig.load(folder) if resume else None
    if record and not known:
        raise OutputError(f"{folder}: holds a training, not a sweep; name another --output")
    if record is None or known is None:
        record = asked.begin(folder, resume)
        sweep = SweepConfig.create(search, hyperparameters.model_fields_set)
    else:
        refuse_changes(record.hyperparameters, hyperparameters)
        record = asked.found_at(record)
        sweep = known.apply_resume_changes(search)
    Objective(sweep.metric).refuse_unknown(record.validation is not None)
    space = sweep.search_space()
    if record.model:
        space.refuse_for_loaded_model(sweep.space)
    resources.refuse_more_than_this_machine()
    inputs = read_inputs(record)
    refuse_ensembles(inputs.record.hyperparameters)
    request = CheckedSweep(inputs, sweep, space, folder, resources, limits)
    with hold_run_folder(folder):
        log = SweepLog(folder)
        with (
            tracking(
                inputs.record.track,
                folder,
                lambda: tracked_trials(inputs.record.hyperparameters, log.events),
                resumed=known is not None,
            ),
            sweep_plotter() as draw,
            ray_runtime(meanwhile="lstmfcn.distributed.tune_driver"),
        ):
            from lstmfcn.distributed.tune_driver import run  # imports PyTorch, while Ray started

            return run(request, log, draw), request.objective


def refuse_ensembles(hyperparameters: Hyperparameters) -> None:
    """Refuse to sweep over ensembles.

    Raises:
        HyperparameterError: there are several members.
    """
    if hyperparameters.members > 1:
        raise HyperparameterError(
            f"members: found {hyperparameters.members}; a sweep trains single networks: leave it "
            "out, and give it to lstmfcn train together with what the sweep finds"
        )


def tracked_trials(
    fixed: Hyperparameters, events: Sequence[TrialStarted | TrialResult]
) -> list[TrackedRun]:
    """A sweep, and its trials so far, of which some were asked for and some have ended."""
    flags = fixed.to_flags()
    runs = {"": TrackedRun("", flags)}
    for event in list(events):  # the sweep adds to them
        name = str(trial_folder(Path(), event.number))
        searched = {to_flag(field): value for field, value in event.hyperparameters.items()}
        runs[name] = TrackedRun(name, {**flags, **searched})
        if isinstance(event, TrialResult):
            runs[name] = replace(runs[name], state=event.status, reason=event.reason)
    return list(runs.values())
