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
import pyarrow as pa
import pyarrow.csv

from lstmfcn.column_names import some_of
from lstmfcn.counts import number
from lstmfcn.csv_lines import refuse_first_fault
from lstmfcn.errors import DataError
from lstmfcn.schema import SeriesSchema
from serve_app.request_errors import too_many_rows

Matrix = npt.NDArray[Any]

MOST_OTHER_COLUMNS = 10_000
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
_START = 200
"""Characters in which a header of numbers shows itself."""


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
    text = text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\n")
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
    columns = header or list(schema.value_columns)
    lines = text.rstrip("\n").count("\n") + 1
    if lines > max_rows:
        raise too_many_rows(lines, max_rows)
    if len(text) > LONG_TEXT:
        for row, line in enumerate(text.split("\n"), start=1):
            _refuse_wide(line, row, len(columns))
    try:
        return _parse_csv(text, columns, schema)
    except ValueError as error:
        if header is None and has_header is None:
            _refuse_other_header(first, schema)
        refuse_first_fault(csv.reader(io.StringIO(text)), columns, schema.value_columns, schema)
        raise DataError("rows that cannot be read", "send numbers, separated by commas") from error


def _with_commas(text: str) -> str:
    """The same with commas between cells, where there are semicolons or tabs between them."""
    first = text[: text.find("\n")] if "\n" in text else text
    separator = next((mark for mark in ";\t" if mark in first), "")
    if not separator or (separator == "\t" and "," in first):
        return text
    if '"' in text:
        if first.count(separator) <= first.count(","):
            return text  # it stands in a text
        raise DataError(f"quotes, and {separator!r} between cells", "separate cells by commas")
    if separator == ";":
        text = text.replace(",", ".")
    return text.replace(separator, ",")


def _refuse_wide(line: str, row: int, n_columns: int) -> None:
    """Refuse a line of far more cells than there are columns, before it is cut into them."""
    if (cells := line.count(",") + 1) > n_columns + MOST_OTHER_COLUMNS:
        fix = f"send a series a line, of {number(n_columns, 'column')}"
        raise DataError(f"{cells} cells", fix, row=row)


def _header_of(first: str, schema: SeriesSchema, has_header: bool | None) -> list[str] | None:
    """The names in the first line, checked; None where it is a row.

    Raises:
        DataError: names that are not the model's, or numbers that count the columns, as pandas
            names those that have no name.
    """
    if has_header is False:
        return None
    start = first[:_START].replace('"', "").split(",", 4)[:4]
    if _count_columns(start) and _count_columns(names := next(csv.reader([first]), [])):
        raise DataError(f"a header that counts its columns ({some_of(names)})", _NAME_THEM)
    if has_header or "x" in first or "y" in first:  # as in the names of columns, and in no number
        names = next(csv.reader([first]), [])
        schema.check_header(names, None, labels=False)
        return names
    return None


def _count_columns(cells: list[str]) -> bool:
    """Whether cells are 0, 1, 2, ... or begin a little later, but for a name before or after."""
    numbers = [float(cell) for cell in cells if _NUMBER.fullmatch(cell)]
    if len(numbers) < max(3, len(cells) - 2) or numbers[0] not in range(10):
        return False
    return all(one + 1 == next_one for one, next_one in pairwise(numbers))


def _refuse_other_header(first: str, schema: SeriesSchema) -> None:
    """Refuse a line that cannot be read as a row because most of its cells are names.

    Raises:
        DataError: it is a header.
    """
    cells = next(csv.reader([first]), [])
    names = [cell for cell in cells if cell.strip() and not _NUMBER.fullmatch(cell)]
    if 2 * len(names) > len(cells):
        raise DataError(
            f"a header of other columns ({some_of(names)})",
            f"name the columns as the model does ({some_of(schema.value_columns)}), or leave the "
            "header out",
        )


def _parse_csv(text: str, columns: list[str], schema: SeriesSchema) -> Matrix:
    """Values (N, V), in the schema's order; ValueError where a row is not as it should be.

    64-bit numbers that lie half way between two 32-bit ones were rounded already, and would be a
    second time: such bodies, next to none, are read as shards are.
    """
    if len(text) > LONG_TEXT:
        return _parse_as_shards(text, columns, schema)
    usecols = None
    if tuple(columns) != schema.value_columns:
        usecols = [columns.index(name) for name in schema.value_columns]
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


def _parse_as_shards(text: str, columns: list[str], schema: SeriesSchema) -> Matrix:
    """The same as shards are read, straight to 32 bits; ValueError for lines that are no rows."""
    content = text.encode()
    table = pa.csv.read_csv(
        pa.py_buffer(content),
        read_options=pa.csv.ReadOptions(
            column_names=columns, use_threads=False, block_size=max(len(content), 1)
        ),
        convert_options=pa.csv.ConvertOptions(
            column_types=schema.column_types(labels=False),
            include_columns=list(schema.value_columns),
            null_values=[""],
        ),
    )
    return schema.encode_values(table)
