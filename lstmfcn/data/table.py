"""Read the cells of a table as numbers, class names and 0/1 labels, and report faulty cells.

Shapes: N rows, L label columns.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lstmfcn.data.columns import abbreviate
from lstmfcn.errors import DataError

Array = npt.NDArray[np.generic]
FloatArray = npt.NDArray[np.float32]

MISSING_TEXTS = frozenset({
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
})  # fmt: skip
"""Texts that mark a missing cell, as in pandas (2.3, `read_csv`, argument ``na_values``). The empty
text is not among them: it is an empty cell."""

_NUMBER = re.compile(
    r"([+-]?)(?=\d|\.\d)(0|[1-9]\d*|)(?:\.(\d*))?(?:[eE]([+-]?\d{1,6}))?", re.ASCII
)
"""Sign, whole digits, fraction and exponent. 007 does not match: leading zeros make it a code."""

_PLAIN_POWERS = range(-7, 40)
"""Numbers whose first digit has one of these powers of ten are written without an exponent."""


class RowOrigin(NamedTuple):
    """Where a table comes from, for messages: its file, and how many rows of it come before."""

    file: str | None = None
    rows_before: int = 0

    def fault(self, row: int, found: str, fix: str, column: str | None = None) -> DataError:
        """Describe a fault in a row of the table, counted from 0."""
        number = self.rows_before + row + 1
        return DataError(found, fix, file=self.file, row=number, column=column)


class Place(NamedTuple):
    """A row of a file: the file's path or name, and the row, counted from 1 below the header."""

    file: str
    row: int

    def __str__(self) -> str:
        return f"{self.file}, row {self.row}"


def to_matrix(table: pa.Table, columns: Sequence[str]) -> FloatArray:
    """Make one float32 matrix (N, len(columns)) of the columns; nan for empty cells."""
    chosen = table.select(list(columns))
    if any(kind != pa.float32() for kind in chosen.schema.types):
        chosen = chosen.cast(pa.schema([(name, pa.float32()) for name in columns]), safe=False)
    batches = chosen.combine_chunks().to_batches()
    if not batches:
        return np.empty((0, len(columns)), dtype=np.float32)
    matrix: FloatArray = batches[0].to_tensor(null_to_nan=True).to_numpy()
    return matrix


def measure_lengths(values: FloatArray, n_channels: int) -> tuple[npt.NDArray[np.int64], int]:
    """The timepoints of each series (N, V) up to its last value, (N,), and all values missing."""
    present = ~np.isnan(values.reshape(len(values), n_channels, -1))
    some: npt.NDArray[np.bool_] = np.logical_or.reduce(present, axis=1)
    lengths: npt.NDArray[np.int64] = some.shape[1] - some[:, ::-1].argmax(axis=1)
    return lengths, int(lengths.sum()) * n_channels - int(present.sum())


def cell_faults(
    refused: npt.NDArray[np.bool_],
    table: pa.Table,
    columns: Sequence[str],
    source: RowOrigin,
    fix: str,
    fix_for_missing: str = "",
) -> Iterator[DataError]:
    """Report the refused cells, row by row.

    Args:
        refused: whether each cell is refused, (N, len(columns)).
        fix_for_missing: what else to do if the cell is empty or nan.
    """
    for row in np.flatnonzero(refused.any(axis=1)).tolist():
        for i in np.flatnonzero(refused[row]).tolist():
            value = table[columns[i]][row].as_py()
            empty = value is None
            yield source.fault(
                row,
                "an empty cell" if empty else f"{value}, which is not a finite 32-bit number",
                fix + (fix_for_missing if empty or value != value else ""),
                columns[i],
            )


def is_missing(value: object, texts: bool = True) -> bool:
    """Whether a label is empty, None or NaN.

    Args:
        texts: whether text that is one of `MISSING_TEXTS` is missing too.
    """
    text = "" if value is None else str(value).strip()
    return not text or (text in MISSING_TEXTS and (texts or not isinstance(value, str)))


