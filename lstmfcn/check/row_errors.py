"""Read the rows of a shard in parts, with all faults of each part.

The rules are those of training: of the schema, and of lines that pyarrow cannot parse. A shard that
pyarrow can parse is read as in training; any other is read line by line.

Shapes: N rows, V values of a row, of all channels.
"""

from __future__ import annotations

import csv
import heapq
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, compress, groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lstmfcn.data.csv_errors import (
    empty_row,
    empty_rows,
    line_faults,
    locate_fields,
    number_columns,
    parse_numbers,
    read_lines,
    with_decimal_points,
)
from lstmfcn.data.dialect import LongLineError
from lstmfcn.data.reader import (
    readable,
    typed_tables,
    unreadable,
)
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.data.shards import Shard, without_rows
from lstmfcn.data.table import FloatArray, RowOrigin, label_matrix, to_matrix
from lstmfcn.errors import DataError

_MAX_CELLS = 1 << 18
"""Cells that are read line by line at once; about 30 MB as Python strings."""

_MAX_CHARACTERS = 1 << 25
"""Characters that are read at once, if cells are long."""

Classes = tuple[str, ...]
Mask = npt.NDArray[np.bool_]
_Numbers = Callable[[Sequence[str]], pa.Array]
"""Reads the cells of a column of numbers, or raises pa.ArrowInvalid."""


@dataclass(frozen=True)
class ScannedPart:
    """Some rows of a shard.

    Attributes:
        values: float32 (N, V); nan for cells that are missing or not numbers.
        classes: the classes of each row without faults; one, or any number for multilabel.
        intact: whether each row is without faults, (N,).
    """

    values: FloatArray
    classes: list[Classes]
    intact: Mask
    n_faults: int
    _refused: Mask
    _others: list[DataError]
    _describe: Callable[[Mask], Iterator[DataError]]

    def faults(self) -> Iterator[DataError]:
        """All faults, row by row."""
        return self._by_row(self._refused)

    def first_faults(self) -> Iterator[DataError]:
        """The first fault of each row that has any."""
        first = np.zeros_like(self._refused)
        rows = np.flatnonzero(self._refused.any(axis=1))
        first[rows, self._refused[rows].argmax(axis=1)] = True
        return (next(faults) for _, faults in groupby(self._by_row(first), _row))

    def _by_row(self, refused: Mask) -> Iterator[DataError]:
        return heapq.merge(self._others, self._describe(refused), key=_row)


class _Lines(NamedTuple):
    """Lines as a table, with null for cells that cannot be parsed, and their faults."""

    table: pa.Table
    unparsed: list[DataError]


def scan_parts(
    shard: Shard,
    schema: SeriesSchema,
    header: Sequence[str],
    unparsed: pa.ArrowInvalid | None = None,
) -> Iterator[ScannedPart]:
    """Read the rows of a shard, in order.

    Args:
        schema: the schema, whose columns the shard has.
        unparsed: why pyarrow cannot parse the shard; if given, it is read line by line.

    Raises:
        UnparsedError: pyarrow cannot parse the shard.
        DataError: the shard cannot be read, changed while it was being read, or has no rows.
    """
    types = schema.column_types(labels=True)
    rows = n_unparsed = 0
    with readable(shard):
        tables = (
            _line_tables(shard, schema, header, types)
            if unparsed
            else _parsed_tables(shard, schema, types)
        )
        for table, faults in tables:
            n_unparsed += len(faults)
            source = RowOrigin(shard.path, rows)
            faults += _empty_row_faults(table, source, {fault.row for fault in faults})
            points = with_decimal_points(table, schema.label_columns, shard.layout.dialect)
            yield _scan_part(points, source, schema, faults)
            rows += table.num_rows
        shard.refuse_changed()
    if rows == 0:
        raise without_rows(shard)
    if unparsed and not n_unparsed:
        raise unreadable(shard, unparsed)


class UnparsedError(Exception):
    """Pyarrow cannot parse a CSV shard; ``error`` says why."""

    def __init__(self, error: pa.ArrowInvalid) -> None:
        super().__init__(str(error))
        self.error = error


def _parsed_tables(
    shard: Shard, schema: SeriesSchema, types: dict[str, pa.DataType]
) -> Iterator[_Lines]:
    try:
        for table in typed_tables(shard, types, schema.gap_texts):
            yield _Lines(table, [])
    except pa.ArrowInvalid as error:
        if shard.is_parquet:
            raise
        raise UnparsedError(error) from error


