"""What a sweep was asked for (``sweep.json``), and what it has done so far (``sweep.jsonl``).

``sweep.jsonl`` has a line for each trial that began and one for each that ended, written at once.
Replaying the lines to a seeded searcher brings it to where it was, so a resumed sweep ends as one
that was never interrupted. ``trials.csv`` has the same trials as a table.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from lstmfcn.errors import HyperparameterError, OutputError, shown
from lstmfcn.hyperparameters import format_validation_error, to_flag
from lstmfcn.storage.files import atomic_write, open_regular, refusing_write_errors, sync
from lstmfcn.training.metrics_log import EpochMetrics
from lstmfcn.training.run_directory import JsonRecord, refuse_changes
from lstmfcn.tuning.search_space import SearchSpace

SWEEP = "sweep.json"

SchedulerName = Literal["asha", "none"]
SearcherName = Literal["optuna", "random"]

_MAY_CHANGE = {"num_samples"}
"""What may differ when a sweep goes on: more trials are just more of the same."""


EVENTS, TRIALS = "sweep.jsonl", "trials.csv"

_FOLDER = "trials"

Status = Literal["done", "stopped early", "out of time", "failed"]

_MINIMISED = "_loss"


class SearchConfig(BaseModel):
    """How a sweep searches, as the user asks for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    space: str = Field(
        "default",
        description="What is searched: a YAML file, or a preset: default, paper or published.",
    )
    num_samples: int = Field(
        20, ge=1, description="Trials in all; the first has the values that train would have."
    )
    metric: str = Field(
        "valid_accuracy",
        description="What trials are compared by, at the epoch that each keeps; losses are "
        "minimised, all else is maximised.",
    )
    searcher: SearcherName = Field(
        "optuna", description="optuna learns from the trials so far (TPE), random does not."
    )
    scheduler: SchedulerName = Field(
        "asha",
        description="asha stops the worse two thirds of the trials after a ninth, and again after "
        "a third, of the epochs, but not the first trial; none lets all of them end.",
    )


class SweepConfig(SearchConfig, JsonRecord):
    """What was asked for, and what its space holds.

    Attributes:
        written: the space without the hyperparameters that are given.
        defaults_first: whether the first trial has the values that ``lstmfcn train`` would have;
            sweeps that older versions began do not say so.
    """

    file_name = SWEEP

    written: dict[str, Any]
    defaults_first: bool = False

    @classmethod
    def create(cls, search: SearchConfig, fixed: set[str]) -> SweepConfig:
        """The record of a sweep in which these hyperparameters are given.

        Raises:
            HyperparameterError: the space cannot be read, or allows impossible values, or nothing
                is left of it.
        """
        space = SearchSpace.load(search.space).without(fixed, search.space)
        return cls(**search.model_dump(), written=space.to_dict(), defaults_first=True)

    def search_space(self) -> SearchSpace:
        """The space, as it was when the sweep began."""
        return SearchSpace.from_mapping(self.written, self.space)

    def apply_resume_changes(self, given: SearchConfig) -> SweepConfig:
        """This record, with more trials where they were given.

        Raises:
            HyperparameterError: something else was given that is not what the sweep has.
        """
        return self.model_copy(update=refuse_changes(self, given, _MAY_CHANGE))


@dataclass(frozen=True)
class TrialResult:
    """A trial that has ended.

    Attributes:
        number: counted from 1, in the order in which trials began.
        hyperparameters: those that were searched.
        objective: of the kept epoch; None where the trial failed before its first one.
        metrics: of the kept epoch.
        epochs: that were trained.
        seconds: in which they were.
        reason: why it failed.
    """

    number: int
    hyperparameters: dict[str, Any]
    status: Status
    objective: float | None = None
    metrics: EpochMetrics = field(default_factory=dict)
    epochs: int = 0
    seconds: float = 0.0
    reason: str = ""

    @property
    def eligible(self) -> bool:
        """Whether it may be the best."""
        return self.objective is not None and self.status != "failed"


class TrialStarted(NamedTuple):
    """A trial was given these hyperparameters."""

    number: int
    hyperparameters: dict[str, Any]


_KINDS: dict[str, TypeAdapter[TrialStarted | TrialResult]] = {
    "began": TypeAdapter(TrialStarted),
    "ended": TypeAdapter(TrialResult),
}


