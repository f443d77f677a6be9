"""The driver of a sweep, once Ray is up.

It has the data read once for all trials, lets Ray Tune run them, and keeps the best one's model.
"""

from __future__ import annotations

import gc
import logging
import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial as TuneTrial

from lstmfcn.console import pluralize
from lstmfcn.distributed.capacity import Node, capacity, may_grow, memory_bytes, nodes
from lstmfcn.distributed.cluster import silence_logger
from lstmfcn.distributed.failures import reporting_ray_errors
from lstmfcn.distributed.keeper import keeper_process
from lstmfcn.distributed.load import DatasetRefs, load_for_scalings
from lstmfcn.distributed.requests import (
    CheckedSweep,
    Resources,
    WorkerResources,
    choose_gpu,
    resolve_resources,
)
from lstmfcn.distributed.searcher import ResumableSearcher, TrialCallback, make_scheduler, rungs
from lstmfcn.distributed.trial import BEST, FINISHED, SweepContext
from lstmfcn.errors import ResourceError, RunInterruptedError, TrainingError
from lstmfcn.hyperparameters import ScalingName
from lstmfcn.model.artifact import Artifact
from lstmfcn.storage.scratch import scratch_folder
from lstmfcn.training.calibration import calibrate, calibration_summary
from lstmfcn.training.dataset_info import log_dataset
from lstmfcn.training.metrics_log import read_metrics
from lstmfcn.training.run_directory import METRICS, MODEL
from lstmfcn.tuning.plotter import Draw
from lstmfcn.tuning.progress import SweepProgress
from lstmfcn.tuning.search_space import Choice
from lstmfcn.tuning.sweep import SweepLog, TrialResult, trial_folder

_FOLLOWER_RESOURCES = {"cpu": 0, "memory": 1 << 20}
"""For a trial that only follows its workers: no CPU, because they may need all of them."""

_RETRIES = 3
"""How often a trial whose process or machine was lost is tried again; it may crash every time."""

_TRIALS_OF_A_GROWING_CLUSTER = 4
"""Its machines start only once trials wait for them; more at a time let the search learn less."""

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
    if capacity(machines, cpus) < 1 and not may_grow():
        raise ResourceError(f"no machine has {pluralize(cpus, 'CPU')}; lower --cpus-per-worker")
    checked.sweep.save(checked.folder)
    memory_limit = memory_bytes(checked.resources.memory_gb, machines)
    data = load_for_scalings(checked.inputs, memory_limit, _scalings(checked))
    log_dataset(next(iter(data.values())).wait(), memory_limit)
    with keeper_process() as keeper:
        context = SweepContext(
            fixed=checked.inputs.hyperparameters,
            data=data,
            base_model=checked.inputs.base_model,
            folder=checked.folder,
            keeper=keeper,
            metric=checked.objective.metric,
            rungs=frozenset(rungs(checked)),
            threads=cpus,
            workers=workers,
        )
        log.start()
        _run_trials_until_stopped(checked, context, log)
    return _save_best(checked, log, draw, data)


def _run_trials_until_stopped(checked: CheckedSweep, context: SweepContext, log: SweepLog) -> None:
    """Run the trials that the log does not have yet, and show them.

    Raises:
        RunInterruptedError: the user stopped the sweep.
    """
    try:
        with SweepProgress(checked.sweep.num_samples, checked.objective, log.trials) as progress:
            _run_trials(checked, context, log, progress)
    except (KeyboardInterrupt, SystemExit) as stop:
        logger.info("stopping (Ctrl-C again stops at once)")
        n_done, trials = len(log.trials), pluralize(checked.sweep.num_samples, "trial")
        traceback.clear_frames(stop.__traceback__)  # Tune's controller keeps the trials running
        gc.collect()
        message = f"stopped after {n_done} of {trials}"
        raise RunInterruptedError(message, resumable=True) from stop


def _worker_resources(machines: list[Node], requested: Resources) -> WorkerResources | None:
    """The workers of each trial; None if a trial trains in its own process, on CPUs."""
    has_workers = choose_gpu(machines, requested) or requested.num_workers > 1
    return resolve_resources(machines, requested) if has_workers else None


def _scalings(checked: CheckedSweep) -> list[ScalingName]:
    """The scalings that trials may choose."""
    default = checked.inputs.hyperparameters.scaling
    searched = checked.space.values.get("scaling")
    if not isinstance(searched, Choice):
        return [default]
    first = [default] if checked.sweep.defaults_first else []
    return list(dict.fromkeys([*first, *searched.values]))


def _save_best(
    checked: CheckedSweep, log: SweepLog, draw: Draw, data: Mapping[ScalingName, DatasetRefs]
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


def _run_trials(
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
        callback = TrialCallback(searcher, log)
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
        tune.with_resources(tune.with_parameters(_trial_function(), context=context), resources),
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
            failure_config=tune.FailureConfig(max_failures=_RETRIES),
            stop={FINISHED: True},  # saves a round trip when the function has ended
            verbose=0,
            progress_reporter=_NoReporter(),
            callbacks=[callback],
        ),
    )


def _trial_function() -> Callable[[dict[str, Any], SweepContext], None]:
    """Make a `run_trial` for whose process nothing has to be imported before it has started.

    For Ray Tune a process has started once it has imported the module of the function that it will
    run; a function inside another one has none. If that took longer than a trial, Tune would give
    each waiting trial's place to the first process that is free again, end the process that was
    starting, and run one trial at a time for ever
    (ray/tune/execution/tune_controller.py, ``_maybe_reuse_cached_actor``).
    """

    def start_trial(config: dict[str, Any], context: SweepContext) -> None:
        import gc

        from lstmfcn.distributed.trial import run_trial

        if not gc.get_freeze_count():  # the process's first trial
            gc.freeze()  # else the collector looks through PyTorch for 0.6 s at its end
        run_trial(config, context)

    return start_trial


def _trials_at_once(context: SweepContext) -> int:
    """How many trials the machines have room for; a cluster that may grow starts some for them."""
    workers = context.workers
    gpus, n_workers = (int(workers.use_gpu), workers.num_workers) if workers else (0, 1)
    room = capacity(nodes(), context.threads, gpus) // n_workers
    if room < _TRIALS_OF_A_GROWING_CLUSTER and may_grow():
        logger.info(
            "the machines that are up have room for %s at a time; the cluster is asked for room "
            "for %d: --max-concurrent names another number",
            pluralize(room, "trial"),
            _TRIALS_OF_A_GROWING_CLUSTER,
        )
        return _TRIALS_OF_A_GROWING_CLUSTER
    return max(1, room)


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