def class_name(value: object) -> str:
    """Name the class of a label: a number is the same class in whatever form it is written.

    ``1``, ``1.0``, ``+1`` and ``1e0`` are the class 1; ``-0`` is 0. Digits are exact, however many.
    Other text stays as it is, in composed characters (Unicode's NFC), without spaces around it.
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
    return ("-" if sign == "-" else "") + _format(significant, power)


def _format(digits: str, power: int) -> str:
    """Write digits times a power of ten in the one form that this number has as a class name."""
    first = len(digits) - 1 + power
    if first not in _PLAIN_POWERS and power != 0:
        fraction = f".{digits[1:]}" if digits[1:] else ""
        return f"{digits[0]}{fraction}e{first:+03d}"
    if power >= 0:
        return digits + "0" * power
    if first >= 0:
        return f"{digits[:power]}.{digits[power:]}"
    return "0." + "0" * (-first - 1) + digits


def match_class(classes: Sequence[str]) -> Callable[[object], str]:
    """Make a function that names labels by known classes, such as those of a loaded model.

    A label becomes the class that is written the same; otherwise the class with the same
    `class_name` or the same truth value (``true`` for ``True``); otherwise its own `class_name`.
    """
    exact = set(classes)
    by_key = {_key(class_name(name)): name for name in reversed(classes)}

    def match(label: object) -> str:
        text = "" if label is None else str(label).strip()
        if text in exact:
            return text
        name = class_name(text)
        return by_key.get(_key(name), name)

    return match


def _key(name: str) -> str:
    return name.lower() if name.lower() in ("true", "false") else name


def class_order(name: str) -> tuple[bool, float, str]:
    """Sort key of class names: numbers by value, then text (also "nan", "inf") alphabetically."""
    try:
        number = float(name)
    except ValueError:
        number = np.nan
    finite = bool(np.isfinite(number))
    return not finite, number if finite else 0.0, name


def find_rows(names: Sequence[str], matches: Callable[[str], bool]) -> Iterator[tuple[int, str]]:
    """Find the rows, counted from 0, whose class name matches; each name is tested once."""
    matching = {name for name in set(names) if matches(name)}
    if matching:
        yield from ((row, name) for row, name in enumerate(names) if name in matching)


def label_matrix(table: pa.Table, columns: Sequence[str]) -> FloatArray:
    """Read label columns, text or numbers, as float32 (N, L); nan for what is not a number.

    ``True`` and ``False``, in capital or small letters, are 1 and 0.
    """
    matrix = np.empty((table.num_rows, len(columns)), dtype=np.float32)
    for i, name in enumerate(columns):
        matrix[:, i] = _numbers(table[name].combine_chunks())
    return matrix


def _numbers(cells: pa.Array) -> FloatArray:
    if not pa.types.is_string(cells.type):
        numbers: FloatArray = cells.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)
        return numbers
    distinct = cells.dictionary_encode()
    values = [_number(text) for text in distinct.dictionary.to_pylist()]
    codes = distinct.indices.fill_null(len(values)).to_numpy(zero_copy_only=False)
    decoded: FloatArray = np.array([*values, np.nan], dtype=np.float32)[codes]
    return decoded


@lru_cache(1024)
def _number(text: str) -> float:
    text = {"true": "1", "false": "0"}.get(text.strip().lower(), text.strip(" \t"))
    try:
        return float(pc.cast(pa.scalar(text), pa.float32()).as_py())
    except pa.ArrowInvalid:
        return float("nan")


def label_faults(
    matrix: FloatArray, table: pa.Table, columns: Sequence[str], source: RowOrigin
) -> Iterator[DataError]:
    """Report cells of a `label_matrix` that are not 0 or 1, first those that are not numbers."""
    finite = np.isfinite(matrix)
    for refused in (~finite, finite & (matrix != 0) & (matrix != 1)):
        for row, i in np.argwhere(refused).tolist():
            cell = table[columns[i]][row].as_py()
            yield source.fault(
                row, _describe_label(cell, matrix[row, i]), "write 0 or 1", columns[i]
            )


def _describe_label(cell: object, number: np.float32) -> str:
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return "an empty cell"
    return repr(cell) if isinstance(cell, str) and np.isnan(number) else f"{number:g}"


def not_one_hot(
    matrix: FloatArray, columns: Sequence[str], source: RowOrigin
) -> Iterator[DataError]:
    """Report rows of a `label_matrix` of 0 and 1 that do not have exactly one 1."""
    valid: npt.NDArray[np.bool_] = ((matrix == 0) | (matrix == 1)).all(axis=1)
    ones = (matrix == 1).sum(axis=1)
    for row in np.flatnonzero(valid & (ones != 1)).tolist():
        classes = [name for name, value in zip(columns, matrix[row], strict=True) if value]
        yield source.fault(
            row,
            f"{len(classes)} classes ({abbreviate(classes)})" if classes else "no class",
            "put exactly one 1 in the row, or use --task multilabel",
            f"{columns[0]} to {columns[-1]}",
        )
