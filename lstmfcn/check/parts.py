"""A shard's rows in parts, each with all of its faults.

The rules are training's own: the schema's, and those of lines that pyarrow cannot parse. A shard
that pyarrow parses is read as training reads it; any other is read line by line.

Shapes: N rows, V values of a row, of all channels.
"""

from __future__ import annotations

import csv
import heapq
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from functools import partial
from itertools import chain, compress, groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lstmfcn.cells import FloatArray, Source, matrix_of
from lstmfcn.csv_lines import (
    empty_row,
    empty_rows,
    line_faults,
    lines_of,
    numbers_in,
    numbers_of,
    places_of,
    with_decimal_points,
)
from lstmfcn.dialect import LongLineError
from lstmfcn.errors import DataError
from lstmfcn.reading import (
    readable,
    typed_tables,
    unreadable,
    without_rows,
)
from lstmfcn.schema import SeriesSchema
from lstmfcn.shards import Shard

_CELLS = 1 << 18
"""Cells read line by line at a time: some 30 MB of Python's texts."""
_CHARACTERS = 1 << 25
"""Of them, where cells are long."""

Classes = tuple[str, ...]
Mask = npt.NDArray[np.bool_]
_Numbers = Callable[[Sequence[str]], pa.Array]
"""Reads cells of a column of numbers, or raises pa.ArrowInvalid."""


@dataclass(frozen=True)
class Part:
    """Some rows of a shard.

    Attributes:
        values: float32 (N, V); nan for what is missing or no number.
        classes: of each whole row: a single one, but of multilabel rows any number.
        whole: which rows are without fault, (N,).
        n_faults: how many there are.
    """

    values: FloatArray
    classes: list[Classes]
    whole: Mask
    n_faults: int
    _refused: Mask
    _others: list[DataError]
    _describe: Callable[[Mask], Iterator[DataError]]

    def faults(self) -> Iterator[DataError]:
        """All faults, by row."""
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
    """Lines as a table, in which null stands for what cannot be parsed, and those faults."""

    table: pa.Table
    unparsed: list[DataError]


