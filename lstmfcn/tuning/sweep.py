"""Record a sweep: its configuration (``sweep.json``) and its trials (``sweep.jsonl``).

``sweep.jsonl`` gets a line when a trial starts and one when it ends. Replaying these lines restores
the state of a seeded searcher, so a resumed sweep ends like one that was never interrupted.
``trials.csv`` has the ended trials as a table.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
)

from lstmfcn.errors import HyperparameterError, OutputError, shown
from lstmfcn.hyperparameters import TaskName, format_validation_error, to_flag
from lstmfcn.storage.files import atomic_write, open_regular, refusing_write_errors, sync
from lstmfcn.training.metrics_log import EpochMetrics
from lstmfcn.training.run_directory import JsonRecord, refuse_changes
from lstmfcn.tuning.search_space import SearchSpace

SchedulerName = Literal["asha", "none"]
SearcherName = Literal["optuna", "random"]

SWEEP, EVENTS, TRIALS = "sweep.json", "sweep.jsonl", "trials.csv"
_FOLDER = "trials"

SWEEP_FILES = (SWEEP, EVENTS, TRIALS, _FOLDER, "objective.png", "slices.png", "importance.png")
"""The files and folders that a sweep writes, besides those of a run."""


_MAY_CHANGE = {"num_samples"}
"""Options that may differ when a sweep resumes."""

Status = Literal["done", "stopped early", "out of time", "failed"]


class SearchConfig(BaseModel):
    """The user's options of a sweep."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    space: str = Field(
        "default",
        description="Search space: a YAML file, or a preset: default, paper or published.",
    )
    num_samples: int = Field(
        20,
        ge=1,
        description="Number of trials; the first one uses the values that train would use.",
    )
    metric: str = Field(
        "valid_accuracy",
        description="Metric to optimise, at each trial's best epoch, such as macro_f1. Losses are "
        "minimised, other metrics maximised.",
    )
    searcher: SearcherName = Field(
        "optuna", description="optuna proposes values from earlier trials (TPE); random does not."
    )
    scheduler: SchedulerName = Field(
        "asha",
        description="asha stops the worst two thirds of the trials after a ninth and after a third "
        "of the epochs, but never the first trial; none runs every trial to its end.",
    )

    @field_validator("metric")
    @classmethod
    def _complete(cls, metric: str) -> str:
        """Scores by class are those of the validation rows."""
        return f"valid_{metric}" if metric in ("macro_f1", "balanced_accuracy") else metric


class SweepConfig(SearchConfig, JsonRecord):
    """The configuration of a sweep, with the content of its search space.

    Attributes:
        written: the search space, without hyperparameters that the user fixed.
        defaults_first: whether the first trial uses the values that ``lstmfcn train`` would use;
            False for sweeps of older versions.
    """

    file_name = SWEEP

    written: dict[str, Any]
    defaults_first: bool = False

    @classmethod
    def create(cls, search: SearchConfig, fixed: set[str]) -> SweepConfig:
        """Create the configuration of a sweep in which the user fixed these hyperparameters.

        Raises:
            HyperparameterError: the space cannot be read, allows invalid values, or becomes empty.
        """
        space = SearchSpace.load(search.space).without(fixed, search.space)
        return cls(**search.model_dump(), written=space.to_dict(), defaults_first=True)

    def search_space(self) -> SearchSpace:
        """Return the search space, as it was when the sweep began."""
        return SearchSpace.from_mapping(self.written, self.space)

    def apply_resume_changes(self, requested: SearchConfig) -> SweepConfig:
        """Return this with the requested trials; refuse (`HyperparameterError`) other changes."""
        return self.model_copy(update=refuse_changes(self, requested, _MAY_CHANGE))


