"""Every error that lstmfcn raises on purpose.

LstmfcnError
├── UserError            something the user gave is wrong: one line, exit code 2
│   ├── DataError            in a shard: file, row, column, what was found, what to do
│   ├── HyperparameterError  a hyperparameter has an impossible value
│   ├── ModelError           a model directory cannot be read, or does not fit the data
│   ├── OutputError          an output path cannot be used
│   ├── ResourceError        the cluster cannot give what was asked
│   └── TrackingError        a training cannot be tracked where it is to be
├── TrainingError        training itself failed (a loss that is not finite): one line, exit code 1
└── StoppedError         the user stopped it: one line, exit code 130

Anything else that escapes is a bug of lstmfcn and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lstmfcn.quoting import one_line


class LstmfcnError(Exception):
    """Base of all errors of lstmfcn; ``exit_code`` is what a command ends with.

    Its text is one line, whatever names and values of the user's stand in it.
    """

    exit_code = 1

    def __str__(self) -> str:
        return one_line(super().__str__())

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows, as IPython asks for it: the one line, and no traceback."""
        return [f"{type(self).__name__}: {self}"]


class UserError(LstmfcnError):
    """Something the user gave is wrong; its text is the one line the user reads."""

    exit_code = 2


class DataError(UserError):
    """A shard breaks the data contract.

    Args:
        found: what stands there, as the user would recognise it.
        fix: what to do about it.
        file: the shard's path as the user wrote or would write it.
        row: the data row, counted from 1 below the header.
        column: the column's name.
    """

    def __init__(
        self,
        found: str,
        fix: str,
        *,
        file: str | None = None,
        row: int | None = None,
        column: str | None = None,
    ) -> None:
        self.found, self.fix, self.file, self.row, self.column = found, fix, file, row, column
        places = [
            str(file) if file is not None else None,
            f"row {row}" if row is not None else None,
            f"column {column}" if column is not None else None,
        ]
        place = ", ".join(part for part in places if part)
        super().__init__(f"{place + ': ' if place else ''}found {found}; {fix}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Survive the way from a worker process to the driver."""
        return _data_error, (self.found, self.fix, self.file, self.row, self.column)


def _data_error(
    found: str, fix: str, file: str | None, row: int | None, column: str | None
) -> DataError:
    return DataError(found, fix, file=file, row=row, column=column)


def raise_first(faults: Iterable[DataError]) -> None:
    """Raise the first fault, where there is any; the others are not looked for."""
    for fault in faults:
        raise fault


class HyperparameterError(UserError):
    """A hyperparameter has an impossible value, or its name is unknown."""


class ModelError(UserError):
    """A model directory cannot be read, or does not fit what it is used for."""


class OutputError(UserError):
    """An output path cannot be used."""


class ResourceError(UserError):
    """The cluster cannot give the CPUs or GPUs that were asked for."""


class TrackingError(UserError):
    """A training cannot be tracked where it is to be."""


class TrainingError(LstmfcnError):
    """Training itself failed, such as by a loss that is no longer finite."""


class StoppedError(LstmfcnError):
    """The user stopped a command.

    Args:
        message: what was reached.
        goes_on: whether the command can go on from there.
    """

    exit_code = 130

    def __init__(self, message: str, *, goes_on: bool = False) -> None:
        super().__init__(message)
        self.goes_on = goes_on