def _line_tables(
    shard: Shard, schema: SeriesSchema, header: Sequence[str], types: dict[str, pa.DataType]
) -> Iterator[_Lines]:
    fields, dialect = locate_fields(number_columns(types), header), shard.layout.dialect
    numbers = partial(parse_numbers, gap_texts=set(schema.gap_texts), dialect=dialect)
    rows_at_once = max(1, _MAX_CELLS // len(header))
    rows = 0
    with read_lines(shard) as lines:
        next(lines)
        for chunk in _chunks(filter(None, lines), rows_at_once):
            unparsed: list[DataError] = []
            if table := _try_table(chunk, header, types, numbers):
                yield _Lines(table, unparsed)
                rows += len(chunk)
                continue
            for i, cells in enumerate(chunk):
                source = RowOrigin(shard.path, rows + i)
                faults = list(line_faults(cells, header, fields, schema, source, dialect))
                if faults:
                    unparsed += faults
                    chunk[i] = _blank_faulty(cells, header, faults)
            yield _Lines(_make_table(chunk, header, types, numbers), unparsed)
            rows += len(chunk)


def _chunks(lines: Iterator[list[str]], max_lines: int) -> Iterator[list[list[str]]]:
    """Group lines; if a line cannot be read, give the lines before it, then raise its error."""
    chunk: list[list[str]] = []
    length = 0
    try:
        for cells in lines:
            chunk.append(cells)
            length += sum(map(len, cells))
            if len(chunk) == max_lines or length > _MAX_CHARACTERS:
                yield chunk
                chunk, length = [], 0
    except (UnicodeDecodeError, csv.Error, LongLineError):
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk


def _try_table(
    lines: list[list[str]], header: Sequence[str], types: dict[str, pa.DataType], numbers: _Numbers
) -> pa.Table | None:
    """Make a table of lines; None if any of them cannot be parsed."""
    with suppress(ValueError):  # also pa.ArrowInvalid; other numbers of cells do not fit the header
        return _make_table(lines, header, types, numbers)
    return None


def _make_table(
    lines: list[list[str]], header: Sequence[str], types: dict[str, pa.DataType], numbers: _Numbers
) -> pa.Table:
    columns = dict(zip(header, zip(*lines, strict=True), strict=True))
    return pa.table(
        {name: _parse_cells(columns[name], kind, numbers) for name, kind in types.items()}
    )


def _blank_faulty(cells: list[str], header: Sequence[str], faults: list[DataError]) -> list[str]:
    """Blank the cells with faults; all cells if the row as a whole has a fault."""
    columns = {fault.column for fault in faults}
    if None in columns:
        return [""] * len(header)
    return ["" if name in columns else cell for name, cell in zip(header, cells, strict=True)]


def _parse_cells(cells: Sequence[str], kind: pa.DataType, numbers: _Numbers) -> pa.Array:
    if kind == pa.string():
        return pa.array([cell or None for cell in cells], kind)
    return numbers(cells)


def _empty_row_faults(
    table: pa.Table, source: RowOrigin, reported: Set[int | None]
) -> list[DataError]:
    """Report rows of empty cells, except rows that are reported already."""
    origins = [RowOrigin(source.file, source.rows_before + row) for row in empty_rows(table)]
    return [empty_row(origin) for origin in origins if origin.rows_before + 1 not in reported]


def _scan_part(
    table: pa.Table, source: RowOrigin, schema: SeriesSchema, unparsed: list[DataError]
) -> ScannedPart:
    values = to_matrix(table, schema.value_columns)
    refused = ~schema.usable(values)
    refused &= ~_mark_reported(unparsed, schema, source, refused.shape)
    names = schema.names_of(table) if schema.holds_names else []
    labels = _label_faults(table, schema, source, names)
    further = chain(schema.empty_row_faults(values, source), labels)
    others = [*unparsed, *_skip_reported(further, unparsed)]
    intact: Mask = ~np.asarray(refused.any(axis=1))
    intact[[fault.row - source.rows_before - 1 for fault in others if fault.row]] = False
    return ScannedPart(
        values=values,
        classes=_classes(table, schema, names, intact),
        intact=intact,
        n_faults=len(others) + int(refused.sum()),
        _refused=refused,
        _others=sorted(others, key=_row),
        _describe=lambda cells: schema.value_faults(cells, table, source),
    )


def _mark_reported(
    unparsed: list[DataError], schema: SeriesSchema, source: RowOrigin, shape: tuple[int, ...]
) -> Mask:
    """Mark the values, (N, V), that are already reported because they cannot be parsed."""
    reported = np.zeros(shape, dtype=np.bool_)
    if unparsed:
        positions = {name: i for i, name in enumerate(schema.value_columns)}
        for fault in unparsed:
            row = (fault.row or 0) - source.rows_before - 1
            if fault.column is None:
                reported[row] = True
            elif fault.column in positions:
                reported[row, positions[fault.column]] = True
    return reported


def _skip_reported(faults: Iterator[DataError], unparsed: list[DataError]) -> Iterator[DataError]:
    """Skip faults that follow from cells and rows that cannot be parsed."""
    ragged = {fault.row for fault in unparsed if fault.column is None}
    rows = {fault.row for fault in unparsed}
    cells = {(fault.row, fault.column) for fault in unparsed}
    for fault in faults:
        follows = fault.row in (ragged if fault.column else rows)
        if not follows and (fault.row, fault.column) not in cells:
            yield fault


def _label_faults(
    table: pa.Table, schema: SeriesSchema, source: RowOrigin, names: list[str]
) -> Iterator[DataError]:
    if not schema.holds_names:
        return schema.label_faults(label_matrix(table, schema.label_columns), table, source)
    missing = schema.empty_name_faults(names, source)
    if not schema.classes:
        return missing
    return chain(missing, schema.unknown_name_faults(names, source))


def _classes(
    table: pa.Table, schema: SeriesSchema, names: list[str], intact: Mask
) -> list[Classes]:
    """The classes of each row without faults."""
    if schema.holds_names:
        return [(name,) for name, is_intact in zip(names, intact, strict=True) if is_intact]
    labels = schema.encode_labels(table.select(schema.label_columns).filter(pa.array(intact)))
    if schema.task == "multilabel":
        return [tuple(compress(schema.classes, row)) for row in labels.tolist()]
    single = [(name,) for name in schema.classes]
    return [single[i] for i in labels.astype(np.int64).tolist()]


def _row(fault: DataError) -> int:
    return fault.row or 0
