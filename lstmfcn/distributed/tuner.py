"""Run the trials of a sweep on Ray Tune, and record what becomes of each."""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial as TuneTrial

from lstmfcn.artifact import Artifact
from lstmfcn.distributed.halving import scheduler_of
from lstmfcn.distributed.losses import LOST, reason_of_loss
from lstmfcn.distributed.runtime import nodes, places, quiet
from lstmfcn.distributed.searcher import RecordingSearcher
from lstmfcn.distributed.trial_plan import BEST, FAILURE, FINISHED, TrialPlan
from lstmfcn.distributed.trial_start import start_trial
from lstmfcn.distributed.tune import SweepRequest
from lstmfcn.metrics_file import read_metrics
from lstmfcn.run_folder import METRICS, MODEL
from lstmfcn.scratch import scratch_folder
from lstmfcn.sweep import Status, SweepLog, trial_folder
from lstmfcn.sweep_progress import SweepProgress

_WATCHING = {"cpu": 0, "memory": 1 << 20}
"""What a trial takes that only watches its workers: no CPU, for they may need all of them."""

_SETTLE_EVERY_S = 1.0

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


def run_trials(
    request: SweepRequest, plan: TrialPlan, log: SweepLog, progress: SweepProgress
) -> None:
    """Run the trials that are left."""
    if len(log.trials) >= request.sweep.num_samples:
        return
    searcher = RecordingSearcher(
        request.sweep.searcher,
        request.space,
        _defaults(request),
        request.objective,
        request.inputs.record.hyperparameters.seed,
        log,
        progress,
    )
    os.environ.update(_ENVIRONMENT)
    with (
        scratch_folder() as storage,
        quiet("ray.tune"),  # of a Ray that was there: it misses the metrics that we keep ourselves
        _garbage_left_out(),
    ):
        events = _Events(searcher, log)
        try:
            results = _tuner(request, plan, searcher, events, log, storage).fit()
            _end_what_time_cut_off(results, searcher, request.folder)
        finally:
            log.settle()


def _defaults(request: SweepRequest) -> dict[str, Any] | None:
    """What ``lstmfcn train`` would take for what is searched."""
    if not request.sweep.defaults_first:
        return None
    fixed = request.inputs.record.hyperparameters
    return {name: getattr(fixed, name) for name in request.space.values}


def _end_what_time_cut_off(
    results: tune.ResultGrid, searcher: RecordingSearcher, folder: Path
) -> None:
    """Tune tells nothing of the trials that it ends because time is up."""
    for result in results:
        last = result.metrics or {}
        number = searcher.running(last.get("trial_id", ""))
        if number is not None:
            written = _written(trial_folder(folder, number))
            reason = "" if written else "it had saved no epoch"
            searcher.end(last["trial_id"], "out of time", written, reason)


@contextmanager
def _garbage_left_out() -> Iterator[None]:
    """Python's garbage collector leaves out what is there already.

    Else it looks through all of Ray and PyTorch once, for 0.2 s in which no trial begins.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _tuner(
    request: SweepRequest,
    plan: TrialPlan,
    searcher: RecordingSearcher,
    events: tune.Callback,
    log: SweepLog,
    storage: Path,
) -> tune.Tuner:
    left = request.sweep.num_samples - len(log.trials)
    resources = _WATCHING if plan.allotment else {"cpu": plan.threads}
    return tune.Tuner(
        tune.with_resources(tune.with_parameters(start_trial, plan=plan), resources),
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
            storage_path=str(storage),
            stop={FINISHED: True},  # Tune need not be told once more when the function has ended
            verbose=0,
            progress_reporter=_NoReporter(),
            callbacks=[events],
        ),
    )


def _at_once(plan: TrialPlan) -> int:
    """Trials that the cluster has room for, at a time."""
    allotment = plan.allotment
    gpus = int(allotment.use_gpu) if allotment else 0
    workers = allotment.num_workers if allotment else 1
    return max(1, places(nodes(), plan.threads, gpus) // workers)


def _written(folder: Path) -> dict[str, Any]:
    """What a trial that was cut off has saved, as it would have reported it: Tune knows less."""
    if not (folder / MODEL).exists():
        return {}
    history = read_metrics(folder / METRICS)
    return {
        BEST: list(Artifact.load(folder / MODEL).metrics.items()),
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
    """Tells the searcher what becomes of the trials."""

    def __init__(self, searcher: RecordingSearcher, log: SweepLog) -> None:
        self._searcher, self._log = searcher, log
        self._settled_at = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray Tune pickles what it is given

    def on_step_end(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:  # noqa: ARG002
        """Not at every trial's end: it takes some milliseconds, in which the next one waits."""
        if time.monotonic() - self._settled_at >= _SETTLE_EVERY_S:
            self._log.settle()
            self._settled_at = time.monotonic()

    def on_trial_complete(self, trial: TuneTrial, **info: Any) -> None:  # noqa: ARG002
        result = trial.last_result or {}
        status: Status = "stopped early"
        if result.get(FAILURE):
            status = "failed"
        elif result.get(FINISHED):
            status = "done"
        self._searcher.end(trial.trial_id, status, result, result.get(FAILURE, ""))

    def on_trial_error(self, trial: TuneTrial, **info: Any) -> None:  # noqa: ARG002
        error = ray.cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
        if isinstance(error, LOST):
            reason = reason_of_loss([str(error)])
        else:
            reason = str(error).strip().splitlines()[-1]
            logger.error("a trial failed by a bug:\n%s", error)
        self._searcher.end(trial.trial_id, "failed", trial.last_result or {}, reason)
