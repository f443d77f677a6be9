"""The headers of shards, and the schema that most of them agree on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pyarrow as pa

from lstmfcn.csv_lines import with_decimal_points
from lstmfcn.data_arguments import Data, told
from lstmfcn.errors import DataError, raise_first
from lstmfcn.hyperparameters import MissingName, TaskName
from lstmfcn.label_cells import label_matrix
from lstmfcn.reading import columns_of, pad_lists, readable, typed_tables
from lstmfcn.schema import SeriesSchema
from lstmfcn.shards import Shard, empty_file, list_shards, tell_dialects

_THREADS = 16


class Header(NamedTuple):
    """The columns of a shard, or why they cannot be read.

    Attributes:
        before: what to say of lines above the header.
    """

    shard: Shard
    columns: list[str]
    fault: DataError | None = None
    before: DataError | None = None

    @property
    def roles(self) -> frozenset[str]:
        """The names of label and value columns."""
        return frozenset(name for name in self.columns if name.startswith(("x", "y")))


def read_headers(data: Data, missing: MissingName = "refuse") -> list[Header]:
    """The header of each shard of data arguments.

    Args:
        data: a file, folder, glob or URI.
        missing: whether values may be missing, as behind the end of lists of Parquet.

    Raises:
        DataError: nothing is there.
    """
    with ThreadPoolExecutor(_THREADS) as threads:
        headers = list(threads.map(_read, list_shards(data)))
    readable_ones = [header for header in headers if header.fault is None]
    tell_dialects(told(data), [header.shard for header in readable_ones])
    if missing == "refuse":
        return headers
    padded = pad_lists([h.shard for h in readable_ones], [h.columns for h in readable_ones])
    columns = dict(zip((h.shard.path for h in readable_ones), padded, strict=True))
    return [h._replace(columns=columns.get(h.shard.path, h.columns)) for h in headers]


def _read(shard: Shard) -> Header:
    if shard.is_empty:
        return Header(shard, [], empty_file(shard))
    try:
        with readable(shard):
            columns = columns_of(shard)
            raise_first(shard.header_faults(columns, labels=True))
            return Header(shard, columns, before=shard.layout.before_fault(shard.path))
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
            first = next(typed_tables(header.shard, dict.fromkeys(labels, pa.string())), None)
    except DataError:
        return "multiclass"
    if first is None:
        return "multiclass"
    points = with_decimal_points(first, labels, header.shard.layout.dialect)
    ones = (label_matrix(points, labels) == 1).sum(axis=1)
    return "multiclass" if (ones == 1).mean() > 0.5 else "multilabel"


def reference(headers: list[Header], task: TaskName, how: Mapping[str, Any]) -> SeriesSchema | None:
    """The schema of the columns that most shards have, in the order of the first that has them.

    Of two sets of columns that are had by as many, the one that comes first. None where no header
    makes a schema.

    Args:
        headers: of the shards.
        task: what the labels mean.
        how: what is missing, as `SeriesSchema.from_header` takes it.
    """
    schemas: dict[frozenset[str], SeriesSchema] = {}
    votes: Counter[frozenset[str]] = Counter()
    for header in headers:
        try:
            schema = SeriesSchema.from_header(header.columns, task, header.shard.path, **how)
        except DataError:
            continue
        schemas.setdefault(header.roles, schema)
        votes[header.roles] += 1
    return schemas[votes.most_common(1)[0][0]] if votes else None
