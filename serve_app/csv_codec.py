"""Read series from CSV: one series per line, with a header or without.

Cells are separated by commas, semicolons or tabs; with semicolons, numbers may have decimal commas.
Lines and cells are counted before they are parsed, to limit the work. Long bodies are parsed by
pyarrow, which lets other threads run meanwhile.
"""

from __future__ import annotations

import csv
import io
import re
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas  # noqa: F401  # otherwise pyarrow imports it at the first faulty body, for a second
import pyarrow as pa
import pyarrow.csv

from lstmfcn.console import pluralize
from lstmfcn.data.columns import abbreviate
from lstmfcn.data.csv_errors import refuse_first_fault
from lstmfcn.data.dialect import find_separator
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.errors import DataError
from serve_app.errors import too_many_rows

Matrix = npt.NDArray[Any]

MAX_OTHER_COLUMNS = 1 << 17
"""The most columns that a line may have beside the value columns."""

LONG_TEXT = 1 << 18
"""A body of more characters is parsed by pyarrow, which is slower for a few rows."""

_HALF_WAY_BITS = 0x10000000
"""The low bits of a 64-bit number that lies half way between two 32-bit numbers."""

_HEADER_ADVICE = (
    "leave it out (pandas: header=False, index=False) or name the columns as the model does; "
    "if it is a row, send Content-Type: text/csv; header=absent"
)
_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*", re.ASCII)
_FIRST_NUMBERS = frozenset(map(float, range(10)))
"""Where a header that only numbers its columns may begin."""


def parse_csv_series(
    text: str, schema: SeriesSchema, max_rows: int, has_header: bool | None = None
) -> Matrix:
    """Read the series of a body: numbers (N, V), nan for a missing value.

    Args:
        has_header: whether the first line names columns; None if the client does not say.

    Raises:
        DataError: the body is not CSV, or not that of such series.
        RequestError: 413, it has more rows.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip("\n")
    try:
        return _read(_separate_by_commas(text, schema), schema, max_rows, has_header)
    except csv.Error as error:
        raise DataError(f"invalid CSV ({error})", "correct it") from error


def _read(text: str, schema: SeriesSchema, max_rows: int, has_header: bool | None) -> Matrix:
    first, _, rest = text.partition("\n")
    _refuse_too_many_cells(first, 1, schema.n_values)
    header = _read_header(first, schema, has_header)
    if header is not None:
        text = rest
    if not text.strip():
        raise DataError("no rows", "send at least one series")
    columns = header or schema.value_columns
    n_rows = text.count("\n") + 1
    if n_rows > max_rows:
        raise too_many_rows(n_rows, max_rows)
    if len(text) > LONG_TEXT:
        for row, line in enumerate(text.split("\n"), start=1):
            _refuse_too_many_cells(line, row, len(columns))
    try:
        series = _parse_csv(text, columns, schema)
    except ValueError as error:
        if header is None and has_header is None:
            _refuse_other_header(first, schema)
        refuse_first_fault(csv.reader(io.StringIO(text)), columns, schema.value_columns, schema)
        raise DataError("rows that cannot be read", "send numbers, separated by commas") from error
    if header is None and has_header is None and float(series[0, 0]) in _FIRST_NUMBERS:
        _refuse_numbered_header(first)
    return series


def _separate_by_commas(text: str, schema: SeriesSchema) -> str:
    """Replace semicolons or tabs between cells by commas."""
    first = text[: text.find("\n")] if "\n" in text else text
    if ";" not in first and "\t" not in first:
        return text
    if _has_column_names(first, schema):
        separator = find_separator(first)
    else:
        separator = next(mark for mark in ";,\t" if mark in first)
    if separator == ",":
        return text
    if '"' in text:
        raise DataError(f"quotes, and {separator!r} between cells", "separate cells by commas")
    if separator == ";":
        text = text.replace(",", ".")
    return text.replace(separator, ",")


def _has_column_names(first: str, schema: SeriesSchema) -> bool:
    """Whether a first line has names: an x or y, which numbers do not have, or one of the model."""
    if "x" in first or "y" in first:
        return True
    if not schema.value_pattern:
        return False
    cells = {cell.strip(' "\r') for cell in re.split("[,;\t]", first)}
    return any(name in cells and not _NUMBER.fullmatch(name) for name in schema.value_columns)


def _refuse_too_many_cells(line: str, row: int, n_columns: int) -> None:
    """Refuse a line of far more cells than there are columns, before it is split into cells."""
    if (n_cells := line.count(",") + 1) > n_columns + MAX_OTHER_COLUMNS:
        fix = f"send one series per line, with {pluralize(n_columns, 'column')}"
        raise DataError(f"{n_cells} cells", fix, row=row)


def _read_header(
    first: str, schema: SeriesSchema, has_header: bool | None
) -> tuple[str, ...] | None:
    """The column names in the first line, checked; None if the first line is a row."""
    if has_header is False:
        return None
    if has_header or _has_column_names(first, schema):
        names = next(csv.reader([first]), [])
        _refuse_numbered_header(first)
        schema.check_header(names, None, labels=False)
        return tuple(names)
    return None


def _refuse_numbered_header(first: str) -> None:
    """Refuse a first line 0, 1, 2, ..., which pandas writes as the header of unnamed columns."""
    cells = next(csv.reader([first]), [])
    numbers = [float(cell) for cell in cells if _NUMBER.fullmatch(cell)]
    if len(numbers) < max(3, len(cells) - 2) or numbers[0] not in _FIRST_NUMBERS:
        return
    if all(number + 1 == following for number, following in pairwise(numbers)):
        raise DataError(
            f"a header that only numbers its columns ({abbreviate(cells)})", _HEADER_ADVICE
        )


def _refuse_other_header(first: str, schema: SeriesSchema) -> None:
    """Refuse a first line that cannot be read as a row because its cells are names."""
    _refuse_numbered_header(first)
    cells = next(csv.reader([first]), [])
    names = [cell for cell in cells if cell.strip() and not _NUMBER.fullmatch(cell)]
    if 2 * len(names) > len(cells):
        raise DataError(
            f"a header of other columns ({abbreviate(names)})",
            f"name the columns as the model does ({abbreviate(schema.value_columns)}), or leave "
            "the header out",
        )


def _parse_csv(text: str, columns: tuple[str, ...], schema: SeriesSchema) -> Matrix:
    """Parse values (N, V), in the schema's order; ValueError for a row that does not fit.

    A 64-bit number half way between two 32-bit ones was rounded once, and would be rounded a second
    time. Bodies with such a number are rare, and are read as shards are.
    """
    if len(text) > LONG_TEXT:
        return _parse_as_shards(text, columns, schema)
    usecols = None
    if columns != schema.value_columns:
        places = {name: i for i, name in enumerate(columns)}
        usecols = [places[name] for name in schema.value_columns]
        if any(len(row) not in (0, len(columns)) for row in csv.reader(io.StringIO(text))):
            raise ValueError("ragged")  # the parser ignores that in columns it does not use
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
    except ValueError:  # for empty cells, among other reasons
        return _parse_as_shards(text, columns, schema)
    if exact.shape[1] != schema.n_values:
        raise ValueError("too few or too many cells")
    if ((exact.view(np.int64) & (2 * _HALF_WAY_BITS - 1)) == _HALF_WAY_BITS).any():
        return _parse_as_shards(text, columns, schema)
    return exact


def _parse_as_shards(text: str, columns: tuple[str, ...], schema: SeriesSchema) -> Matrix:
    """Parse as shards are parsed, straight to 32 bits; ValueError for lines that do not fit."""
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
