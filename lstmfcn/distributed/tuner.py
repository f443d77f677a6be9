"""Run the trials of a sweep on Ray Tune, stop the weak ones early, and log how each ends.

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
from lstmfcn.distributed.failures import LOST, failure_reason
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
"""A third of the trials continues after each rung; the paper suggests 3 or 4."""

_FOLLOWER_RESOURCES = {"cpu": 0, "memory": 1 << 20}
"""For a trial that only follows its workers: no CPU, because they may need all of them."""

_FLUSH_EVERY_S = 1.0

_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the sweep shows its own progress
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the sweep has its own log
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that failed has no metric
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends this command as it ends all others
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # the sweep resumes from its own log
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "60",  # before a trial's process is used again
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # the log has them
}

logger = logging.getLogger(__name__)


def run_trials(
    checked: CheckedSweep, context: SweepContext, log: SweepLog, progress: SweepProgress
) -> None:
    """Run the trials that the log does not have yet.

    Args:
        checked: the sweep.
        context: what all trials share.
        log: the trials so far; those that end are added.
        progress: shows each trial that starts and ends.
    """
    if len(log.trials) >= checked.sweep.num_samples:
        return
    searcher = ResumableSearcher(
        checked.sweep.searcher,
        checked.space,
        _defaults(checked),
        checked.objective,
        checked.inputs.hyperparameters.seed,
        log,
        progress,
    )
    os.environ.update(_ENVIRONMENT)
    with (
        scratch_folder() as storage,
        silence_logger("ray.tune"),  # it warns of metrics that it misses, which the sweep keeps
        _gc_frozen(),
    ):
        callback = _TrialCallback(searcher, log)
        try:
            results = _tuner(checked, context, searcher, callback, log, storage).fit()
            _record_timed_out_trials(results, searcher, checked.folder)
        finally:
            log.flush()


def _defaults(checked: CheckedSweep) -> dict[str, Any] | None:
    """The searched hyperparameters as ``lstmfcn train`` would choose them, for the first trial."""
    if not checked.sweep.defaults_first:
        return None
    fixed = checked.inputs.hyperparameters
    return {name: getattr(fixed, name) for name in checked.space.values}


@contextmanager
def _gc_frozen() -> Iterator[None]:
    """Exclude all present objects from garbage collection inside this block.

    The collector would look through all of Ray and PyTorch once, for 0.2 s in which no trial
    starts.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _tuner(
    checked: CheckedSweep,
    context: SweepContext,
    searcher: ResumableSearcher,
    callback: tune.Callback,
    log: SweepLog,
    storage: Path,
) -> tune.Tuner:
    n_left = checked.sweep.num_samples - len(log.trials)
    resources = _FOLLOWER_RESOURCES if context.workers else {"cpu": context.threads}
    max_concurrent = checked.limits.max_concurrent or _trials_at_once(context)
    return tune.Tuner(
        tune.with_resources(tune.with_parameters(start_trial, context=context), resources),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=make_scheduler(checked, log.trials),
            num_samples=n_left,
            max_concurrent_trials=min(max_concurrent, n_left),
            time_budget_s=checked.limits.time_budget_s,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=str(storage),
            stop={FINISHED: True},  # saves a round trip when the function has ended
            verbose=0,
            progress_reporter=_NoReporter(),
            callbacks=[callback],
        ),
    )


