"""Read shards: first all headers, then the rows, as tables with declared types.

Pyarrow parses the rows. If it cannot, the shard is read again, cell by cell, to report the file,
row and column of the first fault.
"""

from __future__ import annotations

import csv
import lzma
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.csv

from lstmfcn.data.columns import BY_FIRST_LETTER, Roles, abbreviate
from lstmfcn.data.csv_errors import (
    empty_row,
    empty_rows,
    number_columns,
    read_lines,
    refuse_first_fault,
    with_decimal_points,
)
from lstmfcn.data.csv_parser import parse_csv, useful_threads
from lstmfcn.data.dialect import LongLineError
from lstmfcn.data.layout import long_line
from lstmfcn.data.listing import Data, join_arguments
from lstmfcn.data.packing import not_utf8
from lstmfcn.data.parquet import Types, parquet_names, parquet_tables
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.data.shards import Shard, find_shards, log_dialects, without_rows
from lstmfcn.data.table import Array, FloatArray, RowOrigin
from lstmfcn.errors import DataError, raise_first
from lstmfcn.hyperparameters import MissingLabelsName, MissingName, TaskName
from lstmfcn.signals import map_in_order

_HEADER_THREADS = 16

T = TypeVar("T")

_BROKEN = (
    OSError,
    EOFError,
    UnicodeDecodeError,
    csv.Error,
    lzma.LZMAError,
    LongLineError,
    pa.ArrowException,
)
"""The errors that broken or unreadable files cause."""


class ShardedDataset(NamedTuple):
    """The shards of data arguments, whose headers agree with the schema.

    Attributes:
        data: the data arguments, as one text for messages.
    """

    data: str
    shards: list[Shard]
    headers: list[list[str]]
    schema: SeriesSchema

    def ignored_columns(self) -> list[str]:
        """Names of columns that are neither labels nor values."""
        return self.schema.roles.ignored(self.headers)


def open_dataset(
    data: Data,
    task: TaskName = "multiclass",
    schema: SeriesSchema | None = None,
    labels: bool = True,
    missing: MissingName = "refuse",
    *,
    missing_marker: str = "",
    missing_labels: MissingLabelsName = "refuse",
    roles: Roles = BY_FIRST_LETTER,
) -> ShardedDataset:
    """Find the shards and check every header, before any row is read.

    Args:
        task: what the labels mean, if no schema is given.
        schema: the schema that the shards must have; by default that of the first shard.
        labels: whether the label columns are needed.
        missing, missing_marker, missing_labels, roles: as the hyperparameters, if no schema is
            given.

    Raises:
        DataError: nothing was found, or the headers disagree.
    """
    shards = find_shards(data)
    roles = schema.roles if schema else roles
    # a column that is named is missed by its name, not by the first letter of others
    headers = map_shards(partial(read_header, labels=labels and not roles.label_column), shards)
    log_dialects(join_arguments(data), shards)
    if (schema.missing if schema else missing) == "mask":
        headers = pad_lists(shards, headers, schema.value_columns if schema else (), roles)
    schema = schema or SeriesSchema.from_header(
        headers[0],
        task,
        shards[0].path,
        missing,
        missing_marker=missing_marker,
        missing_labels=missing_labels,
        roles=roles,
    )
    for shard, header in zip(shards, headers, strict=True):
        schema.check_header(header, shard.path, labels)
    return ShardedDataset(join_arguments(data), shards, headers, schema)


def map_shards(function: Callable[[Shard], T], shards: Sequence[Shard]) -> list[T]:
    """Call a function for each shard, in several threads, because opening files takes time."""
    with ThreadPoolExecutor(_HEADER_THREADS) as threads:
        return list(threads.map(function, shards))


def read_header(
    shard: Shard, model_columns: Collection[str] = (), labels: bool = False
) -> list[str]:
    """Read the column names of a shard, in file order.

    Args:
        model_columns: columns to which shorter lists of Parquet are filled up.
        labels: whether the label columns are needed.

    Raises:
        DataError: the shard cannot be read, its first line is not a header, or the labels are only
            in the name of its folder.
    """
    with readable(shard):
        columns = column_names(shard, model_columns)
        raise_first(shard.header_faults(columns, labels))
        if before := shard.layout.before_fault(shard.path):
            raise before
        return columns


def column_names(shard: Shard, model_columns: Collection[str] = ()) -> list[str]:
    """The column names of a shard, even if there are other lines above its header."""
    return parquet_names(shard, model_columns) if shard.is_parquet else list(shard.layout.header)


def pad_lists(
    shards: Sequence[Shard],
    headers: Sequence[list[str]],
    model_columns: Sequence[str] = (),
    roles: Roles = BY_FIRST_LETTER,
) -> list[list[str]]:
    """Make the list columns of all Parquet shards equally long.

    Args:
        headers: the header of each, from `read_header`.
        model_columns: the value columns of a model; by default those of the longest list.
    """
    parquet = [header for shard, header in zip(shards, headers, strict=True) if shard.is_parquet]
    columns = model_columns or max(map(roles.values, parquet), key=len, default=[])
    return [
        read_header(shard, columns)
        if shard.is_parquet and len(roles.values(header)) < len(columns)
        else header
        for shard, header in zip(shards, headers, strict=True)
    ]


