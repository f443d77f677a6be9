"""Write CSV shards: files, packed or not; series, a column ``y`` of class names before them."""

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

from lstmfcn.channels import value_names
from lstmfcn.counts import number
from lstmfcn.errors import OutputError
from lstmfcn.files import new_folder, whole_folder
from lstmfcn.packing import Packing


def write_shards(
    folder: Path,
    classes: Sequence[str],
    series: Sequence[Sequence[object]],
    n_shards: int,
    n_channels: int = 1,
) -> None:
    """Spread rows, in order, over ``part-000.csv``, ... in a new folder that appears whole.

    Args:
        folder: must not hold anything yet.
        classes: each row's class.
        series: each row's values, all of one length, written as their text; one channel after the
            other.
        n_shards: at most as many as there are rows.
        n_channels: of each row; more than one are named ``x1_1``, ... instead of ``x_1``, ...

    Raises:
        OutputError: the folder holds something or cannot be written, or rows are too few.
    """
    header = ["y", *value_names(n_channels, len(series[0]) // n_channels)]
    rows = ([name, *values] for name, values in zip(classes, series, strict=True))
    write_rows(folder, header, rows, len(series), n_shards)


def write_rows(
    folder: Path,
    header: Sequence[str],
    rows: Iterator[Sequence[object]],
    n_rows: int,
    n_shards: int,
) -> None:
    """Spread rows, in order, over ``part-000.csv``, ... in a new folder that appears whole.

    Args:
        folder: must not hold anything yet.
        header: names of the columns.
        rows: read one by one, to their end.
        n_rows: how many they are.
        n_shards: at most as many.

    Raises:
        OutputError: the folder holds something or cannot be written, or rows are too few.
    """
    if n_shards > n_rows:
        raise OutputError(
            f"{folder}: {number(n_shards, 'shard')} for {number(n_rows, 'row')}; use fewer shards"
        )
    with whole_folder(new_folder(folder)) as unfinished:
        for i in range(n_shards):
            n_rows_here = n_rows // n_shards + (i < n_rows % n_shards)
            own = islice(rows, n_rows_here) if i < n_shards - 1 else rows
            with (unfinished / f"part-{i:03d}.csv").open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(header)
                writer.writerows(own)


@contextmanager
def opened_csv(path: Path, packing: Packing, errors: str = "strict") -> Iterator[TextIO]:
    """A new text file; gzip without a time stamp, so that equal content is equal bytes.

    Args:
        packing: what to pack it by.
        errors: what to do about text that UTF-8 cannot hold, as for Python's `open`.
    """
    with (
        path.open("wb") as file,
        _packed(file, packing) as plain,
        io.TextIOWrapper(plain, encoding="utf-8", errors=errors, newline="") as text,
    ):
        yield text


def _packed(file: BinaryIO, packing: Packing) -> Any:
    """A stream that packs into a file; the file itself where nothing is to be packed."""
    if packing == "gzip":
        return gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0)
    if packing == "xz":
        return lzma.open(file, "wb")
    return pa.CompressedOutputStream(file, packing) if packing else file
