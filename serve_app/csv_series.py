"""Series as CSV states them: a line each, with a header or without.

Cells are separated by commas, semicolons or tabs; with semicolons, numbers may have decimal commas.
Work is bounded before it is done: lines and cells are counted, and long bodies parsed by pyarrow,
which lets other threads run meanwhile.
"""

from __future__ import annotations

import csv
import io
import re
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas  # noqa: F401  # else pyarrow imports it, for a second, amid the first faulty body
import pyarrow as pa
import pyarrow.csv

from lstmfcn.column_names import some_of
from lstmfcn.counts import number
from lstmfcn.csv_lines import refuse_first_fault
from lstmfcn.dialect import separator_of
from lstmfcn.errors import DataError
from lstmfcn.schema import SeriesSchema
from serve_app.request_errors import too_many_rows

Matrix = npt.NDArray[Any]

MOST_OTHER_COLUMNS = 1 << 17
"""Columns beside those of the values that a line may have."""

LONG_TEXT = 1 << 18
"""Characters from which on a body is parsed by pyarrow, which takes longer over a few rows."""

_HALF_WAY = 0x10000000
"""The bits of a 64-bit number, below those of a 32-bit one, where it lies between two of them."""

_NAME_THEM = (
    "leave it out (pandas: header=False, index=False) or name the columns as the model does; "
    "if it is a row, send Content-Type: text/csv; header=absent"
)
_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*", re.ASCII)
_FIRST_COUNTS = frozenset(map(float, range(10)))
"""Where a header that counts its columns may begin."""


