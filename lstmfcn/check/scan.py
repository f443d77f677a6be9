"""Read the headers and rows of all shards, and gather the faults and the statistics of each.

Shards are read side by side, as parsing leaves Python free, and reported in order.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lstmfcn.check.row_errors import UnparsedError, scan_parts
from lstmfcn.check.statistics import RowStatistics
from lstmfcn.data.batch_plan import refuse_few_rows
from lstmfcn.data.csv_errors import with_decimal_points
from lstmfcn.data.listing import Data, join_arguments
from lstmfcn.data.reader import pad_lists, readable, select_columns, typed_tables
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.data.shards import Shard, empty_file, list_shards, log_dialects
from lstmfcn.data.table import label_matrix
from lstmfcn.errors import DataError, raise_first
from lstmfcn.hyperparameters import MissingName, TaskName

_THREADS = 16


_MOST_THREADS = 4


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
        headers = list(threads.map(_read_header, list_shards(data)))
    readable_ones = [header for header in headers if header.fault is None]
    log_dialects(join_arguments(data), [header.shard for header in readable_ones])
    if missing == "refuse":
        return headers
    padded = pad_lists([h.shard for h in readable_ones], [h.columns for h in readable_ones])
    columns = dict(zip((h.shard.path for h in readable_ones), padded, strict=True))
    return [h._replace(columns=columns.get(h.shard.path, h.columns)) for h in headers]


def _read_header(shard: Shard) -> Header:
    if shard.is_empty:
        return Header(shard, [], empty_file(shard))
    try:
        with readable(shard):
            columns = select_columns(shard)
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


def reference_schema(
    headers: list[Header], task: TaskName, how: Mapping[str, Any]
) -> SeriesSchema | None:
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


class ShardFindings(NamedTuple):
    """What one shard was found to hold.

    Attributes:
        header: the columns; empty where they cannot be read.
        statistics: of the rows without fault; None where the shard can only be left out as a whole.
        faults: the first of them; one of the whole shard stands first.
        n_faults: how many there are.
        n_rows: all rows.
        broken: the rows with a fault, counted from 1.
        unparsed: why pyarrow does not parse the shard, where it does not.
        before: what is said of lines above the header, which are among the faults.
    """

    shard: Shard
    header: list[str]
    statistics: RowStatistics | None
    faults: list[DataError]
    n_faults: int
    n_rows: int = 0
    broken: npt.NDArray[np.int64] = np.empty(0, np.int64)
    unparsed: pa.ArrowInvalid | None = None
    before: DataError | None = None

    def row_of(self, whole: int) -> int:
        """Which row the shard's n-th row without fault is; both counted as they are kept."""
        before = self.broken - 1 - np.arange(len(self.broken))
        return whole + 1 + int(np.searchsorted(before, whole, side="right"))


