"""The folder that a training writes: what is in it, who may write there, and what it was asked for.

============================  =====================================================================
``model/``                    the kept epoch's model
``metrics.jsonl``             a line an epoch
``learning_curve.png``        drawn at the end
``run.json``                  what was asked for, to go on from after an interruption
``checkpoints/``              the newest two
``.rows/``, ``.lock``         only while the training runs
``.stop``                     asks the workers to write a checkpoint and stop
============================  =====================================================================
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from lstmfcn.errors import DataError, HyperparameterError, OutputError
from lstmfcn.files import whole_file
from lstmfcn.hyperparameters import Hyperparameters, explain, flag

MODEL, CHECKPOINTS = "model", "checkpoints"
METRICS, CURVE, RUN = "metrics.jsonl", "learning_curve.png", "run.json"
ROWS, STOP = ".rows", ".stop"

_LOCK = ".lock"
_MAY_CHANGE = {"epochs"}
"""Hyperparameters that may differ when a run goes on: more epochs are just more of the same."""


class RunRecord(BaseModel):
    """What was asked for, and the fingerprint of the training rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: str
    validation: str | None
    model: str | None
    hyperparameters: Hyperparameters
    train_sha256: str = ""

    def save(self, folder: Path) -> None:
        """Write ``run.json``.

        Raises:
            OutputError: it cannot be written.
        """
        with whole_file(folder / RUN) as path:
            path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> RunRecord | None:
        """The record of the run in a folder; None where there is none.

        Raises:
            OutputError: there is one, but it cannot be read.
        """
        path = folder / RUN
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise OutputError(f"{path}: {explain(error)}; name another --output") from error
        except OSError as error:
            raise OutputError(f"{path}: cannot be read ({error.strerror})") from error

    def resumed_with(self, given: Hyperparameters) -> Hyperparameters:
        """The run's hyperparameters, with more epochs where they were given.

        Raises:
            HyperparameterError: something else was given that is not what the run has.
        """
        self.refuse_other_hyperparameters(given, _MAY_CHANGE)
        changes = {name: getattr(given, name) for name in _MAY_CHANGE & given.model_fields_set}
        return self.hyperparameters.model_copy(update=changes)

    def refuse_other_hyperparameters(
        self, given: Hyperparameters, may_change: Set[str] = frozenset()
    ) -> None:
        """Refuse hyperparameters that are given and are not what the run has.

        Raises:
            HyperparameterError: they differ.
        """
        for name in sorted(given.model_fields_set - may_change):
            theirs, ours = getattr(self.hyperparameters, name), getattr(given, name)
            if theirs != ours:
                raise HyperparameterError(
                    f"{flag(name)}: found {ours!r}, the run to resume has {theirs!r}; "
                    "leave the flag out, or name another --output"
                )

    def refuse_other_rows(self, train_sha256: str, file: str) -> None:
        """Refuse training rows that are not those that the run began with.

        Raises:
            DataError: they differ.
        """
        if self.train_sha256 not in ("", train_sha256):
            raise DataError(
                "other training rows than the run to resume began with",
                "give it the same rows in the same order, or name another --output",
                file=file,
            )


@contextmanager
def run_folder(folder: Path) -> Iterator[None]:
    """Make a folder and hold it for one training; the hold ends with the process, however it ends.

    What is of use only while the training runs is removed at the end, and so is the folder where
    nothing else came into it.

    Raises:
        OutputError: another training holds it, or it cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written to ({error.strerror})") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise OutputError(f"{folder}: another training runs there; let it end first") from error
    try:
        _remove_passing(folder)
        yield
    finally:
        _remove_passing(folder)
        (folder / _LOCK).unlink(missing_ok=True)
        os.close(lock)
        if not any(folder.iterdir()):
            folder.rmdir()


def refuse_used(folder: Path) -> None:
    """Refuse a folder that holds a run already.

    Raises:
        OutputError: names what was found.
    """
    for name in (MODEL, METRICS, RUN, CHECKPOINTS):
        if (folder / name).exists():
            raise OutputError(
                f"{folder}: found {name} of an earlier run; add --resume to go on with it, "
                "or name another --output"
            )


def _remove_passing(folder: Path) -> None:
    """Remove what is of use only while a training runs; one that was killed leaves it behind."""
    shutil.rmtree(folder / ROWS, ignore_errors=True)
    (folder / STOP).unlink(missing_ok=True)
