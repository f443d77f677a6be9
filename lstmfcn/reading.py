"""Read shards: their headers first, then rows as tables with declared types.

The quick way is pyarrow's parser. Where it stumbles, the shard is read a second time, cell by cell,
only to name the file, row and column of the first fault.
"""

from __future__ import annotations

import csv
import lzma
from collections.abc import Collection, Iterator, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv

from lstmfcn.cells import Source
from lstmfcn.column_names import some_of, value_columns
from lstmfcn.csv_lines import (
    empty_row,
    empty_rows,
    lines_of,
    numbers_of,
    refuse_first_fault,
    with_decimal_points,
)
from lstmfcn.data_arguments import Data, told
from lstmfcn.dialect import LongLineError
from lstmfcn.errors import DataError, raise_first
from lstmfcn.hyperparameters import MissingLabelsName, MissingName, TaskName
from lstmfcn.layout import long_line
from lstmfcn.parquet import Types, parquet_names, parquet_tables
from lstmfcn.schema import SeriesSchema
from lstmfcn.shards import Shard, find_shards, tell_dialects
from lstmfcn.text_encoding import not_utf8

BLOCK_BYTES = 16 << 20
"""The most CSV bytes parsed at a time."""

_LEAST_BLOCK_BYTES, _BLOCK_BYTES_A_COLUMN = 1 << 20, 3 << 10
"""No row may be longer than a block. Of 192 columns, blocks of 1 MiB parsed twice as fast as those
of 16 MiB, which leave the processor's cache; of 3,001 columns, 8 MiB five times as fast as 1 MiB,
which hold few rows."""

_HEADER_THREADS = 16

_BROKEN = (
    OSError,
    EOFError,
    UnicodeDecodeError,
    csv.Error,
    lzma.LZMAError,
    LongLineError,
    pa.ArrowException,
)
"""What a broken or unreadable file raises."""


class ShardSet(NamedTuple):
    """The shards of data arguments, whose headers have been read and agree with the schema.

    Attributes:
        data: the arguments, as messages name them.
    """

    data: str
    shards: list[Shard]
    headers: list[list[str]]
    schema: SeriesSchema

    def ignored_columns(self) -> list[str]:
        """Columns that are neither labels nor values."""
        names = {name for header in self.headers for name in header}
        return sorted(name for name in names if not name.startswith(("x", "y")))


def survey(
    data: Data,
    task: TaskName = "multiclass",
    schema: SeriesSchema | None = None,
    labels: bool = True,
    missing: MissingName = "refuse",
    *,
    missing_marker: str = "",
    missing_labels: MissingLabelsName = "refuse",
) -> ShardSet:
    """Find the shards and check every header, before any row is read.

    Args:
        data: a file, folder, glob or URI, or several of them.
        task: what the labels mean, where no schema is given.
        schema: the columns that the shards must have; those of the first shard where not given.
        labels: whether the label columns matter.
        missing, missing_marker, missing_labels: as the hyperparameters, where no schema is given.

    Raises:
        DataError: nothing is there, or the headers disagree.
    """
    shards = find_shards(data)

    def header_of(shard: Shard) -> list[str]:
        return read_header(shard, labels=labels)

    with ThreadPoolExecutor(_HEADER_THREADS) as threads:
        headers = list(threads.map(header_of, shards))
    tell_dialects(told(data), shards)
    if (schema.missing if schema else missing) == "mask":
        headers = pad_lists(shards, headers, schema.value_columns if schema else ())
    read_by = schema or SeriesSchema.from_header(
        headers[0],
        task,
        shards[0].path,
        missing,
        missing_marker=missing_marker,
        missing_labels=missing_labels,
    )
    for shard, header in zip(shards, headers, strict=True):
        read_by.check_header(header, shard.path, labels)
    return ShardSet(told(data), shards, headers, read_by)


def read_header(shard: Shard, known: Collection[str] = (), labels: bool = False) -> list[str]:
    """A shard's column names, in file order.

    Args:
        shard: to read from.
        known: columns that lists of Parquet, where series may be missing values, are filled up to.
        labels: whether the label columns matter.

    Raises:
        DataError: the shard cannot be read, its first line is no header, or it lacks labels, which
            its folder's name has.
    """
    with readable(shard):
        columns = columns_of(shard, known)
        raise_first(shard.header_faults(columns, labels))
        if before := shard.layout.before_fault(shard.path):
            raise before
        return columns


def columns_of(shard: Shard, known: Collection[str] = ()) -> list[str]:
    """The names in a shard's header, whatever stands above it."""
    return parquet_names(shard, known) if shard.is_parquet else list(shard.layout.header)


def pad_lists(
    shards: Sequence[Shard], headers: Sequence[list[str]], known: Sequence[str] = ()
) -> list[list[str]]:
    """Headers in which lists of Parquet are as long as the longest of all, or as ``known``.

    Args:
        shards: some.
        headers: of each, as `read_header` gave them.
        known: value columns of a model.
    """
    stored = [header for shard, header in zip(shards, headers, strict=True) if shard.is_parquet]
    known = known or max(map(value_columns, stored), key=len, default=[])
    return [
        read_header(shard, known)
        if shard.is_parquet and len(value_columns(header)) < len(known)
        else header
        for shard, header in zip(shards, headers, strict=True)
    ]


def read_header_for(shard: Shard, schema: SeriesSchema) -> list[str]:
    """A shard's column names, as `read_header` gives them, where it is read by this schema."""
    return read_header(shard, schema.value_columns if schema.missing == "mask" else ())


