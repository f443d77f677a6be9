"""With Ray up: read the data once, let Ray Tune run the trials, keep the best one's model."""

from __future__ import annotations

import gc
import logging
import traceback

import ray

from lstmfcn.artifact import Artifact
from lstmfcn.calibration import calibrated, told
from lstmfcn.counts import number
from lstmfcn.distributed.allotment import Allotment, allot, memory_bytes
from lstmfcn.distributed.halving import milestones
from lstmfcn.distributed.losses import telling_losses
from lstmfcn.distributed.prepare import (
    Prepared,
    PreparedRefs,
    Wanted,
    resolved,
    start_preparing,
)
from lstmfcn.distributed.runtime import Node, nodes, places
from lstmfcn.distributed.storage import refuse_unshared
from lstmfcn.distributed.telling import tell_data
from lstmfcn.distributed.train import Resources
from lstmfcn.distributed.trial_plan import TrialPlan
from lstmfcn.distributed.tune import SweepRequest
from lstmfcn.distributed.tuner import run_trials
from lstmfcn.errors import ResourceError, StoppedError, TrainingError
from lstmfcn.hyperparameters import ScalingName
from lstmfcn.run_folder import MODEL
from lstmfcn.search_space import Choice
from lstmfcn.sweep import SweepLog, Trial, trial_folder
from lstmfcn.sweep_plotter import Draw
from lstmfcn.sweep_progress import SweepProgress

logger = logging.getLogger(__name__)


def run(request: SweepRequest, log: SweepLog, draw: Draw) -> Trial:
    """Sweep as requested, from where the log ends.

    Raises:
        UserError: data, output or cluster do not allow it.
        TrainingError: no trial finished.
        StoppedError: the user stopped it.
    """
    there = nodes()
    allotment = _allotment(there, request.resources)
    cpus = allotment.cpus_per_worker if allotment else request.resources.cpus_per_worker or 1
    if places(there, cpus) < 1:
        raise ResourceError(f"no machine has {number(cpus, 'CPU')}; lower --cpus-per-worker")
    refuse_unshared(request.folder)
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
        raise StoppedError(
            f"stopped after {done} of {number(request.sweep.num_samples, 'trial')}", goes_on=True
        ) from stop
    return _finish(request, log, draw, data)


def _prepare(request: SweepRequest) -> dict[str, PreparedRefs]:
    """The rows, read once for each scaling that trials may ask for.

    Raises:
        UserError: the data does not allow the sweep.
    """
    granted = memory_bytes(nodes(), request.resources)
    scalings = _scalings(request)
    found: dict[str, PreparedRefs] = {}
    for scaling in scalings:
        found[scaling] = start_preparing(
            Wanted(
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
        prepared: Prepared = resolved(found[scaling])
    tell_data(prepared, granted, request.folder)
    return found


def _scalings(request: SweepRequest) -> list[ScalingName]:
    """Those that trials may ask for."""
    own = request.inputs.record.hyperparameters.scaling
    searched = request.space.values.get("scaling")
    if not isinstance(searched, Choice):
        return [own]
    first = [own] if request.sweep.defaults_first else []
    return list(dict.fromkeys([*first, *searched.values]))


def _allotment(there: list[Node], wanted: Resources) -> Allotment | None:
    """The workers of each trial; None where a trial trains alone, on CPUs, as most should."""
    has_gpu = any(node.gpus for node in there)
    use_gpu = has_gpu if wanted.use_gpu is None else wanted.use_gpu
    return allot(there, wanted) if use_gpu or wanted.num_workers > 1 else None


def _plan(
    request: SweepRequest, data: dict[str, PreparedRefs], cpus: int, allotment: Allotment | None
) -> TrialPlan:
    return TrialPlan(
        fixed=request.inputs.record.hyperparameters,
        data=data,
        start=request.inputs.start,
        folder=request.folder,
        metric=request.objective.metric,
        milestones=frozenset(milestones(request)),
        threads=cpus,
        allotment=allotment,
    )


def _finish(
    request: SweepRequest, log: SweepLog, draw: Draw, data: dict[str, PreparedRefs]
) -> Trial:
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
    if artifact.hyperparameters.fits_decision:
        held_out = data[artifact.hyperparameters.scaling].validation
        with telling_losses("a machine that held the validation rows"):
            artifact = calibrated(artifact, ray.get(held_out))
    artifact.save(request.folder / MODEL)
    draw(request.folder)
    for line in told(artifact):
        logger.info(line)
    return best
