"""All errors that lstmfcn raises on purpose.

LstmfcnError
├── UserError            an input is wrong: one line, exit code 2
│   ├── DataError            a fault in data: file, row, column, what was found, what to do
│   ├── HyperparameterError  a hyperparameter has an impossible value
│   ├── ModelError           a model directory cannot be read, or does not fit the data
│   ├── OutputError          an output path cannot be used
│   ├── ResourceError        the cluster does not have the requested resources
│   └── TrackingError        a tracker cannot be used
├── TrainingError        training failed (a loss that is not finite): one line, exit code 1
└── RunInterruptedError  the user stopped the command: one line, exit code 130

Any other error that reaches the user is a bug of lstmfcn, and is shown with its traceback.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

_MAX_LINE = 2000
_MAX_TEXT = 200
_MAX_BITS = 200

_CONTROLS = [*range(0x20), *range(0x7F, 0xA0)]
"""C0, DEL and C1, which control a terminal."""

_BIDI = [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
"""They change the direction of text, so that a line may read differently from what it says."""

_LINE_ENDS = [0x2028, 0x2029]
_ESCAPED = {
    code: chr(code).encode("unicode_escape").decode("ascii")
    for code in (*_CONTROLS, *_BIDI, *_LINE_ENDS)
    if chr(code) not in "\n\t"
}


_SHOWN_AS: dict[str, str] = {}
"""How paths of temporary folders are shown."""


def printable(text: str) -> str:
    r"""Escape control characters, as ``\x1b``; line ends and tabs stay."""
    return _name_places(text).translate(_ESCAPED)


def _name_places(text: str) -> str:
    for folder, place in list(_SHOWN_AS.items()):  # other threads may add to them
        text = text.replace(folder, place)
    return text


def one_line(text: str) -> str:
    """Make one line of limited length, with control characters escaped."""
    if len(text) > _MAX_LINE:
        half = _MAX_LINE // 2
        text = f"{text[:half]} ... {text[-half:]} ({len(text):,} characters in all)"
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


class _Short(reprlib.Repr):
    """A repr of limited length and time, however large or deep the value is."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdict = 10
        self.maxstring = self.maxother = _MAX_TEXT

    def repr_int(self, x: int, level: int) -> str:  # noqa: ARG002 - called by reprlib
        """Write a number, or its size; Python does not write more than 4,300 digits."""
        return repr(x) if x.bit_length() <= _MAX_BITS else f"an integer of {x.bit_length()} bits"


_SHORT = _Short()


def shown(value: object) -> str:
    """Write a value as Python does, shortened if it is long or deep."""
    return _SHORT.repr(value)


class LstmfcnError(Exception):
    """Base of all errors of lstmfcn; commands end with its ``exit_code``.

    Its text is always one line, whatever names and values it contains.
    """

    exit_code = 1

    def __str__(self) -> str:
        return one_line(super().__str__())

    def _render_traceback_(self) -> list[str]:
        """Called by IPython: a notebook shows the line without a traceback."""
        return [f"{type(self).__name__}: {self}"]


@contextmanager
def shown_as(folder: os.PathLike[str], place: str) -> Iterator[None]:
    """In this block lines and errors name this place, such as a URI, and not a temporary folder."""
    _SHOWN_AS[os.fspath(folder)] = place
    try:
        yield
    except LstmfcnError as error:
        error.args = tuple(_name_places(each) for each in error.args)
        raise
    finally:
        del _SHOWN_AS[os.fspath(folder)]


class UserError(LstmfcnError):
    """An input of the user is wrong; the user sees its text as one line."""

    exit_code = 2


class DataError(UserError):
    """Data does not follow the data format.

    Args:
        found: what was found, as the user would recognise it.
        fix: what to do about it.
        file: the path of the shard, as the user would write it.
        row: the row, counted from 1 below the header.
        column: the column name.
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
        """Pickle with all parts, to be sent from a worker process to the driver."""
        make = partial(DataError, file=self.file, row=self.row, column=self.column)
        return make, (self.found, self.fix)


def raise_first(faults: Iterable[DataError]) -> None:
    """Raise the first fault, if there is one, without looking for others."""
    for fault in faults:
        raise fault


class HyperparameterError(UserError):
    """A hyperparameter has an impossible value, or its name is unknown."""


class ModelError(UserError):
    """A model directory cannot be read, or does not fit the data."""


class OutputError(UserError):
    """An output path cannot be used."""


class ResourceError(UserError):
    """The cluster does not have the requested resources, or cannot be used."""


class TrackingError(UserError):
    """A tracker cannot be used."""


class TrainingError(LstmfcnError):
    """Training failed, for example because the loss is not finite."""


class RunInterruptedError(LstmfcnError):
    """The user stopped a command.

    Args:
        message: how far the command came.
        resumable: whether the command can be resumed.
    """

    exit_code = 130

    def __init__(self, message: str, *, resumable: bool = False) -> None:
        super().__init__(message)
        self.resumable = resumable