@dataclass(frozen=True)
class TrialResult:
    """A trial that has ended.

    Attributes:
        number: number of the trial, from 1, in the order in which trials started.
        objective: objective at the best epoch; None if the trial failed before its first epoch.
        metrics: metrics of the best epoch.
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
        """Whether it can be the best trial."""
        return self.objective is not None and self.status != "failed"


class TrialStarted(NamedTuple):
    """A trial started with these hyperparameters."""

    number: int
    hyperparameters: dict[str, Any]


_KINDS: dict[str, TypeAdapter[TrialStarted | TrialResult]] = {
    "began": TypeAdapter(TrialStarted),
    "ended": TypeAdapter(TrialResult),
}


class Objective(NamedTuple):
    """The metric to optimise, and its direction."""

    metric: str

    @property
    def mode(self) -> Literal["min", "max"]:
        """``min`` for losses, ``max`` for all other metrics."""
        return "min" if self.metric.endswith("_loss") else "max"

    def refuse_unknown(self, has_validation: bool, task: TaskName | None) -> None:
        """Refuse (`HyperparameterError`) a metric that epochs do not have.

        Args:
            task: None if it is not known yet.
        """
        prefixes = ("train", "valid") if has_validation else ("train",)
        exact = [] if task in ("multiclass", "binary") else ["exact_match"]
        available = [f"{p}_{q}" for p in prefixes for q in ("loss", "accuracy", *exact)]
        if has_validation:
            balanced = [] if task == "multilabel" else ["valid_balanced_accuracy"]
            available += ["valid_macro_f1", *balanced]
        if self.metric in available:
            return
        if self.metric.startswith("valid") and not has_validation:
            raise HyperparameterError(f"metric {self.metric}: needs --validation")
        raise HyperparameterError(
            f"metric: found {shown(self.metric)}; write one of {', '.join(available)}"
        )

    def better(self, one: float, other: float) -> bool:
        """Whether the first value is better than the second."""
        return one < other if self.mode == "min" else one > other

    def best(self, trials: Iterable[TrialResult]) -> TrialResult | None:
        """Return the best eligible trial, of equal ones the first; None if there is none."""
        sign = 1 if self.mode == "min" else -1
        eligible = [trial for trial in trials if trial.eligible]
        return min(eligible, key=lambda t: (sign * (t.objective or 0.0), t.number), default=None)


def trial_folder(folder: Path, number: int) -> Path:
    """Return the folder of a trial, within the folder of its sweep."""
    return folder / _FOLDER / f"{number:04d}"


class SweepLog:
    """Reads (or raises `OutputError`) and writes ``sweep.jsonl`` and ``trials.csv``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._is_flushed = True
        self.events: list[TrialStarted | TrialResult] = []
        path = folder / EVENTS
        if path.exists():
            *lines, _ = _read_text(path).split("\n")  # the last one may be incomplete
            self.events = [
                _parse_event(line, f"{path}, line {i}") for i, line in enumerate(lines, 1)
            ]

    @property
    def trials(self) -> list[TrialResult]:
        """The ended trials, by number."""
        ended = [event for event in self.events if isinstance(event, TrialResult)]
        return sorted(ended, key=lambda trial: trial.number)

    @property
    def began(self) -> int:
        """The number of trials that started."""
        return sum(isinstance(event, TrialStarted) for event in self.events)

    def start(self) -> None:
        """Rewrite the files without an incomplete last line; raises `OutputError` if it cannot."""
        with atomic_write(self._folder / EVENTS) as path:
            path.write_text("".join(map(_line, self.events)), encoding="utf-8")
        self._write_table()

    def add(self, event: TrialStarted | TrialResult) -> None:
        """Append a line that outlives this process; raises `OutputError` if it cannot."""
        self.events.append(event)
        self._is_flushed = False
        path = self._folder / EVENTS
        with refusing_write_errors(path), path.open("a", encoding="utf-8") as file:
            file.write(_line(event))

    def flush(self) -> None:
        """Sync added lines to disk, and rewrite the table; raises `OutputError` if it cannot."""
        if self._is_flushed:
            return
        path = self._folder / EVENTS
        with refusing_write_errors(path):
            sync(path)
        self._write_table()
        self._is_flushed = True

    def _write_table(self) -> None:
        if self.trials:
            write_table(self.trials, self._folder / TRIALS)


def write_table(trials: list[TrialResult], path: Path) -> None:
    """Write ``trials.csv``, one row per trial; raises `OutputError` if it cannot."""
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


def _read_text(path: Path) -> str:
    try:
        with open_regular(path) as file:
            return file.read().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise OutputError(f"{path}: cannot be read ({reason}); name another --output") from error


def _line(event: TrialStarted | TrialResult) -> str:
    if isinstance(event, TrialStarted):
        return json.dumps({"event": "began", **event._asdict()}) + "\n"
    return json.dumps({"event": "ended", **asdict(event)}, allow_nan=False) + "\n"


def _parse_event(line: str, place: str) -> TrialStarted | TrialResult:
    try:
        fields = json.loads(line)
        return _KINDS[fields.pop("event")].validate_python(fields)
    except ValidationError as error:
        fault = format_validation_error(error, "the line")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        fault = str(error)
    raise OutputError(f"{place}: is damaged ({fault}); name another --output")
