"""With Ray up: read the data once, let Ray Tune run the trials, keep the best one's model."""

from __future__ import annotations

import gc
import logging
import os
import tempfile
import traceback
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial as TuneTrial

from lstmfcn.artifact import Artifact
from lstmfcn.calibration import calibrated, told
from lstmfcn.distributed.allotment import Allotment, allot, memory_bytes
from lstmfcn.distributed.halving import milestones, scheduler_of
from lstmfcn.distributed.prepare import Prepared, PreparedRefs, Wanted, start_preparing
from lstmfcn.distributed.run import resolved, tell_data
from lstmfcn.distributed.runtime import Node, nodes, places, quiet
from lstmfcn.distributed.searcher import RecordingSearcher
from lstmfcn.distributed.storage import refuse_unshared
from lstmfcn.distributed.train import Resources
from lstmfcn.distributed.trainer import reason_of_loss
from lstmfcn.distributed.trial_plan import FAILURE, FINISHED, TrialPlan
from lstmfcn.distributed.trial_start import start_trial
from lstmfcn.distributed.tune import SweepRequest
from lstmfcn.errors import ResourceError, StoppedError, TrainingError
from lstmfcn.metrics_file import read_metrics
from lstmfcn.run_folder import METRICS, MODEL
from lstmfcn.search_space import Choice
from lstmfcn.sweep import Status, SweepLog, Trial, trial_folder
from lstmfcn.sweep_plotter import Draw
from lstmfcn.sweep_progress import SweepProgress

_WATCHING = {"cpu": 0, "memory": 1 << 20}
"""What a trial takes that only watches its workers: no CPU, for they may need all of them."""

_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the sweep has its own progress
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the sweep has its own record
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that failed has no metric
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the command as any other
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # nor does it need Tune's
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "60",  # before a trial's process is used again
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # they are in the record
}

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
        raise ResourceError(f"no machine has {cpus} CPUs; lower --cpus-per-worker")
    refuse_unshared(request.folder)
    request.sweep.save(request.folder)
    data = _prepare(request)
    log.start()
    try:
        with SweepProgress(request.sweep.num_samples, request.objective, log.trials) as progress:
            _sweep(request, _plan(request, data, cpus, allotment), log, progress, draw)
    except (KeyboardInterrupt, SystemExit) as stop:
        logger.info("stopping (Ctrl-C again ends it at once)")
        done = len(log.trials)
        traceback.clear_frames(stop.__traceback__)  # Tune's controller keeps the trials running
        gc.collect()
        raise StoppedError(
            f"stopped after {done} of {request.sweep.num_samples} trials", goes_on=True
        ) from stop
    return _finish(request, log, draw, data)


def _prepare(request: SweepRequest) -> dict[str, PreparedRefs]:
    """The rows, read once for each scaling that trials may ask for.

    Raises:
        UserError: the data does not allow the sweep.
    """
    granted = memory_bytes(nodes(), request.resources)
    fixed = request.inputs.record.hyperparameters
    searched = request.space.values.get("scaling")
    scalings = searched.values if isinstance(searched, Choice) else (fixed.scaling,)
    found: dict[str, PreparedRefs] = {}
    for scaling in scalings:
        changed = fixed.model_copy(update={"scaling": scaling})
        found[scaling] = start_preparing(
            Wanted(
                record=request.inputs.record.model_copy(update={"hyperparameters": changed}),
                training=request.inputs.training,
                validation=request.inputs.validation,
                scaler=request.inputs.start.scaler if request.inputs.start else None,
                num_workers=1,
                memory_bytes=granted // len(scalings),
                folder=request.folder,
            )
        )
        prepared: Prepared = resolved(found[scaling])
    tell_data(prepared, granted, request.folder)
    return found


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


