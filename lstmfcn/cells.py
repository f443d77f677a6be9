"""Cells of a table as numbers and as class names, and what is wrong with one.

Shapes: N rows.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lstmfcn.errors import DataError

Array = npt.NDArray[np.generic]
FloatArray = npt.NDArray[np.float32]


MISSING_TEXTS = frozenset({
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
})  # fmt: skip
"""Texts that mark a missing cell: those that pandas takes as one (pandas 2.3, `read_csv`, argument
``na_values``), but for the blank, which is an empty cell here."""

_NUMBER = re.compile(
    r"([+-]?)(?=\d|\.\d)(0|[1-9]\d*|)(?:\.(\d*))?(?:[eE]([+-]?\d{1,6}))?", re.ASCII
)
"""Sign, whole digits, fraction and exponent. Leading zeros, as in 007, are those of a code."""

_PLAIN = range(-7, 40)
"""Powers of ten of a first digit that are written without exponent."""


class Source(NamedTuple):
    """Where a table comes from, for messages: its file and how many rows stand before it."""

    file: str | None = None
    rows_before: int = 0


class Place(NamedTuple):
    """A row of a file: the file's path or name, and the row, counted from 1 below the header."""

    file: str
    row: int

    def __str__(self) -> str:
        return f"{self.file}, row {self.row}"


def matrix_of(table: pa.Table, columns: Sequence[str]) -> FloatArray:
    """The columns as one float32 matrix (N, len(columns)); nan for empty cells."""
    chosen = table.select(list(columns))
    if any(kind != pa.float32() for kind in chosen.schema.types):
        chosen = chosen.cast(pa.schema([(name, pa.float32()) for name in columns]), safe=False)
    batches = chosen.combine_chunks().to_batches()
    if not batches:
        return np.empty((0, len(columns)), dtype=np.float32)
    matrix: FloatArray = batches[0].to_tensor(null_to_nan=True).to_numpy()
    return matrix


def cell_faults(
    refused: npt.NDArray[np.bool_],
    table: pa.Table,
    columns: Sequence[str],
    source: Source,
    fix: str,
    fix_of_missing: str = "",
) -> Iterator[DataError]:
    """What to say of refused cells, by row.

    Args:
        refused: which cells, (N, len(columns)).
        fix: what to do about one.
        fix_of_missing: what else helps an empty cell, or nan.
    """
    for row in np.flatnonzero(refused.any(axis=1)).tolist():
        for i in np.flatnonzero(refused[row]).tolist():
            value = table[columns[i]][row].as_py()
            empty = value is None
            yield DataError(
                "an empty cell" if empty else f"{value}, which is no finite 32-bit number",
                fix + (fix_of_missing if empty or value != value else ""),
                file=source.file,
                row=source.rows_before + row + 1,
                column=columns[i],
            )


def is_missing(value: object, texts: bool = True) -> bool:
    """Whether a label is empty, None or NaN.

    Args:
        value: the label, of any type.
        texts: whether text that is one of `MISSING_TEXTS` is missing too.
    """
    text = "" if value is None else str(value).strip()
    return not text or (text in MISSING_TEXTS and (texts or not isinstance(value, str)))


def class_name(value: object) -> str:
    """A label as its class name: numbers are one class however they are written.

    ``1``, ``1.0``, ``+1`` and ``1e0`` are the class 1; ``-0`` is 0. Digits are exact, however many.
    Text that is no number stays, as composed characters (Unicode's NFC), without blanks around it.
    """
    if value is None:
        return ""
    text = str(value).strip()
    number = _NUMBER.fullmatch(text)
    if number is None:
        return unicodedata.normalize("NFC", text)
    sign, whole, fraction, exponent = (part or "" for part in number.groups())
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return "0"
    power = int(exponent or 0) - len(fraction)
    significant = digits.rstrip("0")
    power += len(digits) - len(significant)
    return ("-" if sign == "-" else "") + _written(significant, power)


def _written(digits: str, power: int) -> str:
    """Digits times a power of ten, in the one form that this number has as a class name."""
    first = len(digits) - 1 + power
    if first not in _PLAIN and power != 0:
        fraction = f".{digits[1:]}" if digits[1:] else ""
        return f"{digits[0]}{fraction}e{first:+03d}"
    if power >= 0:
        return digits + "0" * power
    if first >= 0:
        return f"{digits[:power]}.{digits[power:]}"
    return "0." + "0" * (-first - 1) + digits


def match_class(classes: Sequence[str]) -> Callable[[object], str]:
    """How labels are named where the classes are known, such as those of a loaded model.

    A label that is written as one of the classes is that class; else the class with the same
    `class_name`, or the same truth value (``true`` for ``True``). Any other has its own name.
    """
    written = set(classes)
    by_key = {_key(class_name(name)): name for name in reversed(classes)}

    def match(label: object) -> str:
        text = "" if label is None else str(label).strip()
        if text in written:
            return text
        name = class_name(text)
        return by_key.get(_key(name), name)

    return match


def _key(name: str) -> str:
    return name.lower() if name.lower() in ("true", "false") else name


def class_order(name: str) -> tuple[bool, float, str]:
    """Numbers first, by value; then text, "nan" and "inf" among it, by the alphabet."""
    try:
        number = float(name)
    except ValueError:
        number = np.nan
    finite = bool(np.isfinite(number))
    return not finite, number if finite else 0.0, name
