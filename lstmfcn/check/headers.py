"""The headers of shards, and the schema that most of them agree on."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from lstmfcn.cells import matrix_of
from lstmfcn.data_arguments import Data
from lstmfcn.errors import DataError
from lstmfcn.hyperparameters import MissingName, TaskName
from lstmfcn.reading import read_header, readable, typed_tables
from lstmfcn.schema import SeriesSchema
from lstmfcn.shards import Shard, empty_file, list_shards

_THREADS = 16


class Header(NamedTuple):
    """The columns of a shard, or why they cannot be read."""

    shard: Shard
    columns: list[str]
    fault: DataError | None = None

    @property
    def roles(self) -> frozenset[str]:
        """The names of label and value columns."""
        return frozenset(name for name in self.columns if name.startswith(("x", "y")))


def read_headers(data: Data) -> list[Header]:
    """The header of each shard of data arguments.

    Raises:
        DataError: nothing is there.
    """
    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(_read, list_shards(data)))


def _read(shard: Shard) -> Header:
    if shard.is_empty:
        return Header(shard, [], empty_file(shard))
    try:
        return Header(shard, read_header(shard))
    except DataError as fault:
        return Header(shard, [], fault)


def guess_task(headers: list[Header]) -> TaskName:
    """The task that label columns are likely meant for.

    One column is of classes, and so are several if most of the first rows have a single 1.
    """
    header = next((header for header in headers if header.fault is None), None)
    labels = [name for name in header.columns if name.startswith("y")] if header else []
    if header is None or len(labels) < 2:
        return "multiclass"
    try:
        with readable(header.shard):
            first = next(typed_tables(header.shard, dict.fromkeys(labels, pa.float32())), None)
    except DataError:
        return "multiclass"
    ones = (matrix_of(first, labels) == 1).sum(axis=1) if first else np.ones(1)
    return "multiclass" if (ones == 1).mean() > 0.5 else "multilabel"


def reference(headers: list[Header], task: TaskName, missing: MissingName) -> SeriesSchema | None:
    """The schema of the columns that most shards have, in the order of the first that has them.

    Of two sets of columns that are had by as many, the one that comes first. None where no header
    makes a schema.
    """
    schemas: dict[frozenset[str], SeriesSchema] = {}
    votes: Counter[frozenset[str]] = Counter()
    for header in headers:
        try:
            schema = SeriesSchema.from_header(header.columns, task, header.shard.path, missing)
        except DataError:
            continue
        schemas.setdefault(header.roles, schema)
        votes[header.roles] += 1
    return schemas[votes.most_common(1)[0][0]] if votes else None