def read_tables(
    shard: Shard,
    schema: SeriesSchema,
    labels: bool,
    header: Sequence[str],
    others: Sequence[str] = (),
) -> Iterator[tuple[pa.Table, Source]]:
    """A shard's rows, in order, as tables of the schema's columns; each with where it begins.

    Args:
        labels: whether to read the label columns too.
        header: the shard's own columns, as `read_header` gave them.
        others: further columns, to read as they are stored; of CSV as text.

    Raises:
        DataError: other columns, a ragged row, a cell that is no number, no row at all.
    """
    schema.check_header(header, shard.path, labels)
    refuse_absent(others, header, shard)
    types: Types = schema.column_types(labels) | dict.fromkeys(others)
    rows = 0
    with readable(shard):
        try:
            for whole_table in typed_tables(shard, types, schema.gap_texts):
                table = with_decimal_points(whole_table, schema.label_columns, shard.layout.dialect)
                empty = empty_rows(table) if labels else []
                if empty:
                    table = table.slice(0, empty[0])
                if table.num_rows:
                    yield table, Source(shard.path, rows)
                    rows += table.num_rows
                if empty:
                    raise empty_row(Source(shard.path, rows))
        except _BROKEN as error:
            shard.refuse_changed()
            if isinstance(error, pa.ArrowInvalid) and not shard.is_parquet:
                _refuse_first_fault(shard, schema, types)
            raise
        shard.refuse_changed()
    if rows == 0:
        raise without_rows(shard)


def refuse_absent(others: Sequence[str], header: Sequence[str], shard: Shard) -> None:
    """Refuse further columns that a shard has not.

    Raises:
        DataError: names the first, and which there are.
    """
    for name in others:
        if name not in header:
            there = [other for other in header if not other.startswith("x")]
            raise DataError(
                f"no column {name!r}",
                f"beside values there {'are' if len(there) > 1 else 'is'} {some_of(there)}"
                if there
                else "there are only values",
                file=shard.path,
            )


def labelled_pieces(
    shard: Shard, header: Sequence[str], schema: SeriesSchema
) -> Iterator[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """A shard's rows, in order, checked and packed.

    Args:
        header: the shard's own columns, as `read_header` gave them.

    Yields:
        Values (n, C * T), float32, and labels: encoded by the schema's classes, or (n,) class names
        where those are not known yet.

    Raises:
        DataError: a fault in the shard.
    """
    for table, source in read_tables(shard, schema, True, header):
        values = schema.encode_values(table, source)
        if schema.classes:
            yield values, schema.encode_labels(table, source)
        else:
            yield values, np.array(schema.label_names(table, source))


def typed_tables(
    shard: Shard, types: Types, gap_texts: Sequence[str] = ("",)
) -> Iterator[pa.Table]:
    """A shard's rows, in order, as tables of the columns of these types; empty cells are null.

    Args:
        shard: to read from.
        types: of the columns.
        gap_texts: what stands for null in numbers of CSV.

    Raises:
        pa.ArrowInvalid: a ragged row, or a cell of CSV that is not of its column's type.
        DataError: a column of Parquet is of another type.
    """
    if shard.is_parquet:
        return parquet_tables(shard, types)
    return _csv_tables(shard, types, gap_texts)


def _csv_tables(shard: Shard, types: Types, gap_texts: Sequence[str]) -> Iterator[pa.Table]:
    layout = shard.layout
    with (
        shard.open() as stream,
        pa.csv.open_csv(
            stream,
            read_options=pa.csv.ReadOptions(
                use_threads=False,
                block_size=_block_bytes(types),
                skip_rows=layout.n_lines_before,
            ),
            parse_options=pa.csv.ParseOptions(delimiter=layout.dialect.separator),
            convert_options=pa.csv.ConvertOptions(
                column_types={name: kind or pa.string() for name, kind in types.items()},
                include_columns=list(types),
                null_values=list(gap_texts),
                decimal_point=layout.dialect.decimal,
            ),
        ) as reader,
    ):
        for batch in reader:
            if batch.num_rows:
                yield pa.Table.from_batches([batch])


def _block_bytes(columns: Sized) -> int:
    wanted = max(_LEAST_BLOCK_BYTES, _BLOCK_BYTES_A_COLUMN * len(columns))
    return min(BLOCK_BYTES, wanted)


@contextmanager
def readable(shard: Shard) -> Iterator[None]:
    """Turn what a broken or unreadable file raises into a `DataError`."""
    try:
        yield
    except _BROKEN as error:
        raise unreadable(shard, error) from error


def unreadable(shard: Shard, error: Exception) -> DataError:
    """What to say of a broken file."""
    if isinstance(error, UnicodeDecodeError):
        return not_utf8(error, shard.path, shard.layout.packing)
    if isinstance(error, LongLineError):
        return long_line(shard.path)
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(
        f"a file that cannot be read ({reason})",
        "check that it is whole and readable",
        file=shard.path,
    )


def _refuse_first_fault(shard: Shard, schema: SeriesSchema, types: Types) -> None:
    """Read a CSV shard cell by cell and raise for the first row or cell that cannot be parsed."""
    with lines_of(shard) as lines:
        header = next(lines)
        dialect, numbers = shard.layout.dialect, numbers_of(types)
        if refuse_first_fault(lines, header, numbers, schema, shard.path, dialect) == 0:
            raise without_rows(shard)


def without_rows(shard: Shard) -> DataError:
    """What to say of a shard that ends with its header."""
    return DataError("a header but no rows", "fill the file or remove it", file=shard.path)
