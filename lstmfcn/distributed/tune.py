"""Search hyperparameters on Ray: check all that needs no Ray, start Ray, and sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lstmfcn.data.listing import Data
from lstmfcn.distributed.cluster import ray_runtime
from lstmfcn.distributed.requests import CheckedSweep, Limits, Resources, TrainRequest, read_inputs
from lstmfcn.errors import HyperparameterError, OutputError
from lstmfcn.hyperparameters import Hyperparameters, to_flag
from lstmfcn.storage.files import local_path
from lstmfcn.tracking.base import TrackedRun
from lstmfcn.tracking.follow import tracking
from lstmfcn.training.run_directory import (
    MODEL,
    RUN_FILES,
    RunConfig,
    TrackerName,
    refuse_changes,
    run_folder,
)
from lstmfcn.tuning.plotter import sweep_plotter
from lstmfcn.tuning.sweep import (
    SWEEP_FILES,
    TRIALS,
    Objective,
    SearchConfig,
    SweepConfig,
    SweepLog,
    TrialResult,
    TrialStarted,
    trial_folder,
)

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class SweepResult:
    """What a sweep found and wrote.

    Attributes:
        output: the folder of the sweep.
        model: the model directory, in it: that of the best trial.
        best: the best trial: its number, hyperparameters and metrics.
        objective: the metric that trials were compared by, ``objective.metric``, and whether it is
            minimised or maximised, ``objective.mode``.
        defaults: the trial that had the default hyperparameters; None where there was none.
    """

    output: Path
    model: Path
    best: TrialResult
    objective: Objective
    defaults: TrialResult | None = None

    @cached_property
    def trials(self) -> pd.DataFrame:
        """The table ``trials.csv``: one row per trial, with its hyperparameters and metrics."""
        import pandas as pd

        return pd.read_csv(self.output / TRIALS)


def tune(
    data: Data | None,
    output: str | Path,
    *,
    validation: Data | None = None,
    model: str | Path | None = None,
    hyperparameters: Hyperparameters = Hyperparameters(),
    search: SearchConfig = SearchConfig(),
    resources: Resources = Resources(),
    limits: Limits = Limits(),
    resume: bool = False,
    track: Sequence[TrackerName] | None = None,
    overwrite: bool = False,
) -> SweepResult:
    """Search hyperparameters, and write what `lstmfcn.tuning.sweep` and `run_directory` list.

    Args:
        data: training shards: a file, folder, glob or URI, or several; None with ``resume``.
        output: a folder that holds no sweep yet, on storage that all machines share.
        validation: validation shards.
        model: a model directory that every trial continues from.
        hyperparameters: those that are given are not searched.
        search: how to search.
        resources: what of the cluster each trial takes.
        limits: how much the sweep may take.
        resume: go on with the sweep that the output folder holds.
        track: what to track it by; None for what the sweep to resume has, or nothing.
        overwrite: replace the run or the sweep that the output folder holds.

    Returns:
        The best trial, its model directory, and all trials as a table.

    Raises:
        UserError: data, output, space, model or cluster do not allow it.
        TrainingError: no trial finished.
    """
    folder = local_path(output).absolute()
    asked = TrainRequest(data, validation, model, hyperparameters, track)
    record = RunConfig.load(folder) if resume else None
    known = SweepConfig.load(folder) if resume else None
    if record and not known:
        raise OutputError(f"{folder}: holds a training, not a sweep; name another --output")
    if record is None or known is None:
        record = asked.begin(folder, resume, overwrite)
        sweep = SweepConfig.of(search, hyperparameters.model_fields_set)
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
    refuse_ensembles(inputs.record.hyperparameters)
    request = CheckedSweep(inputs, sweep, space, folder, resources, limits)
    with run_folder(folder, (*RUN_FILES, *SWEEP_FILES) if overwrite else ()):
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

            best = run(request, log, draw)
        first = log.trials[0] if sweep.defaults_first else None
        defaults = first if first and first.number == 1 else None
        return SweepResult(folder, folder / MODEL, best, request.objective, defaults)


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
    flags = fixed.flags()
    runs = {"": TrackedRun("", flags)}
    for event in list(events):  # the sweep adds to them
        name = str(trial_folder(Path(), event.number))
        searched = {to_flag(field): value for field, value in event.hyperparameters.items()}
        runs[name] = TrackedRun(name, {**flags, **searched})
        if isinstance(event, TrialResult):
            runs[name] = replace(runs[name], state=event.status, reason=event.reason)
    return list(runs.values())
