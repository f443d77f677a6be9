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
└── RunInterruptedError  the user stopped it: one line, exit code 130

Anything else that escapes is a bug of lstmfcn and keeps its traceback.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from typing import Any

_LONGEST_LINE = 2000
_LONGEST_TEXT = 200
_MOST_BITS = 200

_CONTROLS = [*range(0x20), *range(0x7F, 0xA0)]
"""C0, DEL and C1: a terminal obeys them."""

_BIDI = [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
"""They change the direction of what follows, so that a line reads as it does not stand there."""

_LINE_ENDS = [0x2028, 0x2029]
_ESCAPED = {
    code: chr(code).encode("unicode_escape").decode("ascii")
    for code in (*_CONTROLS, *_BIDI, *_LINE_ENDS)
    if chr(code) not in "\n\t"
}


def printable(text: str) -> str:
    r"""The text with its control characters escaped, as in ``\x1b``; line ends and tabs stay."""
    return text.translate(_ESCAPED)


def one_line(text: str) -> str:
    """The text as one line of bounded length, with its control characters escaped."""
    if len(text) > _LONGEST_LINE:
        half = _LONGEST_LINE // 2
        text = f"{text[:half]} ... {text[-half:]} ({len(text):,} characters in all)"
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


class _Short(reprlib.Repr):
    """A repr of bounded length and work, however large or deep the value is."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdict = 10
        self.maxstring = self.maxother = _LONGEST_TEXT

    def repr_int(self, x: int, level: int) -> str:  # noqa: ARG002 - reprlib's arguments
        """The number; Python refuses to write more than 4,300 digits."""
        return repr(x) if x.bit_length() <= _MOST_BITS else f"an integer of {x.bit_length()} bits"


_SHORT = _Short()


def shown(value: object) -> str:
    """A value as Python writes it, shortened where it is long or deep."""
    return _SHORT.repr(value)


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


class RunInterruptedError(LstmfcnError):
    """The user stopped a command.

    Args:
        message: what was reached.
        resumable: whether the command can be resumed.
    """

    exit_code = 130

    def __init__(self, message: str, *, resumable: bool = False) -> None:
        super().__init__(message)
        self.resumable = resumable
