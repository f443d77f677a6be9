"""With Ray up: read the data once, let Ray Tune run the trials, keep the best one's model."""

from __future__ import annotations

import gc
import logging
import traceback

import ray

from lstmfcn.console import pluralize
from lstmfcn.distributed.cluster import Node, capacity, nodes, require_shared_storage
from lstmfcn.distributed.load import (
    DatasetInfo,
    DatasetRefs,
    LoadRequest,
    log_dataset,
    start_loading,
    wait_for,
)
from lstmfcn.distributed.losses import reporting_losses
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


def run(request: CheckedSweep, log: SweepLog, draw: Draw) -> TrialResult:
    """Sweep as requested, from where the log ends.

    Raises:
        UserError: data, output or cluster do not allow it.
        TrainingError: no trial finished.
        StoppedError: the user stopped it.
    """
    machines = nodes()
    allotment = _allotment(machines, request.resources)
    cpus = allotment.cpus_per_worker if allotment else request.resources.cpus_per_worker or 1
    if capacity(machines, cpus) < 1:
        raise ResourceError(f"no machine has {pluralize(cpus, 'CPU')}; lower --cpus-per-worker")
    require_shared_storage(request.folder)
    request.sweep.save(request.folder)
    data = _prepare(request)
    log.start()
    try:
        with SweepProgress(request.sweep.num_samples, request.objective, log.trials) as progress:
            run_trials(request, _plan(request, data, cpus, allotment), log, progress)
    except (KeyboardInterrupt, SystemExit) as stop:
        logger.info("stopping (Ctrl-C again ends it at once)")
        done = len(log.trials)
        traceback.clear_frames(stop.__traceback__)  # Tune's controller keeps the trials running
        gc.collect()
        raise RunInterruptedError(
            f"stopped after {done} of {pluralize(request.sweep.num_samples, 'trial')}",
            resumable=True,
        ) from stop
    return _finish(request, log, draw, data)


def _prepare(request: CheckedSweep) -> dict[str, DatasetRefs]:
    """The rows, read once for each scaling that trials may ask for.

    Raises:
        UserError: the data does not allow the sweep.
    """
    granted = memory_bytes(nodes(), request.resources)
    scalings = _scalings(request)
    found: dict[str, DatasetRefs] = {}
    for scaling in scalings:
        found[scaling] = start_loading(
            LoadRequest(
                record=request.inputs.record,
                training=request.inputs.training,
                validation=request.inputs.validation,
                scaling=scaling,
                scaler=request.inputs.start.scaler if request.inputs.start else None,
                num_workers=1,
                memory_bytes=granted // len(scalings),
                folder=request.folder,
            )
        )
        prepared: DatasetInfo = wait_for(found[scaling])
    log_dataset(prepared, granted, request.folder)
    return found


def _scalings(request: CheckedSweep) -> list[ScalingName]:
    """Those that trials may ask for."""
    own = request.inputs.record.hyperparameters.scaling
    searched = request.space.values.get("scaling")
    if not isinstance(searched, Choice):
        return [own]
    first = [own] if request.sweep.defaults_first else []
    return list(dict.fromkeys([*first, *searched.values]))


def _allotment(machines: list[Node], wanted: Resources) -> WorkerResources | None:
    """The workers of each trial; None where a trial trains alone, on CPUs, as most should."""
    has_gpu = any(node.gpus for node in machines)
    use_gpu = has_gpu if wanted.use_gpu is None else wanted.use_gpu
    return resolve_resources(machines, wanted) if use_gpu or wanted.num_workers > 1 else None


def _plan(
    request: CheckedSweep,
    data: dict[str, DatasetRefs],
    cpus: int,
    allotment: WorkerResources | None,
) -> SweepContext:
    return SweepContext(
        fixed=request.inputs.record.hyperparameters,
        data=data,
        start=request.inputs.start,
        folder=request.folder,
        metric=request.objective.metric,
        rungs=frozenset(rungs(request)),
        threads=cpus,
        allotment=allotment,
    )


def _finish(
    request: CheckedSweep, log: SweepLog, draw: Draw, data: dict[str, DatasetRefs]
) -> TrialResult:
    """Keep the best trial's model, calibrated where that was asked for, and draw.

    Raises:
        TrainingError: no trial finished.
    """
    trials, objective = log.trials, request.objective
    best = objective.best(trials)
    if best is None:
        reasons = dict.fromkeys(trial.reason or trial.status for trial in trials)
        raise TrainingError(f"no trial finished: {'; '.join(reasons) or 'out of time'}")
    artifact = Artifact.load(trial_folder(request.folder, best.number) / MODEL)
    if artifact.hyperparameters.has_post_training:
        held_out = data[artifact.hyperparameters.scaling].validation
        with reporting_losses("a machine that held the validation rows"):
            artifact = calibrate(artifact, ray.get(held_out))
    artifact.save(request.folder / MODEL)
    draw(request.folder)
    for line in calibration_summary(artifact):
        logger.info(line)
    return best
