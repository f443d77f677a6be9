"""Suggest the hyperparameters of each trial, log how each ended, and stop weak trials early.

Early stopping is asynchronous successive halving (ASHA): Li et al. (2020), "A System for Massively
Parallel Hyperparameter Tuning", MLSys.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import optuna
import ray
from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from lstmfcn.distributed.failures import LOST, failure_reason
from lstmfcn.distributed.requests import CheckedSweep
from lstmfcn.distributed.trial import BEST, BUG, FAILURE, FINISHED, HYPERPARAMETERS, NUMBER
from lstmfcn.errors import OutputError
from lstmfcn.training.metrics_log import read_metrics
from lstmfcn.training.run_directory import METRICS
from lstmfcn.training.state import rank_epoch
from lstmfcn.tuning.progress import SweepProgress
from lstmfcn.tuning.search_space import SearchSpace
from lstmfcn.tuning.sweep import (
    Objective,
    SearcherName,
    Status,
    SweepLog,
    TrialResult,
    TrialStarted,
    trial_folder,
)

_REDUCTION = 3
"""A third of the trials continues after each rung; the paper suggests 3 or 4."""

_FLUSH_EVERY_S = 1.0

logger = logging.getLogger(__name__)


class ResumableSearcher(Searcher):
    """Optuna's sampler, which continues where the sweep's log ends and adds to that log.

    A trial that started and did not end is suggested again first.

    Args:
        name: ``optuna`` samples by TPE (Bergstra et al. 2011), ``random`` independently.
        space: what is searched.
        defaults: the searched hyperparameters of the first trial; None if that trial, too, has
            what the sampler suggests.
        objective: the metric to optimise.
        seed: of the sampler.
        log: the sweep so far.
        progress: shows each trial that starts and ends.

    Raises:
        OutputError: the log is that of another sweep.
    """

    def __init__(
        self,
        name: SearcherName,
        space: SearchSpace,
        defaults: Mapping[str, Any] | None,
        objective: Objective,
        seed: int,
        log: SweepLog,
        progress: SweepProgress,
    ) -> None:
        super().__init__(metric=objective.metric, mode=objective.mode)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        samplers = {"optuna": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._sampler = OptunaSearch(
                space.distributions(),
                metric=objective.metric,
                mode=objective.mode,
                sampler=samplers[name](seed=seed),
            )
        self._space, self._defaults = space, defaults
        self._objective, self._log, self._progress = objective, log, progress
        self._running: dict[str, TrialStarted] = {}
        self._interrupted = self._replay_log()

    def _replay_log(self) -> list[TrialStarted]:
        """Repeat to the sampler all that it was asked for and given before.

        Returns:
            The trials that started and did not end.

        Raises:
            OutputError: the sampler now suggests something else.
        """
        unfinished: dict[int, TrialStarted] = {}
        for event in self._log.events:
            if isinstance(event, TrialResult):
                unfinished.pop(event.number, None)
                self._give_to_sampler(event)
            elif self._suggest(event.number) == event.hyperparameters:
                unfinished[event.number] = event
            else:
                raise OutputError(
                    "the sweep to resume has another search; give the same space, searcher and "
                    "seed, or name another --output"
                )
        return list(unfinished.values())

    def _suggest(self, number: int) -> dict[str, Any]:
        if self._has_defaults(number):
            return dict(self._defaults or {})
        return cast(dict[str, Any], self._sampler.suggest(str(number)))

    def _has_defaults(self, number: int) -> bool:
        return number == 1 and self._defaults is not None

    def _give_to_sampler(self, trial: TrialResult) -> None:
        """Let the sampler learn from a trial that has ended."""
        if self._has_defaults(trial.number):
            if trial.eligible and self._space.holds(trial.hyperparameters):
                self._sampler.add_evaluated_point(trial.hyperparameters, trial.objective)
            return
        result = {self.metric: trial.objective} if trial.eligible else None
        self._sampler.on_trial_complete(str(trial.number), result, error=not trial.eligible)

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """The configuration of the next trial."""
        if self._interrupted:
            started = self._interrupted.pop(0)
        else:
            number = self._log.began + 1
            started = TrialStarted(number, self._suggest(number))
            self._log.add(started)
        self._running[trial_id] = started
        self._progress.began()
        return {NUMBER: started.number, HYPERPARAMETERS: started.hyperparameters}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Do nothing: `end` is called too, and knows more."""

    def running(self, trial_id: str) -> int | None:
        """The number of a trial that is running; None if it has ended."""
        started = self._running.get(trial_id)
        return started.number if started else None

    def end(self, trial_id: str, status: Status, result: dict[str, Any], reason: str) -> None:
        """Log how a trial ended, and let the sampler learn from it.

        Args:
            trial_id: Ray Tune's name of the trial.
            status: how it ended.
            result: its last report.
            reason: why it failed; empty if it did not.
        """
        started = self._running.pop(trial_id)
        best = dict(result.get(BEST, ()))
        trial = TrialResult(
            number=started.number,
            hyperparameters=started.hyperparameters,
            status=status,
            objective=best.get(self._objective.metric),
            metrics=best,
            epochs=result.get("epoch", 0),
            seconds=result.get("seconds", 0.0),
            reason=reason,
        )
        self._give_to_sampler(trial)
        self._log.add(trial)
        self._progress.ended(trial)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing to pickle, as Ray Tune does: the log has all."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the log has all."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the log has all."""


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
    metric, keep_by = checked.objective.metric, checked.inputs.hyperparameters.keep_by
    scheduler.on_trial_add(None, ended)
    for epoch in epochs:
        if epoch <= len(history):
            best = min(history[:epoch], key=partial(rank_epoch, keep_by=keep_by))
            scheduler.on_trial_result(None, ended, {"epoch": epoch, metric: best[metric]})
    scheduler.on_trial_remove(None, ended)


class TrialCallback(tune.Callback):
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
        """Log a trial that ended as it should, or with an error that its last report tells."""
        result = trial.last_result or {}
        status: Status = "stopped early"
        if result.get(FAILURE):
            status = "failed"
            if BUG in result:
                logger.error("a trial failed because of a bug:\n%s", result[BUG])
        elif result.get(FINISHED):
            status = "done"
        self._searcher.end(trial.trial_id, status, result, result.get(FAILURE, ""))

    def on_trial_error(self, trial: TuneTrial, **info: Any) -> None:  # noqa: ARG002
        """Log a trial whose process was lost too often, or whose code failed."""
        error = ray.cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
        if isinstance(error, LOST):
            reason = failure_reason([str(error)])
        else:
            reason = str(error).strip().splitlines()[-1]
            logger.error("a trial failed because of a bug:\n%s", error)
        self._searcher.end(trial.trial_id, "failed", trial.last_result or {}, reason)
