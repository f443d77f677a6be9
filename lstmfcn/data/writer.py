"""Write CSV shards: rows or series into files, compressed or not."""

from __future__ import annotations

import csv
import gzip
import io
import lzma
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import pyarrow as pa

from lstmfcn.console import pluralize
from lstmfcn.data.columns import value_names
from lstmfcn.data.packing import Packing
from lstmfcn.errors import OutputError
from lstmfcn.storage.files import atomic_directory, new_folder


def write_shards(
    folder: Path,
    classes: Sequence[str],
    series: Sequence[Sequence[object]],
    n_shards: int,
    n_channels: int = 1,
    *,
    overwrite: bool = False,
) -> None:
    """Write series and their classes as `write_rows` writes rows.

    Args:
        series: the values of each row, one channel after the other; all of the same length.
        n_channels: with more than one, columns are named ``x1_1``, ... instead of ``x_1``, ...
    """
    header = ["y", *value_names(n_channels, len(series[0]) // n_channels)]
    rows = ([name, *values] for name, values in zip(classes, series, strict=True))
    write_rows(folder, header, rows, len(series), n_shards, overwrite=overwrite)


def write_rows(
    folder: Path,
    header: Sequence[str],
    rows: Iterator[Sequence[object]],
    n_rows: int,
    n_shards: int,
    *,
    overwrite: bool = False,
) -> None:
    """Write rows to ``part-000.csv``, ... in a new folder.

    The folder appears only when all files are complete.

    Args:
        folder: must be empty or not exist yet.
        rows: the cells of each row; read one row at a time.
        n_shards: how many files to spread the rows over, in order; at most one for each row.

    Raises:
        OutputError: the folder is not empty or cannot be written, or there are too few rows.
    """
    if n_shards > n_rows:
        raise OutputError(
            f"{folder}: {pluralize(n_shards, 'shard')} for {pluralize(n_rows, 'row')}; use "
            "fewer shards"
        )
    earlier = [path.name for path in folder.glob("part-*.csv")] if overwrite else []
    place = folder if overwrite else new_folder(folder)
    with atomic_directory(place, may_go=earlier) as unfinished:
        for i in range(n_shards):
            n_rows_here = n_rows // n_shards + (i < n_rows % n_shards)
            shard_rows = islice(rows, n_rows_here) if i < n_shards - 1 else rows
            with (unfinished / f"part-{i:03d}.csv").open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(header)
                writer.writerows(shard_rows)


@contextmanager
def opened_csv(path: Path, packing: Packing, errors: str = "strict") -> Iterator[TextIO]:
    """Open a new text file for writing.

    Gzip files have no time stamp, so that the same content gives the same bytes.

    Args:
        errors: what to do about text that is not valid UTF-8, as in Python's `open`.
    """
    with (
        path.open("wb") as file,
        _compress(file, packing) as plain,
        io.TextIOWrapper(plain, encoding="utf-8", errors=errors, newline="") as text,
    ):
        yield text


def _compress(file: BinaryIO, packing: Packing) -> Any:
    """A stream that compresses into a file; the file itself if there is nothing to compress."""
    if packing == "gzip":
        return gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0)
    if packing == "xz":
        return lzma.open(file, "wb")
    return pa.CompressedOutputStream(file, packing) if packing else file