class Objective(NamedTuple):
    """The metric by which trials are compared, and its direction."""

    metric: str

    @property
    def mode(self) -> Literal["min", "max"]:
        """Losses are minimised, all else is maximised."""
        return "min" if self.metric.endswith(_MINIMISED) else "max"

    def refuse_unknown(self, has_validation: bool) -> None:
        """Refuse a metric that no epoch has.

        Raises:
            HyperparameterError: names those that there are.
        """
        prefixes = ("train", "valid") if has_validation else ("train",)
        known = [f"{p}_{q}" for p in prefixes for q in ("loss", "accuracy", "exact_match")]
        if self.metric in known:
            return
        if self.metric.startswith("valid") and not has_validation:
            raise HyperparameterError(f"metric {self.metric}: needs --validation")
        raise HyperparameterError(
            f"metric: found {shown(self.metric)}; write one of {', '.join(known)}"
        )

    def better(self, one: float, other: float) -> bool:
        """Whether the first value is better than the second."""
        return one < other if self.mode == "min" else one > other

    def best(self, trials: Iterable[TrialResult]) -> TrialResult | None:
        """The best trial; of equal ones the first. None where none counts."""
        sign = 1 if self.mode == "min" else -1
        counting = [trial for trial in trials if trial.eligible]
        return min(counting, key=lambda t: (sign * (t.objective or 0.0), t.number), default=None)


def trial_folder(folder: Path, number: int) -> Path:
    """Where a trial of the sweep in a folder writes."""
    return folder / _FOLDER / f"{number:04d}"


class SweepLog:
    """The lines of ``sweep.jsonl``, and what they say.

    Args:
        folder: of the sweep.

    Raises:
        OutputError: there are lines that cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._settled = True
        self.events: list[TrialStarted | TrialResult] = []
        path = folder / EVENTS
        if path.exists():
            *lines, _ = _text(path).split("\n")  # the last may be cut off
            self.events = [_event(line, f"{path}, line {i}") for i, line in enumerate(lines, 1)]

    @property
    def trials(self) -> list[TrialResult]:
        """The trials that ended, by number."""
        ended = [event for event in self.events if isinstance(event, TrialResult)]
        return sorted(ended, key=lambda trial: trial.number)

    @property
    def began(self) -> int:
        """How many trials began."""
        return sum(isinstance(event, TrialStarted) for event in self.events)

    def start(self) -> None:
        """Drop a last line that was cut off, so that lines can be added; write the table anew.

        Raises:
            OutputError: a file cannot be written.
        """
        with atomic_write(self._folder / EVENTS) as path:
            path.write_text("".join(map(_line, self.events)), encoding="utf-8")
        self._write_table()

    def add(self, event: TrialStarted | TrialResult) -> None:
        """Write one line, which outlives this process.

        Raises:
            OutputError: it cannot be written.
        """
        self.events.append(event)
        self._settled = False
        path = self._folder / EVENTS
        with refusing_write_errors(path), path.open("a", encoding="utf-8") as file:
            file.write(_line(event))

    def flush(self) -> None:
        """Have what was added outlive this machine's power too, and write the table anew.

        Raises:
            OutputError: a file cannot be written.
        """
        if self._settled:
            return
        path = self._folder / EVENTS
        with refusing_write_errors(path):
            sync(path)
        self._write_table()
        self._settled = True

    def _write_table(self) -> None:
        if self.trials:
            write_table(self.trials, self._folder / TRIALS)


def write_table(trials: list[TrialResult], path: Path) -> None:
    """``trials.csv``: a row a trial.

    Raises:
        OutputError: it cannot be written.
    """
    names = list(dict.fromkeys(name for trial in trials for name in trial.hyperparameters))
    metrics = list(dict.fromkeys(name for trial in trials for name in trial.metrics))
    metrics = [name for name in metrics if name.startswith(("train_", "valid_"))]
    with (
        atomic_write(path) as unfinished,
        unfinished.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator=os.linesep)
        searched = map(to_flag, names)
        ends = ("kept_epoch", "epochs", "seconds", "reason")
        writer.writerow(["trial", "status", "objective", *searched, *metrics, *ends])
        for trial in trials:
            writer.writerow(
                [trial.number, trial.status, trial.objective]
                + [trial.hyperparameters.get(name) for name in names]
                + [trial.metrics.get(name) for name in metrics]
                + [trial.metrics.get("epoch"), trial.epochs, round(trial.seconds, 3), trial.reason]
            )


def _text(path: Path) -> str:
    try:
        with open_regular(path) as file:
            return file.read().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise OutputError(f"{path}: cannot be read ({reason}); name another --output") from error


def _line(event: TrialStarted | TrialResult) -> str:
    if isinstance(event, TrialStarted):
        return json.dumps({"event": "began", **event._asdict()}) + "\n"
    return json.dumps({"event": "ended", **asdict(event)}, allow_nan=False) + "\n"


def _event(line: str, place: str) -> TrialStarted | TrialResult:
    try:
        written = json.loads(line)
        return _KINDS[written.pop("event")].validate_python(written)
    except ValidationError as error:
        fault = format_validation_error(error, "the line")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        fault = str(error)
    raise OutputError(f"{place}: is damaged ({fault}); name another --output")
