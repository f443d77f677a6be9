"""What a sweep has done so far: its trials, and the order of questions and answers.

``sweep.jsonl`` has a line for each trial that began and one for each that ended, written at once.
Replaying the lines to a seeded searcher brings it to where it was, so a sweep that was interrupted
goes on as if it never had been. ``trials.csv`` is the same as a table, soon written anew.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import TypeAdapter, ValidationError

from lstmfcn.errors import HyperparameterError, OutputError
from lstmfcn.files import open_regular, sync, whole_file, writing
from lstmfcn.hyperparameters import explain, flag
from lstmfcn.metrics_file import EpochMetrics
from lstmfcn.quoting import shown

EVENTS, TRIALS = "sweep.jsonl", "trials.csv"

_FOLDER = "trials"

Status = Literal["done", "stopped early", "out of time", "failed"]

_MINIMISED = "_loss"


@dataclass(frozen=True)
class Trial:
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
    def counts(self) -> bool:
        """Whether it may be the best."""
        return self.objective is not None and self.status != "failed"


class Began(NamedTuple):
    """A trial was given these hyperparameters."""

    number: int
    hyperparameters: dict[str, Any]


_KINDS: dict[str, TypeAdapter[Began | Trial]] = {
    "began": TypeAdapter(Began),
    "ended": TypeAdapter(Trial),
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

    def best(self, trials: Iterable[Trial]) -> Trial | None:
        """The best trial; of equal ones the first. None where none counts."""
        sign = 1 if self.mode == "min" else -1
        counting = [trial for trial in trials if trial.counts]
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
        self.events: list[Began | Trial] = []
        path = folder / EVENTS
        if path.exists():
            *lines, _ = _text(path).split("\n")  # the last may be cut off
            self.events = [_event(line, f"{path}, line {i}") for i, line in enumerate(lines, 1)]

    @property
    def trials(self) -> list[Trial]:
        """The trials that ended, by number."""
        ended = [event for event in self.events if isinstance(event, Trial)]
        return sorted(ended, key=lambda trial: trial.number)

    @property
    def began(self) -> int:
        """How many trials began."""
        return sum(isinstance(event, Began) for event in self.events)

    def start(self) -> None:
        """Drop a last line that was cut off, so that lines can be added; write the table anew.

        Raises:
            OutputError: a file cannot be written.
        """
        with whole_file(self._folder / EVENTS) as path:
            path.write_text("".join(map(_line, self.events)), encoding="utf-8")
        self._write_table()

    def add(self, event: Began | Trial) -> None:
        """Write one line, which outlives this process.

        Raises:
            OutputError: it cannot be written.
        """
        self.events.append(event)
        self._settled = False
        path = self._folder / EVENTS
        with writing(path), path.open("a", encoding="utf-8") as file:
            file.write(_line(event))

    def settle(self) -> None:
        """Have what was added outlive this machine's power too, and write the table anew.

        Raises:
            OutputError: a file cannot be written.
        """
        if self._settled:
            return
        path = self._folder / EVENTS
        with writing(path):
            sync(path)
        self._write_table()
        self._settled = True

    def _write_table(self) -> None:
        if self.trials:
            write_table(self.trials, self._folder / TRIALS)


def write_table(trials: list[Trial], path: Path) -> None:
    """``trials.csv``: a row a trial.

    Raises:
        OutputError: it cannot be written.
    """
    names = list(dict.fromkeys(name for trial in trials for name in trial.hyperparameters))
    metrics = list(dict.fromkeys(name for trial in trials for name in trial.metrics))
    metrics = [name for name in metrics if name.startswith(("train_", "valid_"))]
    with whole_file(path) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator=os.linesep)
        searched = map(flag, names)
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


def _line(event: Began | Trial) -> str:
    if isinstance(event, Began):
        return json.dumps({"event": "began", **event._asdict()}) + "\n"
    return json.dumps({"event": "ended", **asdict(event)}, allow_nan=False) + "\n"


def _event(line: str, place: str) -> Began | Trial:
    try:
        written = json.loads(line)
        return _KINDS[written.pop("event")].validate_python(written)
    except ValidationError as error:
        fault = explain(error, "the line")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        fault = str(error)
    raise OutputError(f"{place}: is damaged ({fault}); name another --output")
