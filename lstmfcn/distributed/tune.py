"""``lstmfcn tune``: check all that needs no Ray, start Ray, and search hyperparameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lstmfcn.data.listing import Data
from lstmfcn.distributed.cluster import ray_runtime
from lstmfcn.distributed.requests import (
    CheckedSweep,
    Resources,
    SweepLimits,
    TrainRequest,
    read_inputs,
)
from lstmfcn.errors import HyperparameterError, OutputError
from lstmfcn.hyperparameters import Hyperparameters, to_flag
from lstmfcn.storage.outputs import fetched, run_folder
from lstmfcn.storage.places import Place, absolute, within
from lstmfcn.tracking.base import TrackedRun
from lstmfcn.tracking.follow import tracking
from lstmfcn.training.run_directory import (
    MODEL,
    RUN_FILES,
    RunConfig,
    TrackerName,
    hold_run_folder,
    refuse_changes,
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
        output: the folder of the sweep, or its URI as a text.
        model: the model directory in it: that of the best trial.
        best: the best trial: its number, hyperparameters and metrics.
        objective: the metric that trials are compared by, ``objective.metric``, and whether it is
            minimised or maximised, ``objective.mode``.
        defaults: the trial with the default hyperparameters; None if there was none.
    """

    output: Place
    model: Place
    best: TrialResult
    objective: Objective
    defaults: TrialResult | None = None

    @cached_property
    def trials(self) -> pd.DataFrame:
        """The table ``trials.csv``: one row per trial, with its hyperparameters and metrics."""
        import pandas as pd

        with fetched(self.output, (TRIALS,)) as folder:
            return pd.read_csv(folder / TRIALS)


def tune(
    data: Data | None,
    output: str | Path,
    *,
    validation: Data | None = None,
    model: str | Path | None = None,
    hyperparameters: Hyperparameters = Hyperparameters(),
    search: SearchConfig = SearchConfig(),
    resources: Resources = Resources(),
    limits: SweepLimits = SweepLimits(),
    resume: bool = False,
    track: Sequence[TrackerName] | None = None,
    overwrite: bool = False,
) -> SweepResult:
    """Search hyperparameters, and write the files of `lstmfcn.tuning.sweep` and `run_directory`.

    Args:
        data: training shards: a file, folder, glob or URI, or several; None with ``resume``.
        output: a folder without a sweep on this machine, or the URI of one, such as
            ``s3://bucket/sweep``; trials on other machines need not see it.
        validation: validation shards.
        model: a model directory that every trial continues from, or its URI.
        hyperparameters: those that are set are not searched.
        search: the space, the number of trials, the metric and how to choose and stop trials.
        resources: CPUs, GPUs and memory that each trial uses.
        limits: how many trials run at a time, and for how long.
        resume: resume the sweep in the output folder.
        track: the trackers to log to; None for those of the sweep to resume, or none.
        overwrite: replace the run or the sweep in the output folder.

    Returns:
        The best trial, its model directory, and all trials as a table.

    Raises:
        UserError: data, output, space, model or cluster cannot be used.
        TrainingError: no trial finished.
    """
    request = TrainRequest(data, validation, model, hyperparameters, track, output)
    with run_folder(output, (*RUN_FILES, *SWEEP_FILES), resume=resume) as folder:
        config, sweep, resumed = _configs(request, search, folder, resume, overwrite)
        task = None if config.model else config.hyperparameters.task  # else it is the model's
        Objective(sweep.metric).refuse_unknown(config.validation is not None, task)
        space = sweep.search_space()
        if config.model:
            space.refuse_for_loaded_model(sweep.space)
        resources.refuse_more_than_this_machine()
        inputs = read_inputs(config, folder)
        refuse_ensembles(inputs.hyperparameters)
        checked = CheckedSweep(inputs, sweep, space, resources, limits)
        with hold_run_folder(folder, (*RUN_FILES, *SWEEP_FILES) if overwrite else ()):
            log = SweepLog(folder)
            with (
                tracking(
                    inputs.config.track,
                    folder,
                    lambda: tracked_trials(inputs.hyperparameters, log.events),
                    resumed=resumed,
                ),
                sweep_plotter() as draw,
                ray_runtime(meanwhile="lstmfcn.distributed.tune_driver"),
            ):
                from lstmfcn.distributed.tune_driver import run_sweep  # imports PyTorch

                best = run_sweep(checked, log, draw)
            first = log.trials[0] if sweep.defaults_first else None
            defaults = first if first and first.number == 1 else None
            place = absolute(output)
            return SweepResult(place, within(place, MODEL), best, checked.objective, defaults)


def _configs(
    request: TrainRequest, search: SearchConfig, folder: Path, resume: bool, overwrite: bool
) -> tuple[RunConfig, SweepConfig, bool]:
    """The configurations of a new sweep or of the one to resume, and whether it is resumed.

    Raises:
        UserError: a new sweep has no data or no free folder; one to resume is a training, or has
            other settings.
    """
    earlier_run = RunConfig.load(folder) if resume else None
    earlier_sweep = SweepConfig.load(folder) if resume else None
    if earlier_run and not earlier_sweep:
        raise OutputError(f"{folder}: holds a training, not a sweep; name another --output")
    if earlier_run is None or earlier_sweep is None:
        config = request.new_run(folder, resume, overwrite)
        return config, SweepConfig.create(search, request.hyperparameters.model_fields_set), False
    refuse_changes(earlier_run.hyperparameters, request.hyperparameters)
    return request.resumed_run(earlier_run), earlier_sweep.apply_resume_changes(search), True


def refuse_ensembles(hyperparameters: Hyperparameters) -> None:
    """Refuse to search the hyperparameters of an ensemble.

    Raises:
        HyperparameterError: there are several members.
    """
    if hyperparameters.members > 1:
        raise HyperparameterError(
            f"members: found {hyperparameters.members}; a sweep trains single networks; leave "
            "members out, and give it to lstmfcn train with the hyperparameters that the sweep "
            "finds"
        )


def tracked_trials(
    fixed: Hyperparameters, events: Sequence[TrialStarted | TrialResult]
) -> list[TrackedRun]:
    """The sweep and its trials so far, as trackers log them.

    Args:
        fixed: the hyperparameters that are not searched.
        events: starts and ends of trials, in order.
    """
    flags = fixed.to_flags()
    runs = {"": TrackedRun("", flags)}
    for event in list(events):  # a copy: the sweep adds to them meanwhile
        name = str(trial_folder(Path(), event.number))
        searched = {to_flag(field): value for field, value in event.hyperparameters.items()}
        runs[name] = TrackedRun(name, {**flags, **searched})
        if isinstance(event, TrialResult):
            runs[name] = replace(runs[name], state=event.status, reason=event.reason)
    return list(runs.values())