def read_header_for(shard: Shard, schema: SeriesSchema) -> list[str]:
    """Read the column names of a shard that is to be read with this schema."""
    return read_header(shard, schema.value_columns if schema.missing == "mask" else ())


def read_tables(
    shard: Shard,
    schema: SeriesSchema,
    labels: bool,
    header: Sequence[str],
    others: Sequence[str] = (),
    threads: int = 1,
) -> Iterator[tuple[pa.Table, RowOrigin]]:
    """Read the rows of a shard, in order, as tables of the schema's columns.

    Args:
        header: the columns of the shard, from `read_header`.
        others: further columns to read, as they are stored; from CSV as text.
        threads: how many parts of the shard are worked on at a time.

    Raises:
        DataError: wrong columns, a row with too many or too few cells, a cell that is not a
            number, or no rows.
    """
    schema.check_header(header, shard.path, labels)
    refuse_absent(others, header, shard)
    types: Types = schema.column_types(labels) | dict.fromkeys(others)
    rows = 0
    with readable(shard):
        try:
            for whole_table in typed_tables(shard, types, schema.gap_texts, threads):
                table = with_decimal_points(whole_table, schema.label_columns, shard.layout.dialect)
                empty = empty_rows(table) if labels else []
                if empty:
                    table = table.slice(0, empty[0])
                if table.num_rows:
                    yield table, RowOrigin(shard.path, rows)
                    rows += table.num_rows
                if empty:
                    raise empty_row(RowOrigin(shard.path, rows))
        except _BROKEN as error:
            shard.refuse_changed()
            if isinstance(error, pa.ArrowInvalid) and not shard.is_parquet:
                _refuse_first_fault(shard, schema, types)
            raise
        shard.refuse_changed()
    if rows == 0:
        raise without_rows(shard)


def refuse_absent(names: Sequence[str], header: Sequence[str], shard: Shard) -> None:
    """Refuse (`DataError`) further columns that a shard does not have."""
    for name in names:
        if name not in header:
            columns = [column for column in header if not column.startswith("x")]
            fix = f"besides its values, the file has {abbreviate(columns)}"
            raise DataError(f"no column {name!r}", fix, file=shard.path)


def read_pieces(
    shard: Shard, header: Sequence[str], schema: SeriesSchema, threads: int = 1
) -> Iterator[tuple[FloatArray, Array]]:
    """Read the rows of a shard, in order, checked and encoded.

    Args:
        header: the columns of the shard, from `read_header`.
        threads: how many parts of the shard are worked on at a time.

    Yields:
        Values, float32 (n, C * T), and labels: encoded, or class names (n,) if the schema has no
        classes yet.

    Raises:
        DataError: the shard has a fault.
    """

    def encode(part: tuple[pa.Table, RowOrigin]) -> tuple[FloatArray, Array]:
        values = schema.encode_values(*part)
        if schema.classes:
            return values, schema.encode_labels(*part)
        return values, np.array(schema.label_names(*part))

    tables = read_tables(shard, schema, True, header, threads=threads)
    yield from map_in_order(encode, tables, useful_threads(shard, threads))


def typed_tables(
    shard: Shard, types: Types, gap_texts: Sequence[str] = ("",), threads: int = 1
) -> Iterator[pa.Table]:
    """Read the rows of a shard, in order, as tables; empty cells are null.

    Args:
        gap_texts: texts in number columns of CSV that become null.
        threads: how many parts of the shard are worked on at a time.

    Raises:
        pa.ArrowInvalid: a row of CSV has too many or too few cells, or a cell has another type.
        DataError: a column of Parquet has another type.
    """
    if shard.is_parquet:
        return parquet_tables(shard, types, useful_threads(shard, threads))
    return parse_csv(shard, types, gap_texts, useful_threads(shard, threads))


@contextmanager
def readable(shard: Shard) -> Iterator[None]:
    """Turn errors of a broken or unreadable file into a `DataError`."""
    try:
        yield
    except _BROKEN as error:
        raise unreadable(shard, error) from error


def unreadable(shard: Shard, error: Exception) -> DataError:
    """Describe a broken file."""
    if isinstance(error, UnicodeDecodeError):
        return not_utf8(error, shard.path, shard.layout.packing)
    if isinstance(error, LongLineError):
        return long_line(shard.path)
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(
        f"a file that cannot be read ({reason})",
        "check that it is complete and that you may read it",
        file=shard.path,
    )


def _refuse_first_fault(shard: Shard, schema: SeriesSchema, types: Types) -> None:
    """Read a CSV shard cell by cell, and refuse the first row or cell that cannot be parsed."""
    with read_lines(shard) as lines:
        header = next(lines)
        dialect, numbers = shard.layout.dialect, number_columns(types)
        if refuse_first_fault(lines, header, numbers, schema, shard.path, dialect) == 0:
            raise without_rows(shard)
