"""A sweep's progress: a line for each trial that ends, a bar on a terminal."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable

from lstmfcn.hyperparameters import flag
from lstmfcn.sweep import Objective, Trial
from lstmfcn.terminal import Bar, tell_progress


class SweepProgress(Bar):
    """Shows each trial that ends: what it reached and with what, and how the sweep stands.

    Args:
        num_samples: trials in all.
        objective: what they are compared by.
        before: trials of the sweep that ended before it was interrupted.
        clock: seconds, from any origin.
    """

    def __init__(
        self,
        num_samples: int,
        objective: Objective,
        before: Iterable[Trial] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._num_samples, self._objective, self._clock = num_samples, objective, clock
        self._trials = list(before)
        self._before, self._running = len(self._trials), 0
        self._first_began: float | None = None  # of those that ended here, without the start-up
        super().__init__("trial", num_samples, self._before, self._standing_with_best())

    def began(self) -> None:
        """A trial has begun."""
        self._running += 1
        self.draw(self._standing_with_best())

    def ended(self, trial: Trial) -> None:
        """A trial has ended."""
        self._running -= 1
        self._trials.append(trial)
        if self._first_began is None:
            self._first_began = self._clock() - trial.seconds
        line = trial_line(trial, self._objective)
        if self._objective.best(self._trials) is trial:
            line += " best so far"
        tell_progress(f"{line} [{self.standing()}]")
        self.draw(self._standing_with_best(), len(self._trials))

    def standing(self) -> str:
        """How the sweep stands: ``12 of 32 ended (3 stopped early), 2 running, best ...``."""
        counts = Counter(trial.status for trial in self._trials)
        others = [f"{n} {status}" for status, n in sorted(counts.items()) if status != "done"]
        parts = [f"{len(self._trials)} of {self._num_samples} ended"]
        parts[0] += f" ({', '.join(others)})" if others else ""
        parts.append(f"{self._running} running")
        if best := self._objective.best(self._trials):
            parts.append(f"best {best.objective:.6g} by trial {best.number}")
        ended_here = len(self._trials) - self._before
        if self._first_began is not None:
            each = (self._clock() - self._first_began) / ended_here
            parts.append(f"{each * (self._num_samples - len(self._trials)):.0f} s left")
        return ", ".join(parts)

    def _standing_with_best(self) -> str:
        best = self._objective.best(self._trials)
        return self.standing() + (f"\nbest: {_given(best)}" if best else "")


def _given(trial: Trial) -> str:
    return ", ".join(f"{flag(name)} {_short(v)}" for name, v in trial.hyperparameters.items())


def trial_line(trial: Trial, objective: Objective) -> str:
    """``trial 7 done: valid_accuracy 0.9533, epoch 18 of 20, 3.2 s (lr 0.003, ...)``."""
    given = _given(trial)
    if trial.objective is None:
        return f"trial {trial.number} {trial.status}: {trial.reason} ({given})"
    failed = f", {trial.reason}" if trial.reason else ""
    return (
        f"trial {trial.number} {trial.status}: {objective.metric} {trial.objective:.6g}, epoch "
        f"{trial.metrics['epoch']} of {trial.epochs}, {trial.seconds:.1f} s{failed} ({given})"
    )


def best_lines(best: Trial, objective: Objective, defaults: Trial | None = None) -> list[str]:
    """What the best trial reached, and that of the defaults; the flags that train like the best."""
    lines = [f"best: {_reached(best, objective)}"]
    if defaults:
        lines.append(f"the defaults: {_reached(defaults, objective)}")
    flags = " ".join(f"--{flag(name)} {value}" for name, value in best.hyperparameters.items())
    return [*lines, flags]


def _reached(trial: Trial, objective: Objective) -> str:
    if trial.objective is None or not trial.counts:
        return f"trial {trial.number}, {trial.status} ({trial.reason})"
    return (
        f"trial {trial.number}, {objective.metric} {trial.objective:.8f}, epoch "
        f"{trial.metrics['epoch']}"
    )


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
