"""The folder that a training writes: what is in it, who may write there, and what it was asked for.

============================  =====================================================================
``model/``                    the kept epoch's model
``metrics.jsonl``             a line an epoch
``learning_curve.png``        drawn at the end
``run.json``                  what was asked for, to go on from after an interruption
``checkpoints/``              the newest two
``members/NN/``               for an ensemble: model, metrics and checkpoints of each member
``tensorboard/``, ``mlflow.json``  with ``--track``: event files; the runs in MLflow
``.rows/``, ``.lock``         only while the training runs
``.stop``                     asks the workers to write a checkpoint and stop
============================  =====================================================================
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator

from lstmfcn.checkpoints import Position, newest_position
from lstmfcn.data_arguments import as_arguments
from lstmfcn.errors import DataError, OutputError
from lstmfcn.files import exists, make_folder
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.records import Record, TrackerName, refuse_changes

MODEL, CHECKPOINTS, MEMBERS = "model", "checkpoints", "members"
METRICS, CURVE, RUN = "metrics.jsonl", "learning_curve.png", "run.json"
TENSORBOARD, MLFLOW = "tensorboard", "mlflow.json"
ROWS, STOP = ".rows", ".stop"

_LOCK = ".lock"
_MOST_TRIES = 20
_MAY_CHANGE = {"epochs"}
"""Hyperparameters that may differ when a run goes on: more epochs are just more of the same."""


logger = logging.getLogger(__name__)


_Arguments = Annotated[tuple[str, ...], BeforeValidator(as_arguments)]
"""Data arguments; a record of a run with one has it as a text where it was written before."""


class RunRecord(Record):
    """What was asked for, and the fingerprint of the training rows."""

    file_name = RUN

    train: _Arguments
    validation: _Arguments | None
    model: str | None
    hyperparameters: Hyperparameters
    train_sha256: str = ""
    track: tuple[TrackerName, ...] = ()

    def resumed_with(self, given: Hyperparameters) -> Hyperparameters:
        """The run's hyperparameters, with more epochs where they were given.

        Raises:
            HyperparameterError: something else was given that is not what the run has.
        """
        changes = refuse_changes(self.hyperparameters, given, _MAY_CHANGE)
        return self.hyperparameters.model_copy(update=changes)

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
    lock = _lock(folder)
    try:
        _remove_passing(folder)
        yield
    finally:
        _remove_passing(folder)
        (folder / _LOCK).unlink(missing_ok=True)
        os.close(lock)
        with suppress(OSError):  # it holds something, of this training or of the next one
            folder.rmdir()


def _lock(folder: Path) -> int:
    """Make the folder, and hold its lock's file; returns the descriptor that holds it.

    Whoever ends removes the file, and perhaps the folder. What was opened here before that is no
    lock of anybody's: then this process begins again.

    Raises:
        OutputError: another training holds it, or it cannot be written to.
    """
    for _ in range(_MOST_TRIES):
        try:
            make_folder(folder)
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise OutputError(f"{folder}: cannot be written to ({error.strerror})") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), (folder / _LOCK).stat()):
                return lock
        except BlockingIOError as error:
            os.close(lock)
            raise OutputError(f"{folder}: another training runs there; let it end first") from error
        except FileNotFoundError:
            os.close(lock)
        except OSError as error:
            os.close(lock)
            raise OutputError(f"{folder}: cannot be locked ({error.strerror})") from error
        else:
            os.close(lock)
    raise OutputError(f"{folder}: cannot be written to (a file in it does not stay there)")


def member_folders(folder: Path, members: int) -> list[Path]:
    """Where each member of an ensemble is trained; a single network, in the run's own folder."""
    if members == 1:
        return [folder]
    return [folder / MEMBERS / f"{k:02d}" for k in range(members)]


def run_position(
    folder: Path, members: int, tell: Callable[[str], None] = logger.debug
) -> Position:
    """Where a run would go on: of an ensemble, its member that is least far."""
    folders = member_folders(folder, members)
    return min(newest_position(path / CHECKPOINTS, tell) for path in folders)


def refuse_used(folder: Path) -> None:
    """Refuse a folder that holds a run already.

    Raises:
        OutputError: names what was found.
    """
    for name in (MODEL, METRICS, RUN, CHECKPOINTS, MEMBERS, TENSORBOARD, MLFLOW):
        if exists(folder / name):
            raise OutputError(
                f"{folder}: found {name} of an earlier run; add --resume to go on with it, "
                "or name another --output"
            )


def _remove_passing(folder: Path) -> None:
    """Remove what is of use only while a training runs; one that was killed leaves it behind."""
    shutil.rmtree(folder / ROWS, ignore_errors=True)
    (folder / STOP).unlink(missing_ok=True)
