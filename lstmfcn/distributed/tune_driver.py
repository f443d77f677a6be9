"""The driver of a sweep, once Ray is up.

It has the data read once for all trials, lets Ray Tune run them, and keeps the best one's model.
"""

from __future__ import annotations

import gc
import logging
import traceback

import ray

from lstmfcn.console import pluralize
from lstmfcn.distributed.cluster import Node, capacity, nodes, require_shared_storage
from lstmfcn.distributed.failures import reporting_ray_errors
from lstmfcn.distributed.load import DatasetRefs, log_dataset, start_loading
from lstmfcn.distributed.requests import (
    CheckedSweep,
    Resources,
    WorkerResources,
    memory_bytes,
    resolve_resources,
)
from lstmfcn.distributed.trial import SweepContext
from lstmfcn.distributed.tuner import run_trials, rungs
from lstmfcn.errors import ResourceError, RunInterruptedError, TrainingError
from lstmfcn.hyperparameters import ScalingName
from lstmfcn.model.artifact import Artifact
from lstmfcn.training.calibration import calibrate, calibration_summary
from lstmfcn.training.run_directory import MODEL
from lstmfcn.tuning.plotter import Draw
from lstmfcn.tuning.progress import SweepProgress
from lstmfcn.tuning.search_space import Choice
from lstmfcn.tuning.sweep import SweepLog, TrialResult, trial_folder

logger = logging.getLogger(__name__)


def run_sweep(checked: CheckedSweep, log: SweepLog, draw: Draw) -> TrialResult:
    """Run the trials that the log does not have yet, and save the best one's model.

    Args:
        checked: the sweep.
        log: the trials so far.
        draw: draws the plots of a sweep's folder.

    Returns:
        The best trial.

    Raises:
        UserError: data, output or cluster cannot be used.
        TrainingError: no trial finished.
        RunInterruptedError: the user stopped the sweep.
    """
    machines = nodes()
    workers = _worker_resources(machines, checked.resources)
    cpus = workers.cpus_per_worker if workers else checked.resources.cpus_per_worker or 1
    if capacity(machines, cpus) < 1:
        raise ResourceError(f"no machine has {pluralize(cpus, 'CPU')}; lower --cpus-per-worker")
    require_shared_storage(checked.folder)
    checked.sweep.save(checked.folder)
    data = _load_for_each_scaling(checked, machines)
    context = SweepContext(
        fixed=checked.inputs.hyperparameters,
        data=data,
        base_model=checked.inputs.base_model,
        folder=checked.folder,
        metric=checked.objective.metric,
        rungs=frozenset(rungs(checked)),
        threads=cpus,
        workers=workers,
    )
    log.start()
    try:
        with SweepProgress(checked.sweep.num_samples, checked.objective, log.trials) as progress:
            run_trials(checked, context, log, progress)
    except (KeyboardInterrupt, SystemExit) as stop:
        logger.info("stopping (Ctrl-C again stops at once)")
        n_done, trials = len(log.trials), pluralize(checked.sweep.num_samples, "trial")
        traceback.clear_frames(stop.__traceback__)  # Tune's controller keeps the trials running
        gc.collect()
        message = f"stopped after {n_done} of {trials}"
        raise RunInterruptedError(message, resumable=True) from stop
    return _save_best(checked, log, draw, data)


def _worker_resources(machines: list[Node], requested: Resources) -> WorkerResources | None:
    """The workers of each trial; None if a trial trains in its own process, on CPUs."""
    has_gpu = any(node.gpus for node in machines)
    use_gpu = has_gpu if requested.use_gpu is None else requested.use_gpu
    has_workers = use_gpu or requested.num_workers > 1
    return resolve_resources(machines, requested) if has_workers else None


def _load_for_each_scaling(checked: CheckedSweep, machines: list[Node]) -> dict[str, DatasetRefs]:
    """The rows, read once for each scaling that trials may choose.

    Raises:
        UserError: the sweep cannot use the data.
    """
    memory_limit = memory_bytes(machines, checked.resources)
    scalings = _scalings(checked)
    data: dict[str, DatasetRefs] = {}
    for scaling in scalings:
        data[scaling] = start_loading(checked.inputs, 1, memory_limit // len(scalings), scaling)
        info = data[scaling].wait()
    log_dataset(info, memory_limit, checked.folder)
    return data


def _scalings(checked: CheckedSweep) -> list[ScalingName]:
    """The scalings that trials may choose."""
    default = checked.inputs.hyperparameters.scaling
    searched = checked.space.values.get("scaling")
    if not isinstance(searched, Choice):
        return [default]
    first = [default] if checked.sweep.defaults_first else []
    return list(dict.fromkeys([*first, *searched.values]))


def _save_best(
    checked: CheckedSweep, log: SweepLog, draw: Draw, data: dict[str, DatasetRefs]
) -> TrialResult:
    """Save the best trial's model, calibrated if that was asked for, and draw the plots.

    Raises:
        TrainingError: no trial finished.
    """
    trials = log.trials
    best = checked.objective.best(trials)
    if best is None:
        reasons = dict.fromkeys(trial.reason or trial.status for trial in trials)
        raise TrainingError(f"no trial finished: {'; '.join(reasons) or 'out of time'}")
    artifact = Artifact.load(trial_folder(checked.folder, best.number) / MODEL)
    if artifact.hyperparameters.has_post_training:
        validation = data[artifact.hyperparameters.scaling].validation
        with reporting_ray_errors("a machine that held the validation rows"):
            artifact = calibrate(artifact, ray.get(validation))
    artifact.save(checked.folder / MODEL)
    draw(checked.folder)
    for line in calibration_summary(artifact):
        logger.info(line)
    return best
