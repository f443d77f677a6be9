"""Show how a sweep goes: a line for each trial that ends, and a progress bar on a terminal."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable

from lstmfcn.console import Bar, print_progress
from lstmfcn.hyperparameters import to_flag
from lstmfcn.tuning.sweep import Objective, TrialResult


class SweepProgress(Bar):
    """Prints a line for each trial that ends: its result, its values and the state of the sweep.

    Args:
        before: trials that ended before the sweep was resumed.
    """

    def __init__(
        self,
        num_samples: int,
        objective: Objective,
        before: Iterable[TrialResult] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._num_samples, self._objective, self._clock = num_samples, objective, clock
        self._trials = list(before)
        self._before, self._running = len(self._trials), 0
        self._first_began: float | None = None  # start of the first trial of this process
        super().__init__("trial", num_samples, self._before, self._describe_with_best())

    def began(self) -> None:
        """Count a trial that started."""
        self._running += 1
        self.draw(self._describe_with_best())

    def ended(self, trial: TrialResult) -> None:
        """Show a trial that ended."""
        self._running -= 1
        self._trials.append(trial)
        if self._first_began is None:
            self._first_began = self._clock() - trial.seconds
        line = format_trial(trial, self._objective)
        if self._objective.best(self._trials) is trial:
            line += " best so far"
        print_progress(f"{line} [{self.describe()}]")
        self.draw(self._describe_with_best(), len(self._trials))

    def describe(self) -> str:
        """Describe the sweep: ``12 of 32 ended (3 stopped early), 2 running, best ...``."""
        counts = Counter(trial.status for trial in self._trials)
        others = [f"{n} {status}" for status, n in sorted(counts.items()) if status != "done"]
        parts = [f"{len(self._trials)} of {self._num_samples} ended"]
        parts[0] += f" ({', '.join(others)})" if others else ""
        parts.append(f"{self._running} running")
        if best := self._objective.best(self._trials):
            parts.append(f"best {best.objective:.6g} by trial {best.number}")
        ended_here = len(self._trials) - self._before
        if self._first_began is not None:
            seconds_each = (self._clock() - self._first_began) / ended_here
            parts.append(f"{seconds_each * (self._num_samples - len(self._trials)):.0f} s left")
        return ", ".join(parts)

    def _describe_with_best(self) -> str:
        best = self._objective.best(self._trials)
        return self.describe() + (f"\nbest: {_format_values(best)}" if best else "")


def _format_values(trial: TrialResult) -> str:
    return ", ".join(f"{to_flag(name)} {_short(v)}" for name, v in trial.hyperparameters.items())


def format_trial(trial: TrialResult, objective: Objective) -> str:
    """Format an ended trial: ``trial 7 done: valid_accuracy 0.9533, epoch 18 of 20, ...``."""
    values = _format_values(trial)
    if trial.objective is None:
        return f"trial {trial.number} {trial.status}: {trial.reason} ({values})"
    failed = f", {trial.reason}" if trial.reason else ""
    return (
        f"trial {trial.number} {trial.status}: {objective.metric} {trial.objective:.6g}, epoch "
        f"{trial.metrics['epoch']} of {trial.epochs}, {trial.seconds:.1f} s{failed} ({values})"
    )


def format_best(
    best: TrialResult, objective: Objective, defaults: TrialResult | None = None
) -> list[str]:
    """Format the results of the best trial and of the defaults, and the flags of the best trial."""
    lines = [f"best: {_format_result(best, objective)}"]
    if defaults:
        lines.append(f"the defaults: {_format_result(defaults, objective)}")
    flags = " ".join(f"--{to_flag(name)} {value}" for name, value in best.hyperparameters.items())
    return [*lines, flags]


def _format_result(trial: TrialResult, objective: Objective) -> str:
    if trial.objective is None or not trial.eligible:
        return f"trial {trial.number}, {trial.status} ({trial.reason})"
    return (
        f"trial {trial.number}, {objective.metric} {trial.objective:.8f}, epoch "
        f"{trial.metrics['epoch']}"
    )


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