def series_of_csv(
    text: str, schema: SeriesSchema, max_rows: int, has_header: bool | None = None
) -> Matrix:
    """Numbers (N, V), nan where one is missing.

    Args:
        text: the body.
        schema: of the model.
        max_rows: that it may have.
        has_header: whether the first line names columns, where the client says so.

    Raises:
        DataError: it cannot be read as that.
        RequestError: 413, more rows.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip("\n")
    try:
        return _read(_with_commas(text), schema, max_rows, has_header)
    except csv.Error as error:
        raise DataError(f"what is no CSV ({error})", "correct it") from error


def _read(text: str, schema: SeriesSchema, max_rows: int, has_header: bool | None) -> Matrix:
    first, _, below = text.partition("\n")
    _refuse_wide(first, 1, schema.n_values)
    header = _header_of(first, schema, has_header)
    if header is not None:
        text = below
    if not text.strip():
        raise DataError("no rows", "send at least one series")
    columns = header or schema.value_columns
    lines = text.count("\n") + 1
    if lines > max_rows:
        raise too_many_rows(lines, max_rows)
    if len(text) > LONG_TEXT:
        for row, line in enumerate(text.split("\n"), start=1):
            _refuse_wide(line, row, len(columns))
    try:
        found = _parse_csv(text, columns, schema)
    except ValueError as error:
        if header is None and has_header is None:
            _refuse_other_header(first, schema)
        refuse_first_fault(csv.reader(io.StringIO(text)), columns, schema.value_columns, schema)
        raise DataError("rows that cannot be read", "send numbers, separated by commas") from error
    if header is None and has_header is None and float(found[0, 0]) in _FIRST_COUNTS:
        _refuse_counts(first)
    return found


def _with_commas(text: str) -> str:
    """The same with commas between cells, where there are semicolons or tabs between them."""
    first = text[: text.find("\n")] if "\n" in text else text
    if ";" not in first and "\t" not in first:
        return text
    if _has_names(first):
        separator = separator_of(first)
    else:
        separator = next(mark for mark in ";,\t" if mark in first)
    if separator == ",":
        return text
    if '"' in text:
        raise DataError(f"quotes, and {separator!r} between cells", "separate cells by commas")
    if separator == ";":
        text = text.replace(",", ".")
    return text.replace(separator, ",")


def _has_names(first: str) -> bool:
    """Whether a first line has an x or y, as the names of columns do, and no number."""
    return "x" in first or "y" in first


def _refuse_wide(line: str, row: int, n_columns: int) -> None:
    """Refuse a line of far more cells than there are columns, before it is cut into them."""
    if (cells := line.count(",") + 1) > n_columns + MOST_OTHER_COLUMNS:
        fix = f"send a series a line, of {number(n_columns, 'column')}"
        raise DataError(f"{cells} cells", fix, row=row)


def _header_of(first: str, schema: SeriesSchema, has_header: bool | None) -> tuple[str, ...] | None:
    """The names in the first line, checked; None where it is a row.

    Raises:
        DataError: names that are not the model's.
    """
    if has_header is False:
        return None
    if has_header or _has_names(first):
        names = next(csv.reader([first]), [])
        _refuse_counts(first)
        schema.check_header(names, None, labels=False)
        return tuple(names)
    return None


def _refuse_counts(first: str) -> None:
    """Refuse a line that is 0, 1, 2, ..., or begins a little later, but for a name at its ends.

    Raises:
        DataError: it is, and so no row but how pandas names columns that have no names.
    """
    cells = next(csv.reader([first]), [])
    numbers = [float(cell) for cell in cells if _NUMBER.fullmatch(cell)]
    if len(numbers) < max(3, len(cells) - 2) or numbers[0] not in _FIRST_COUNTS:
        return
    if all(one + 1 == next_one for one, next_one in pairwise(numbers)):
        raise DataError(f"a header that counts its columns ({some_of(cells)})", _NAME_THEM)


def _refuse_other_header(first: str, schema: SeriesSchema) -> None:
    """Refuse a line that cannot be read as a row because its cells are names.

    Raises:
        DataError: it is a header.
    """
    _refuse_counts(first)
    cells = next(csv.reader([first]), [])
    names = [cell for cell in cells if cell.strip() and not _NUMBER.fullmatch(cell)]
    if 2 * len(names) > len(cells):
        raise DataError(
            f"a header of other columns ({some_of(names)})",
            f"name the columns as the model does ({some_of(schema.value_columns)}), or leave the "
            "header out",
        )


def _parse_csv(text: str, columns: tuple[str, ...], schema: SeriesSchema) -> Matrix:
    """Values (N, V), in the schema's order; ValueError where a row is not as it should be.

    64-bit numbers that lie half way between two 32-bit ones were rounded already, and would be a
    second time: such bodies, next to none, are read as shards are.
    """
    if len(text) > LONG_TEXT:
        return _parse_as_shards(text, columns, schema)
    usecols = None
    if columns != schema.value_columns:
        places = {name: i for i, name in enumerate(columns)}
        usecols = [places[name] for name in schema.value_columns]
        if any(len(row) not in (0, len(columns)) for row in csv.reader(io.StringIO(text))):
            raise ValueError("ragged")  # which the parser does not mind in columns not used
    try:
        exact = np.loadtxt(
            io.StringIO(text),
            np.float64,
            comments=None,
            delimiter=",",
            quotechar='"',
            usecols=usecols,
            ndmin=2,
        )
    except ValueError:  # empty cells among its reasons
        return _parse_as_shards(text, columns, schema)
    if exact.shape[1] != schema.n_values:
        raise ValueError("too few or too many cells")
    if ((exact.view(np.int64) & (2 * _HALF_WAY - 1)) == _HALF_WAY).any():
        return _parse_as_shards(text, columns, schema)
    return exact


def _parse_as_shards(text: str, columns: tuple[str, ...], schema: SeriesSchema) -> Matrix:
    """The same as shards are read, straight to 32 bits; ValueError for lines that are no rows."""
    content = text.encode()
    table = pa.csv.read_csv(
        pa.py_buffer(content),
        read_options=pa.csv.ReadOptions(
            column_names=list(columns), use_threads=False, block_size=max(len(content), 1)
        ),
        convert_options=pa.csv.ConvertOptions(
            column_types=schema.column_types(labels=False),
            include_columns=list(schema.value_columns),
            null_values=schema.gap_texts,
        ),
    )
    return schema.encode_values(table)