def _at_once(plan: TrialPlan) -> int:
    """Trials that the cluster has room for, at a time."""
    allotment = plan.allotment
    gpus = int(allotment.use_gpu) if allotment else 0
    workers = allotment.num_workers if allotment else 1
    return max(1, places(nodes(), plan.threads, gpus) // workers)


def _sweep(
    request: SweepRequest, plan: TrialPlan, log: SweepLog, progress: SweepProgress, draw: Draw
) -> None:
    """Run the trials that are left; the drawing begins with the end of the last."""
    left = request.sweep.num_samples - len(log.trials)
    if left <= 0:
        return
    searcher = RecordingSearcher(
        request.sweep.searcher,
        request.space,
        request.objective,
        request.inputs.record.hyperparameters.seed,
        log,
        progress,
    )
    os.environ.update(_ENVIRONMENT)
    resources = _WATCHING if plan.allotment else {"cpu": plan.threads}
    trainable = tune.with_resources(tune.with_parameters(start_trial, plan=plan), resources)
    with (
        tempfile.TemporaryDirectory(prefix="lstmfcn-", ignore_cleanup_errors=True) as storage,
        quiet("ray.tune"),  # of a Ray that was there: it misses the metrics that we keep ourselves
    ):
        results = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=scheduler_of(request, log.trials),
                num_samples=left,
                max_concurrent_trials=min(request.limits.max_concurrent or _at_once(plan), left),
                time_budget_s=request.limits.time_budget_s,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=storage,
                verbose=0,
                progress_reporter=_NoReporter(),
                callbacks=[_Events(request, searcher, log, draw)],
            ),
        ).fit()
    for result in results:  # Tune tells nothing of those that it ends because time is up
        last = result.metrics or {}
        number = searcher.running(last.get("trial_id", ""))
        if number is not None:
            written = _written(trial_folder(request.folder, number))
            reason = "" if written else "it had saved no epoch"
            searcher.end(last["trial_id"], "out of time", written, reason)


def _written(folder: Path) -> dict[str, Any]:
    """What a trial that was cut off has saved, as it would have reported it: Tune knows less."""
    if not (folder / MODEL).exists():
        return {}
    history = read_metrics(folder / METRICS)
    return {
        "best": Artifact.load(folder / MODEL).metrics,
        "epoch": history[-1]["epoch"],
        "seconds": sum(metrics["seconds"] for metrics in history),
    }


class _NoReporter(tune.ProgressReporter):
    """In a notebook Tune would show a table of its own."""

    def should_report(self, trials: list[TuneTrial], done: bool = False) -> bool:  # noqa: ARG002
        return False

    def report(self, trials: list[TuneTrial], done: bool, *sys_info: dict[str, Any]) -> None:
        """Nothing."""


class _Events(tune.Callback):
    """Tells the searcher what becomes of the trials, and has the last one drawn at once."""

    def __init__(
        self, request: SweepRequest, searcher: RecordingSearcher, log: SweepLog, draw: Draw
    ) -> None:
        self._request, self._searcher, self._log, self._draw = request, searcher, log, draw

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray Tune pickles what it is given

    def on_trial_complete(self, trial: TuneTrial, **info: Any) -> None:  # noqa: ARG002
        result = trial.last_result or {}
        status: Status = "stopped early"
        if result.get(FAILURE):
            status = "failed"
        elif result.get(FINISHED):
            status = "done"
        self._searcher.end(trial.trial_id, status, result, result.get(FAILURE, ""))
        ended, wanted = self._log.trials, self._request.sweep.num_samples
        if len(ended) == wanted and self._request.objective.best(ended):
            self._draw(self._request.folder)  # while Tune ends

    def on_trial_error(self, trial: TuneTrial, **info: Any) -> None:  # noqa: ARG002
        error = ray.cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
        if isinstance(error, ray.exceptions.RayActorError):
            reason = reason_of_loss([str(error)])
        else:
            reason = str(error).strip().splitlines()[-1]
            logger.error("a trial failed by a bug:\n%s", error)
        self._searcher.end(trial.trial_id, "failed", trial.last_result or {}, reason)


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
        artifact = calibrated(artifact, ray.get(held_out))
    artifact.save(request.folder / MODEL)
    draw(request.folder)
    for line in told(artifact):
        logger.info(line)
    logger.info("model: %s", request.folder / MODEL)
    return best