@dataclass
class DataScan:
    """What all shards of data arguments were found to hold.

    Attributes:
        arguments: the data arguments.
        schema: what the rows were read by; None where no header makes a schema.
        faults: those of no shard alone, such as a class without rows; looked for only where the
            shards have none.
    """

    arguments: Data
    schema: SeriesSchema | None
    shards: list[ShardFindings]
    faults: list[DataError]

    @property
    def data(self) -> str:
        """The data arguments, as messages name them."""
        return join_arguments(self.arguments)

    @property
    def n_faults(self) -> int:
        """All faults."""
        return len(self.faults) + sum(shard.n_faults for shard in self.shards)

    @property
    def statistics(self) -> list[RowStatistics]:
        """Of each shard that is not refused as a whole."""
        return [shard.statistics for shard in self.shards if shard.statistics]

    @property
    def n_rows(self) -> int:
        """All rows of those shards."""
        return sum(shard.n_rows for shard in self.shards)

    @property
    def n_broken(self) -> int:
        """Those of them with a fault."""
        return sum(len(shard.broken) for shard in self.shards)

    def first_faults(self, limit: int) -> list[DataError]:
        """At most so many faults, in order of the shards."""
        all_faults = (fault for shard in self.shards for fault in shard.faults)
        return list(islice((*all_faults, *self.faults), limit))

    def class_counts(self) -> dict[str, int]:
        """Rows without fault of each class, or label, in the schema's order."""
        counts: Counter[str] = Counter()
        for rows in self.statistics:
            n_rows_of = np.bincount(rows.codes, minlength=len(rows.classes)).tolist()
            for names, n_rows in zip(rows.classes, n_rows_of, strict=True):
                counts.update(dict.fromkeys(names, n_rows))
        known = self.schema.classes if self.schema else ()
        return {name: counts.pop(name, 0) for name in known} | counts

    def ignored_columns(self) -> list[str]:
        """Columns that are neither labels nor values."""
        names = {name for shard in self.shards for name in shard.header}
        return sorted(name for name in names if not name.startswith(("x", "y")))

    def lengths(self) -> dict[str, int] | None:
        """Least, median and greatest length of a series, where values may be missing.

        Beside them how many values are missing before the end of their series.
        """
        lengths: Counter[int] = Counter()
        for rows in self.statistics:
            lengths.update(rows.lengths)
        if not lengths:
            return None
        known = sorted(lengths)
        below = np.cumsum([lengths[length] for length in known])
        median = known[int(np.searchsorted(below, (below[-1] + 1) // 2))]
        missing = sum(rows.n_missing for rows in self.statistics)
        return {"least": known[0], "median": median, "most": known[-1], "missing": missing}


def scan_shards(
    data: Data, headers: list[Header], schema: SeriesSchema | None, task: TaskName, limit: int
) -> DataScan:
    """Read every row of data arguments.

    Args:
        headers: of its shards, as `read_headers` gave them.
        schema: what its columns must be; None where no header makes a schema of the task.
        limit: how many faults to describe.
    """
    if schema is None:
        return DataScan(data, None, [_without_schema(header, task) for header in headers], [])

    def of(header: Header) -> ShardFindings:
        return _scan_shard(header, schema, limit)

    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as threads:
        return DataScan(data, schema, list(threads.map(of, headers)), [])


def name_classes(examined: DataScan) -> None:
    """Give the schema of training data the classes that its rows have.

    What is wrong with them, or with the number of rows, is told only where nothing else is: rows
    with a fault count for no class.
    """
    schema = examined.schema
    if schema is None:
        return
    counts = examined.class_counts()
    faults = []
    try:
        if not schema.classes:
            examined.schema = schema = schema.with_classes(list(counts), examined.data)
        raise_first(schema.absent_class_faults(counts, examined.data))
        refuse_few_rows(examined.n_rows - examined.n_broken, 1, examined.data)
    except DataError as fault:
        faults = [fault]
    if not examined.n_faults:
        examined.faults = faults


def _without_schema(header: Header, task: TaskName) -> ShardFindings:
    """A shard whose header cannot be read, or makes no schema."""
    fault = header.fault
    if fault is None:
        try:
            SeriesSchema.from_header(header.columns, task, header.shard.path)
        except DataError as error:
            fault = error
    return _refused(header, [fault] if fault else [])


def _scan_shard(header: Header, schema: SeriesSchema, limit: int) -> ShardFindings:
    if header.fault:
        return _refused(header, [header.fault])
    if faults := list(schema.header_faults(header.columns, header.shard.path, labels=True)):
        return _refused(header, faults)
    try:
        return _read(header, schema, limit)
    except UnparsedError as unparsed:
        return _read(header, schema, limit, unparsed.error)


def _refused(header: Header, faults: list[DataError]) -> ShardFindings:
    return ShardFindings(header.shard, header.columns, None, faults, len(faults))


def _read(
    header: Header, schema: SeriesSchema, limit: int, unparsed: pa.ArrowInvalid | None = None
) -> ShardFindings:
    statistics = RowStatistics(schema)
    faults = [header.before][:limit] if header.before else []
    broken = [np.empty(0, np.int64)]
    rows, n_faults = 0, len(faults)
    try:
        for part in scan_parts(header.shard, schema, header.columns, unparsed):
            statistics.add(part, rows)
            if part.n_faults:
                faults += islice(part.faults(), limit - len(faults))
                broken.append(rows + 1 + np.flatnonzero(~part.whole))
                n_faults += part.n_faults
            rows += len(part.values)
    except DataError as fault:
        return _refused(header, [fault, *faults])._replace(n_faults=n_faults + 1)
    return ShardFindings(
        header.shard,
        header.columns,
        statistics,
        faults,
        n_faults,
        rows,
        np.concatenate(broken),
        unparsed,
        header.before,
    )
