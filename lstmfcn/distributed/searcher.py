"""Suggests the hyperparameters of each trial to Ray Tune, and keeps the record of the sweep."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, cast

import optuna
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from lstmfcn.distributed.trial_plan import BEST, HYPERPARAMETERS, NUMBER
from lstmfcn.errors import OutputError
from lstmfcn.search_space import SearchSpace
from lstmfcn.sweep import Began, Objective, Status, SweepLog, Trial
from lstmfcn.sweep_progress import SweepProgress
from lstmfcn.sweep_record import SearcherName


class RecordingSearcher(Searcher):
    """Optuna's sampler, brought to where the record ends, and a line in the record for each event.

    A trial that began and did not end is the first to be suggested again.

    Args:
        name: ``optuna`` samples by TPE (Bergstra et al. 2011), ``random`` independently.
        space: what is searched.
        defaults: what the first trial has of the searched hyperparameters, instead of what would
            be suggested; None where it has nothing else than the others.
        objective: what is to be reached.
        seed: of the sampler.
        log: of the sweep so far.
        progress: is told of each trial that begins and ends.

    Raises:
        OutputError: the record is that of another sweep.
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
            self._inner = OptunaSearch(
                space.distributions(),
                metric=objective.metric,
                mode=objective.mode,
                sampler=samplers[name](seed=seed),
            )
        self._space, self._defaults = space, defaults
        self._objective, self._log, self._progress = objective, log, progress
        self._running: dict[str, Began] = {}
        self._interrupted = self._replay()

    def _replay(self) -> list[Began]:
        """Ask and tell all that was asked and told before; returns what was never told."""
        asked: dict[int, Began] = {}
        for event in self._log.events:
            if isinstance(event, Trial):
                asked.pop(event.number, None)
                self._tell(event)
            elif self._suggested(event.number) == event.hyperparameters:
                asked[event.number] = event
            else:
                raise OutputError(
                    "the sweep to resume searched something else; give it the same space, "
                    "searcher and seed, or name another --output"
                )
        return list(asked.values())

    def _suggested(self, number: int) -> dict[str, Any]:
        if self._has_defaults(number):
            return dict(self._defaults or {})
        return cast(dict[str, Any], self._inner.suggest(str(number)))

    def _has_defaults(self, number: int) -> bool:
        return number == 1 and self._defaults is not None

    def _tell(self, trial: Trial) -> None:
        if self._has_defaults(trial.number):
            if trial.counts and self._space.holds(trial.hyperparameters):
                self._inner.add_evaluated_point(trial.hyperparameters, trial.objective)
            return
        result = {self.metric: trial.objective} if trial.counts else None
        self._inner.on_trial_complete(str(trial.number), result, error=not trial.counts)

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """The next trial's configuration."""
        if self._interrupted:
            began = self._interrupted.pop(0)
        else:
            number = self._log.began + 1
            began = Began(number, self._suggested(number))
            self._log.add(began)
        self._running[trial_id] = began
        self._progress.began()
        return {NUMBER: began.number, HYPERPARAMETERS: began.hyperparameters}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: `end` knows more."""

    def running(self, trial_id: str) -> int | None:
        """The number of a trial that has begun, and not ended."""
        began = self._running.get(trial_id)
        return began.number if began else None

    def end(self, trial_id: str, status: Status, result: dict[str, Any], reason: str) -> None:
        """A trial has ended; the sampler learns of it, and the record."""
        began = self._running.pop(trial_id)
        best = dict(result.get(BEST, ()))
        trial = Trial(
            number=began.number,
            hyperparameters=began.hyperparameters,
            status=status,
            objective=best.get(self._objective.metric),
            metrics=best,
            epochs=result.get("epoch", 0),
            seconds=result.get("seconds", 0.0),
            reason=reason,
        )
        self._tell(trial)
        self._log.add(trial)
        self._progress.ended(trial)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray Tune pickles what it is given, and the record has all."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the record has all."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the record has all."""
