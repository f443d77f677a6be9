"""Read shards: their headers first, then rows as tables with declared types.

The quick way is pyarrow's parser. Where it stumbles, the shard is read a second time, cell by cell,
only to name the file, row and column of the first fault.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from lstmfcn.cells import Source
from lstmfcn.column_names import some_of
from lstmfcn.csv_lines import lines_of, numbers_of, refuse_first_fault
from lstmfcn.data_arguments import Data, told
from lstmfcn.errors import DataError
from lstmfcn.hyperparameters import MissingName, TaskName
from lstmfcn.schema import SeriesSchema
from lstmfcn.shards import Shard, find_shards

BLOCK_BYTES = 16 << 20
"""The most CSV bytes parsed at a time."""

_LEAST_BLOCK_BYTES, _BLOCK_BYTES_A_COLUMN = 1 << 20, 3 << 10
"""No row may be longer than a block. Of 192 columns, blocks of 1 MiB parsed twice as fast as those
of 16 MiB, which leave the processor's cache; of 3,001 columns, 8 MiB five times as fast as 1 MiB,
which hold few rows."""

_HEADER_THREADS = 16
_NUMBERS = (
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_boolean,
    pa.types.is_null,
)
_TEXTS = (pa.types.is_string, pa.types.is_large_string)
_PARQUET_ROWS = 1 << 16

Types = Mapping[str, pa.DataType | None]
"""Of columns; None for that which each is stored as, of CSV text."""


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
) -> ShardSet:
    """Find the shards and check every header, before any row is read.

    Args:
        data: a file, folder, glob or URI, or several of them.
        task: what the labels mean, where no schema is given.
        schema: the columns that the shards must have; those of the first shard where not given.
        labels: whether the label columns matter.
        missing: whether values may be missing, where no schema is given.

    Raises:
        DataError: nothing is there, or the headers disagree.
    """
    shards = find_shards(data)
    with ThreadPoolExecutor(_HEADER_THREADS) as threads:
        headers = list(threads.map(read_header, shards))
    read_by = schema or SeriesSchema.from_header(headers[0], task, shards[0].path, missing)
    for shard, header in zip(shards, headers, strict=True):
        read_by.check_header(header, shard.path, labels)
    return ShardSet(told(data), shards, headers, read_by)


def survey_labelled(data: Data, schema: SeriesSchema) -> ShardSet:
    """Find the shards of data that a model is compared with, and check their headers.

    Raises:
        DataError: nothing is there, the columns are not the model's, or there are no labels.
    """
    found = survey(data, schema=schema, labels=False)
    for shard, header in zip(found.shards, found.headers, strict=True):
        if not any(name.startswith("y") for name in header):
            raise DataError(
                "no label column",
                f"a comparison needs {some_of(schema.label_columns)}; for data without labels use "
                "lstmfcn predict",
                file=shard.path,
            )
        schema.check_header(header, shard.path, labels=True)
    return found


def read_header(shard: Shard) -> list[str]:
    """A shard's column names, in file order.

    Raises:
        DataError: the shard cannot be read.
    """
    with readable(shard):
        if shard.is_parquet:
            with shard.filesystem.open_input_file(shard.path) as file:
                return list(pa.parquet.read_schema(file).names)
        with shard.open() as stream, io.TextIOWrapper(stream, encoding="utf-8-sig") as text:
            return next(csv.reader(text), [])


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
            for table in typed_tables(shard, types):
                yield table, Source(shard.path, rows)
                rows += table.num_rows
        except pa.ArrowInvalid:
            if not shard.is_parquet:
                _refuse_first_fault(shard, schema, types)
            raise
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


def typed_tables(shard: Shard, types: Types) -> Iterator[pa.Table]:
    """A shard's rows, in order, as tables of the columns of these types; empty cells are null.

    Raises:
        pa.ArrowInvalid: a ragged row, or a cell of CSV that is not of its column's type.
        DataError: a column of Parquet is of another type.
    """
    return _parquet_tables(shard, types) if shard.is_parquet else _csv_tables(shard, types)


def _csv_tables(shard: Shard, types: Types) -> Iterator[pa.Table]:
    with (
        shard.open() as stream,
        pa.csv.open_csv(
            stream,
            read_options=pa.csv.ReadOptions(use_threads=False, block_size=_block_bytes(types)),
            convert_options=pa.csv.ConvertOptions(
                column_types={name: kind or pa.string() for name, kind in types.items()},
                include_columns=list(types),
                null_values=[""],
            ),
        ) as reader,
    ):
        for batch in reader:
            if batch.num_rows:
                yield pa.Table.from_batches([batch])


def _block_bytes(columns: Sized) -> int:
    wanted = max(_LEAST_BLOCK_BYTES, _BLOCK_BYTES_A_COLUMN * len(columns))
    return min(BLOCK_BYTES, wanted)


def _parquet_tables(shard: Shard, types: Types) -> Iterator[pa.Table]:
    with shard.filesystem.open_input_file(shard.path) as file:
        for batch in pa.parquet.ParquetFile(file).iter_batches(_PARQUET_ROWS, columns=list(types)):
            table = pa.Table.from_batches([batch]).select(list(types))
            _refuse_other_types(shard, table, types)
            wanted = [(name, kind or table[name].type) for name, kind in types.items()]
            yield table.cast(pa.schema(wanted), safe=False)


def _refuse_other_types(shard: Shard, table: pa.Table, types: Types) -> None:
    """Refuse a Parquet column that is neither numbers nor, for class names, text."""
    for name, wanted in types.items():
        if wanted is None:
            continue
        kind = table.schema.field(name).type
        stored = kind.value_type if pa.types.is_dictionary(kind) else kind
        names = wanted == pa.string()
        if not any(is_known(stored) for is_known in _NUMBERS + (_TEXTS if names else ())):
            raise DataError(
                f"values of type {kind}",
                f"store {'class names or numbers' if names else 'numbers'} there",
                file=shard.path,
                column=name,
            )


@contextmanager
def readable(shard: Shard) -> Iterator[None]:
    """Turn what a broken or unreadable file raises into a `DataError`."""
    try:
        yield
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        raise unreadable(shard, error) from error


def unreadable(shard: Shard, error: Exception) -> DataError:
    """What to say of a broken file."""
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
        if refuse_first_fault(lines, header, numbers_of(types), schema, shard.path) == 0:
            raise without_rows(shard)


def without_rows(shard: Shard) -> DataError:
    """What to say of a shard that ends with its header."""
    return DataError("a header but no rows", "fill the file or remove it", file=shard.path)
