"""Read shards: their headers first, then rows as tables with declared types.

The quick way is pyarrow's parser. Where it stumbles, the shard is read a second time, cell by cell,
only to name the file, row and column of the first fault.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from lstmfcn.cells import Source
from lstmfcn.errors import DataError
from lstmfcn.hyperparameters import MissingName, TaskName
from lstmfcn.schema import SeriesSchema
from lstmfcn.shards import Shard, find_shards

BLOCK_BYTES = 16 << 20
"""CSV bytes parsed at a time. No row may be longer. Blocks of 16 MiB parsed a wide file twice as
fast as pyarrow's default of 1 MiB."""

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


class ShardSet(NamedTuple):
    """The shards of a data argument, whose headers have been read and agree with the schema."""

    data: str
    shards: list[Shard]
    headers: list[list[str]]
    schema: SeriesSchema

    def ignored_columns(self) -> list[str]:
        """Columns that are neither labels nor values."""
        names = {name for header in self.headers for name in header}
        return sorted(name for name in names if not name.startswith(("x", "y")))


def survey(
    data: str,
    task: TaskName = "multiclass",
    schema: SeriesSchema | None = None,
    labels: bool = True,
    missing: MissingName = "refuse",
) -> ShardSet:
    """Find the shards and check every header, before any row is read.

    Args:
        data: a file, folder, glob or URI.
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
    return ShardSet(data, shards, headers, read_by)


def read_header(shard: Shard) -> list[str]:
    """A shard's column names, in file order.

    Raises:
        DataError: the shard cannot be read.
    """
    with _readable(shard):
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
        others: further columns, to read as text.

    Raises:
        DataError: other columns, a ragged row, a cell that is no number, no row at all.
    """
    schema.check_header(header, shard.path, labels)
    if missing := [name for name in others if name not in header]:
        raise DataError(
            f"no column {missing[0]!r}", "name one that the header has", file=shard.path
        )
    types = schema.column_types(labels) | dict.fromkeys(others, pa.string())
    tables = _parquet_tables(shard, types) if shard.is_parquet else _csv_tables(shard, types)
    rows = 0
    with _readable(shard):
        try:
            for table in tables:
                yield table, Source(shard.path, rows)
                rows += table.num_rows
        except pa.ArrowInvalid:
            if not shard.is_parquet:
                _refuse_first_fault(shard, schema, types)
            raise
    if rows == 0:
        raise _without_rows(shard)


def _csv_tables(shard: Shard, types: dict[str, pa.DataType]) -> Iterator[pa.Table]:
    with (
        shard.open() as stream,
        pa.csv.open_csv(
            stream,
            read_options=pa.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
            convert_options=pa.csv.ConvertOptions(
                column_types=types, include_columns=list(types), null_values=[""]
            ),
        ) as reader,
    ):
        for batch in reader:
            if batch.num_rows:
                yield pa.Table.from_batches([batch])


def _parquet_tables(shard: Shard, types: dict[str, pa.DataType]) -> Iterator[pa.Table]:
    with shard.filesystem.open_input_file(shard.path) as file:
        for batch in pa.parquet.ParquetFile(file).iter_batches(_PARQUET_ROWS, columns=list(types)):
            table = pa.Table.from_batches([batch]).select(list(types))
            _refuse_other_types(shard, table, types)
            yield table.cast(pa.schema(list(types.items())), safe=False)


def _refuse_other_types(shard: Shard, table: pa.Table, types: dict[str, pa.DataType]) -> None:
    """Refuse a Parquet column that is neither numbers nor, for class names, text."""
    for name, wanted in types.items():
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
def _readable(shard: Shard) -> Iterator[None]:
    """Turn what a broken or unreadable file raises into a `DataError`."""
    try:
        yield
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        raise _unreadable(shard, error) from error


def _unreadable(shard: Shard, error: Exception) -> DataError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(
        f"a file that cannot be read ({reason})",
        "check that it is whole and readable",
        file=shard.path,
    )


def _refuse_first_fault(shard: Shard, schema: SeriesSchema, types: dict[str, pa.DataType]) -> None:
    """Read a CSV shard cell by cell and raise for the first row or cell that cannot be parsed."""
    with shard.open() as stream, io.TextIOWrapper(stream, "utf-8-sig") as text:
        lines = csv.reader(text)
        numbers = [name for name, kind in types.items() if kind == pa.float32()]
        if refuse_first_fault(lines, next(lines), numbers, schema, shard.path) == 0:
            raise _without_rows(shard)


def refuse_first_fault(
    lines: Iterable[Sequence[str]],
    header: Sequence[str],
    numbers: Sequence[str],
    schema: SeriesSchema,
    file: str | None = None,
) -> int:
    """Look for the first row or cell that cannot be parsed.

    Args:
        lines: the cells of each line below the header; empty lines do not count.
        header: the columns.
        numbers: those that must hold numbers.
        schema: knows what to do about a cell that holds none.
        file: for the message.

    Returns:
        The number of rows, where all can be parsed.

    Raises:
        DataError: a row with another number of cells, or a cell that is no number.
    """
    places = [(i, name) for i, name in enumerate(header) if name in set(numbers)]
    row = 0
    for row, cells in enumerate(filter(None, lines), start=1):
        if len(cells) != len(header):
            raise DataError(
                f"{len(cells)} cells",
                f"the header has {len(header)} columns: give the row as many",
                file=file,
                row=row,
            )
        for i, name in places:
            if not _is_number(cells[i]):
                raise DataError(
                    repr(cells[i]), schema.fix_for(name), file=file, row=row, column=name
                )
    return row


def _is_number(cell: str) -> bool:
    """Whether pyarrow reads a cell as a number, or as missing, which the schema refuses."""
    try:
        pa.array([cell.strip(" \t")]).cast(pa.float32())
    except pa.ArrowInvalid:
        return cell == ""
    return True


def _without_rows(shard: Shard) -> DataError:
    return DataError("a header but no rows", "fill the file or remove it", file=shard.path)