def parts_of(
    shard: Shard,
    schema: SeriesSchema,
    header: Sequence[str],
    unparsed: pa.ArrowInvalid | None = None,
) -> Iterator[Part]:
    """A shard's rows, in order.

    Args:
        header: the shard's own columns, which are the schema's.
        unparsed: why pyarrow does not parse the shard; it is then read line by line.

    Raises:
        UnparsedError: pyarrow does not parse the shard.
        DataError: the shard cannot be read, changed while it was read, or holds no row.
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
            source = Source(shard.path, rows)
            faults += _empty_row_faults(table, source, {fault.row for fault in faults})
            points = with_decimal_points(table, schema.label_columns, shard.layout.dialect)
            yield _part_of(points, source, schema, faults)
            rows += table.num_rows
        shard.refuse_changed()
    if rows == 0:
        raise without_rows(shard)
    if unparsed and not n_unparsed:
        raise unreadable(shard, unparsed)


class UnparsedError(Exception):
    """Pyarrow does not parse a CSV shard; ``error`` says why."""

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
    places, dialect = places_of(numbers_of(types), header), shard.layout.dialect
    numbers = partial(numbers_in, gap_texts=set(schema.gap_texts), dialect=dialect)
    rows_at_once = max(1, _CELLS // len(header))
    rows = 0
    with lines_of(shard) as lines:
        next(lines)
        for chunk in _chunks(filter(None, lines), rows_at_once):
            unparsed: list[DataError] = []
            if table := _parsed_lines(chunk, header, types, numbers):
                yield _Lines(table, unparsed)
                rows += len(chunk)
                continue
            for i, cells in enumerate(chunk):
                source = Source(shard.path, rows + i)
                faults = list(line_faults(cells, header, places, schema, source, dialect))
                if faults:
                    unparsed += faults
                    chunk[i] = _without(cells, header, faults)
            yield _Lines(_table(chunk, header, types, numbers), unparsed)
            rows += len(chunk)


def _chunks(lines: Iterator[list[str]], most: int) -> Iterator[list[list[str]]]:
    """So many lines at a time; those before one that cannot be read, and then its error."""
    chunk: list[list[str]] = []
    length = 0
    try:
        for cells in lines:
            chunk.append(cells)
            length += sum(map(len, cells))
            if len(chunk) == most or length > _CHARACTERS:
                yield chunk
                chunk, length = [], 0
    except (UnicodeDecodeError, csv.Error, LongLineError):
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk


def _parsed_lines(
    lines: list[list[str]], header: Sequence[str], types: dict[str, pa.DataType], numbers: _Numbers
) -> pa.Table | None:
    """Lines as a table, where all of them can be parsed."""
    if any(len(cells) != len(header) for cells in lines):
        return None
    try:
        return _table(lines, header, types, numbers)
    except pa.ArrowInvalid:
        return None


def _table(
    lines: list[list[str]], header: Sequence[str], types: dict[str, pa.DataType], numbers: _Numbers
) -> pa.Table:
    columns = dict(zip(header, zip(*lines, strict=True), strict=True))
    return pa.table({name: _typed(columns[name], kind, numbers) for name, kind in types.items()})


def _without(cells: list[str], header: Sequence[str], faults: list[DataError]) -> list[str]:
    """The cells, empty where they cannot be parsed; all of them in a ragged row."""
    refused = {fault.column for fault in faults}
    if None in refused:
        return [""] * len(header)
    return ["" if name in refused else cell for name, cell in zip(header, cells, strict=True)]


def _typed(cells: Sequence[str], kind: pa.DataType, numbers: _Numbers) -> pa.Array:
    if kind == pa.string():
        return pa.array([cell or None for cell in cells], kind)
    return numbers(cells)


def _empty_row_faults(table: pa.Table, source: Source, told: Set[int | None]) -> list[DataError]:
    """Rows of empty cells, but for those of which something is told already."""
    rows = [Source(source.file, source.rows_before + row) for row in empty_rows(table)]
    return [empty_row(place) for place in rows if place.rows_before + 1 not in told]


def _part_of(
    table: pa.Table, source: Source, schema: SeriesSchema, unparsed: list[DataError]
) -> Part:
    values = matrix_of(table, schema.value_columns)
    refused = ~schema.usable(values)
    told = _told(unparsed, schema, source, refused.shape)
    refused &= ~told
    names = schema.names_of(table) if schema.holds_names else []
    labels = _label_faults(table, schema, source, names)
    found = chain(schema.empty_row_faults(values, source), labels)
    others = [*unparsed, *_untold(found, unparsed)]
    whole: Mask = ~np.asarray(refused.any(axis=1))
    whole[[fault.row - source.rows_before - 1 for fault in others if fault.row]] = False
    return Part(
        values=values,
        classes=_classes(table, schema, names, whole),
        whole=whole,
        n_faults=len(others) + int(refused.sum()),
        _refused=refused,
        _others=sorted(others, key=_row),
        _describe=lambda cells: schema.value_faults(cells, table, source),
    )


def _told(
    unparsed: list[DataError], schema: SeriesSchema, source: Source, shape: tuple[int, ...]
) -> Mask:
    """The values, (N, V), of which it is said already that they cannot be parsed."""
    told = np.zeros(shape, dtype=np.bool_)
    if unparsed:
        places = {name: i for i, name in enumerate(schema.value_columns)}
        for fault in unparsed:
            row = (fault.row or 0) - source.rows_before - 1
            if fault.column is None:
                told[row] = True
            elif fault.column in places:
                told[row, places[fault.column]] = True
    return told


def _untold(found: Iterator[DataError], unparsed: list[DataError]) -> Iterator[DataError]:
    """The faults that do not follow from those of cells and rows that cannot be parsed."""
    ragged = {fault.row for fault in unparsed if fault.column is None}
    rows = {fault.row for fault in unparsed}
    cells = {(fault.row, fault.column) for fault in unparsed}
    for fault in found:
        follows = fault.row in (ragged if fault.column else rows)
        if not follows and (fault.row, fault.column) not in cells:
            yield fault


def _label_faults(
    table: pa.Table, schema: SeriesSchema, source: Source, names: list[str]
) -> Iterator[DataError]:
    if not schema.holds_names:
        return schema.label_faults(schema.label_matrix(table), table, source)
    missing = schema.empty_name_faults(names, source)
    if not schema.classes:
        return missing
    return chain(missing, schema.unknown_name_faults(names, source))


def _classes(table: pa.Table, schema: SeriesSchema, names: list[str], whole: Mask) -> list[Classes]:
    """The classes of each row that is whole."""
    if schema.holds_names:
        return [(name,) for name, is_whole in zip(names, whole, strict=True) if is_whole]
    labels = schema.encode_labels(table.select(schema.label_columns).filter(pa.array(whole)))
    if schema.task == "multilabel":
        return [tuple(compress(schema.classes, row)) for row in labels.tolist()]
    single = [(name,) for name in schema.classes]
    return [single[i] for i in labels.astype(np.int64).tolist()]


def _row(fault: DataError) -> int:
    return fault.row or 0
