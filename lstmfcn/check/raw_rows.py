"""Read and copy rows as they are stored, without a look at what they mean."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from lstmfcn.data.dialect import LongLineError, lines_of_text, parse_lines
from lstmfcn.data.reader import readable, unreadable
from lstmfcn.data.shards import Shard
from lstmfcn.data.table import is_missing
from lstmfcn.data.writer import opened_csv

_PARQUET_ROWS = 1 << 14


def copy_shard(shard: Shard, path: Path, left_out: Set[int]) -> None:
    """Copy a shard without some rows, in its own format.

    Args:
        left_out: the numbers of the rows to leave out, from 1.

    Raises:
        OSError: the file cannot be written.
        DataError: the lines of the shard cannot be read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not left_out and not shard.layout.before_fault(shard.path):
        with shard.filesystem.open_input_file(shard.path) as file, path.open("wb") as copy:
            shutil.copyfileobj(file, copy)
    elif shard.is_parquet:
        _copy_parquet(shard, path, left_out)
    else:
        _copy_csv(shard, path, left_out)


def _copy_csv(shard: Shard, path: Path, left_out: Set[int]) -> None:
    """Copy CSV; bytes that are not UTF-8, in columns that are not used, stay the same."""
    layout = shard.layout
    with (
        _csv_lines(shard) as lines,
        opened_csv(path, layout.packing, errors="surrogateescape") as copy,
    ):
        writer = csv.writer(copy, delimiter=layout.dialect.separator, lineterminator="\n")
        writer.writerow(next(lines))
        rows = enumerate(lines, start=1)
        writer.writerows(cells for row, cells in rows if row not in left_out)


@contextmanager
def _csv_lines(shard: Shard) -> Iterator[Iterator[list[str]]]:
    """Open CSV as an iterator of the cells of its header and its rows; empty lines are skipped.

    Raises:
        DataError: the lines cannot be read.
    """
    layout = shard.layout
    with (
        shard.open() as stream,
        io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="") as text,
    ):
        for _ in range(layout.n_lines_before):
            next(text)
        try:
            yield filter(None, parse_lines(lines_of_text(text), layout.dialect.separator))
        except (csv.Error, LongLineError) as error:
            raise unreadable(shard, error) from error


def read_cells(shard: Shard, columns: Sequence[str]) -> Iterator[list[str]]:
    """Read some columns of all rows, in order, as text; a missing cell is empty.

    Raises:
        DataError: the shard cannot be read.
    """
    with readable(shard):
        if shard.is_parquet:
            yield from _read_parquet_cells(shard, columns)
            return
        with _csv_lines(shard) as lines:
            header = next(lines)
            places = [header.index(name) for name in columns]
            for cells in lines:
                yield [cells[place].strip() if place < len(cells) else "" for place in places]


def _read_parquet_cells(shard: Shard, columns: Sequence[str]) -> Iterator[list[str]]:
    with shard.filesystem.open_input_file(shard.path) as file:
        source = pa.parquet.ParquetFile(file)
        for batch in source.iter_batches(_PARQUET_ROWS, columns=list(columns)):
            texts = [batch[name].to_pylist() for name in columns]
            for cells in zip(*texts, strict=True):
                yield ["" if is_missing(cell, False) else str(cell) for cell in cells]


def _copy_parquet(shard: Shard, path: Path, left_out: Set[int]) -> None:
    with shard.filesystem.open_input_file(shard.path) as file:
        source = pa.parquet.ParquetFile(file)
        with pa.parquet.ParquetWriter(path, source.schema_arrow) as writer:
            rows = 0
            for batch in source.iter_batches(_PARQUET_ROWS):
                numbers = range(rows + 1, rows + 1 + batch.num_rows)
                writer.write_batch(batch.filter(pa.array(row not in left_out for row in numbers)))
                rows += batch.num_rows
