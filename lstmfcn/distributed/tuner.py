"""Run the trials of a sweep on Ray Tune, stop the weak ones early, and record what becomes of each.

Early stopping is asynchronous successive halving (ASHA): Li et al. (2020), "A System for Massively
Parallel Hyperparameter Tuning", MLSys.
"""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import ray
from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from lstmfcn.distributed.cluster import capacity, nodes, silence_logger
from lstmfcn.distributed.losses import LOST, failure_reason
from lstmfcn.distributed.requests import CheckedSweep
from lstmfcn.distributed.searcher import ResumableSearcher
from lstmfcn.distributed.trial import BEST, FAILURE, FINISHED, NUMBER, SweepContext
from lstmfcn.distributed.trial_entry import start_trial
from lstmfcn.model.artifact import Artifact
from lstmfcn.storage.scratch import scratch_folder
from lstmfcn.training.metrics_log import read_metrics
from lstmfcn.training.run_directory import METRICS, MODEL
from lstmfcn.training.state import selection_loss
from lstmfcn.tuning.progress import SweepProgress
from lstmfcn.tuning.sweep import Status, SweepLog, TrialResult, trial_folder

_REDUCTION = 3
"""A third of the trials goes on at each milestone; the paper suggests 3 or 4."""


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


class _Ended(NamedTuple):
    """What the scheduler asks of a trial."""

    trial_id: str
    config: Mapping[str, Any] = {}


class _Sparing(ASHAScheduler):
    """Lets the first trial, of the defaults, end: it is what the best one is compared with."""

    def on_trial_result(
        self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]
    ) -> str:
        action: str = super().on_trial_result(tune_controller, trial, result)
        return self.CONTINUE if trial.config.get(NUMBER) == 1 else action


def rungs(request: CheckedSweep) -> list[int]:
    """The epochs after which ASHA decides: a ninth and a third of the most that a trial has."""
    if request.sweep.scheduler == "none":
        return []
    most = request.space.largest("epochs", request.inputs.record.hyperparameters.epochs)
    first = max(1, round(most / _REDUCTION**2))
    return [epoch for epoch in (first, first * _REDUCTION) if epoch < most]


def make_scheduler(request: CheckedSweep, ended: Iterable[TrialResult]) -> TrialScheduler:
    """What decides, knowing what trials that ended before had reached at the milestones."""
    decisive = rungs(request)
    if not decisive:
        return FIFOScheduler()
    scheduler = (_Sparing if request.sweep.defaults_first else ASHAScheduler)(
        time_attr="epoch",
        metric=request.objective.metric,
        mode=request.objective.mode,
        max_t=_REDUCTION * decisive[-1] - 1,
        grace_period=decisive[0],
        reduction_factor=_REDUCTION,
        stop_last_trials=False,
    )
    for trial in ended:
        _inform(scheduler, request, trial, decisive)
    return scheduler


def _inform(
    scheduler: ASHAScheduler, request: CheckedSweep, trial: TrialResult, decisive: list[int]
) -> None:
    """Report the milestones of a trial as it reported them itself."""
    path = trial_folder(request.folder, trial.number) / METRICS
    history = read_metrics(path) if path.exists() else []
    known, metric = cast(TuneTrial, _Ended(f"ended-{trial.number}")), request.objective.metric
    scheduler.on_trial_add(None, known)
    for epoch in decisive:
        if epoch <= len(history):
            best = min(history[:epoch], key=selection_loss)
            scheduler.on_trial_result(None, known, {"epoch": epoch, metric: best[metric]})
    scheduler.on_trial_remove(None, known)


def run_trials(
    request: CheckedSweep, plan: SweepContext, log: SweepLog, progress: SweepProgress
) -> None:
    """Run the trials that are left."""
    if len(log.trials) >= request.sweep.num_samples:
        return
    searcher = ResumableSearcher(
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
        silence_logger(
            "ray.tune"
        ),  # of a Ray that was there: it misses the metrics that we keep ourselves
        _gc_frozen(),
    ):
        events = _Events(searcher, log)
        try:
            results = _tuner(request, plan, searcher, events, log, storage).fit()
            _record_timed_out_trials(results, searcher, request.folder)
        finally:
            log.flush()


def _defaults(request: CheckedSweep) -> dict[str, Any] | None:
    """What ``lstmfcn train`` would take for what is searched."""
    if not request.sweep.defaults_first:
        return None
    fixed = request.inputs.record.hyperparameters
    return {name: getattr(fixed, name) for name in request.space.values}


def _record_timed_out_trials(
    results: tune.ResultGrid, searcher: ResumableSearcher, folder: Path
) -> None:
    """Tune tells nothing of the trials that it ends because time is up."""
    for result in results:
        last = result.metrics or {}
        number = searcher.running(last.get("trial_id", ""))
        if number is not None:
            written = _to_tune_space(trial_folder(folder, number))
            reason = "" if written else "it had saved no epoch"
            searcher.end(last["trial_id"], "out of time", written, reason)


@contextmanager
def _gc_frozen() -> Iterator[None]:
    """Python's garbage collector leaves out what is there already.

    Else it looks through all of Ray and PyTorch once, for 0.2 s in which no trial begins.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _tuner(
    request: CheckedSweep,
    plan: SweepContext,
    searcher: ResumableSearcher,
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
            scheduler=make_scheduler(request, log.trials),
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


def _at_once(plan: SweepContext) -> int:
    """Trials that the cluster has room for, at a time."""
    allotment = plan.allotment
    gpus = int(allotment.use_gpu) if allotment else 0
    workers = allotment.num_workers if allotment else 1
    return max(1, capacity(nodes(), plan.threads, gpus) // workers)


def _to_tune_space(folder: Path) -> dict[str, Any]:
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

    def __init__(self, searcher: ResumableSearcher, log: SweepLog) -> None:
        self._searcher, self._log = searcher, log
        self._settled_at = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray Tune pickles what it is given

    def on_step_end(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:  # noqa: ARG002
        """Not at every trial's end: it takes some milliseconds, in which the next one waits."""
        if time.monotonic() - self._settled_at >= _SETTLE_EVERY_S:
            self._log.flush()
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
            reason = failure_reason([str(error)])
        else:
            reason = str(error).strip().splitlines()[-1]
            logger.error("a trial failed by a bug:\n%s", error)
        self._searcher.end(trial.trial_id, "failed", trial.last_result or {}, reason)