def _trials_at_once(context: SweepContext) -> int:
    """How many trials the cluster has room for."""
    workers = context.workers
    gpus, n_workers = (int(workers.use_gpu), workers.num_workers) if workers else (0, 1)
    return max(1, capacity(nodes(), context.threads, gpus) // n_workers)


def rungs(checked: CheckedSweep) -> list[int]:
    """The epochs after which ASHA decides: a ninth and a third of the most that a trial has."""
    if checked.sweep.scheduler == "none":
        return []
    max_epochs = checked.space.largest("epochs", checked.inputs.hyperparameters.epochs)
    first = max(1, round(max_epochs / _REDUCTION**2))
    return [epoch for epoch in (first, first * _REDUCTION) if epoch < max_epochs]


def make_scheduler(checked: CheckedSweep, ended: Iterable[TrialResult]) -> TrialScheduler:
    """The scheduler of the sweep, which knows what earlier trials had reached at each rung.

    Args:
        checked: the sweep.
        ended: the trials that have ended before.
    """
    epochs = rungs(checked)
    if not epochs:
        return FIFOScheduler()
    scheduler = (_SparingASHA if checked.sweep.defaults_first else ASHAScheduler)(
        time_attr="epoch",
        metric=checked.objective.metric,
        mode=checked.objective.mode,
        max_t=_REDUCTION * epochs[-1] - 1,
        grace_period=epochs[0],
        reduction_factor=_REDUCTION,
        stop_last_trials=False,
    )
    for trial in ended:
        _replay_rungs(scheduler, checked, trial, epochs)
    return scheduler


class _SparingASHA(ASHAScheduler):
    """Lets the first trial run to its end: the best trial is compared with its default values."""

    def on_trial_result(
        self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]
    ) -> str:
        action: str = super().on_trial_result(tune_controller, trial, result)
        return self.CONTINUE if trial.config.get(NUMBER) == 1 else action


class _EndedTrial(NamedTuple):
    """What the scheduler reads of a trial."""

    trial_id: str
    config: Mapping[str, Any] = {}


def _replay_rungs(
    scheduler: ASHAScheduler, checked: CheckedSweep, trial: TrialResult, epochs: list[int]
) -> None:
    """Report to the scheduler what an earlier trial had reported at the rungs."""
    path = trial_folder(checked.folder, trial.number) / METRICS
    history = read_metrics(path) if path.exists() else []
    ended = cast(TuneTrial, _EndedTrial(f"ended-{trial.number}"))
    metric = checked.objective.metric
    scheduler.on_trial_add(None, ended)
    for epoch in epochs:
        if epoch <= len(history):
            best = min(history[:epoch], key=selection_loss)
            scheduler.on_trial_result(None, ended, {"epoch": epoch, metric: best[metric]})
    scheduler.on_trial_remove(None, ended)


def _record_timed_out_trials(
    results: tune.ResultGrid, searcher: ResumableSearcher, folder: Path
) -> None:
    """Record the trials that Ray Tune ended because time was up; it calls no callback for them."""
    for result in results:
        trial_id = (result.metrics or {}).get("trial_id", "")
        number = searcher.running(trial_id)
        if number is not None:
            saved = _saved_result(trial_folder(folder, number))
            reason = "" if saved else "it had saved no epoch"
            searcher.end(trial_id, "out of time", saved, reason)


def _saved_result(folder: Path) -> dict[str, Any]:
    """What a trial that was cut off has saved, in the form of a report; Tune knows less."""
    if not (folder / MODEL).exists():
        return {}
    history = read_metrics(folder / METRICS)
    return {
        BEST: list(Artifact.load(folder / MODEL).metrics.items()),
        "epoch": history[-1]["epoch"],
        "seconds": sum(metrics["seconds"] for metrics in history),
    }


class _NoReporter(tune.ProgressReporter):
    """Shows nothing; in a notebook Tune would show a table of its own."""

    def should_report(self, trials: list[TuneTrial], done: bool = False) -> bool:  # noqa: ARG002
        return False

    def report(self, trials: list[TuneTrial], done: bool, *sys_info: dict[str, Any]) -> None:
        """Do nothing."""


class _TrialCallback(tune.Callback):
    """Passes on to the searcher how each trial ended."""

    def __init__(self, searcher: ResumableSearcher, log: SweepLog) -> None:
        self._searcher, self._log = searcher, log
        self._flushed_at = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray Tune pickles its callbacks

    def on_step_end(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:  # noqa: ARG002
        """Flush the log, not at every trial's end: the next trial waits for some milliseconds."""
        if time.monotonic() - self._flushed_at >= _FLUSH_EVERY_S:
            self._log.flush()
            self._flushed_at = time.monotonic()

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
            logger.error("a trial failed because of a bug:\n%s", error)
        self._searcher.end(trial.trial_id, "failed", trial.last_result or {}, reason)
