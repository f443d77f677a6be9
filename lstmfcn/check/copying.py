"""Copy a shard without some of its rows; every other cell stays as it is, byte by byte."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Set
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from lstmfcn.dialect import LongLineError, lines_of_text, rows_of_lines
from lstmfcn.reading import unreadable
from lstmfcn.shard_writing import opened_csv
from lstmfcn.shards import Shard

_PARQUET_ROWS = 1 << 14


def copy_shard(shard: Shard, path: Path, left_out: Set[int]) -> None:
    """Write a shard's rows, in order, in its own format.

    Args:
        path: the file to write.
        left_out: rows that are not written, counted from 1.

    Raises:
        OSError: the file cannot be written.
        DataError: the shard's lines cannot be read.
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
    """Columns that are not used may hold other bytes than UTF-8, which are kept."""
    layout = shard.layout
    with (
        shard.open() as stream,
        io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="") as text,
        opened_csv(path, layout.packing, errors="surrogateescape") as copy,
    ):
        for _ in range(layout.n_lines_before):
            next(text)
        separator = layout.dialect.separator
        lines = rows_of_lines(lines_of_text(text), separator)
        writer = csv.writer(copy, delimiter=separator, lineterminator="\n")
        try:
            writer.writerow(next(lines))
            rows = enumerate(filter(None, lines), start=1)
            writer.writerows(cells for row, cells in rows if row not in left_out)
        except (csv.Error, LongLineError) as error:
            raise unreadable(shard, error) from error


def _copy_parquet(shard: Shard, path: Path, left_out: Set[int]) -> None:
    with shard.filesystem.open_input_file(shard.path) as file:
        shards = pa.parquet.ParquetFile(file)
        with pa.parquet.ParquetWriter(path, shards.schema_arrow) as writer:
            rows = 0
            for batch in shards.iter_batches(_PARQUET_ROWS):
                numbers = range(rows + 1, rows + 1 + batch.num_rows)
                writer.write_batch(batch.filter(pa.array(row not in left_out for row in numbers)))
                rows += batch.num_rows
