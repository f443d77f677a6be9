"""Read all shards of a data argument, and gather the faults and the statistics of each.

Shards are read side by side, as parsing leaves Python free, and told in order.
"""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lstmfcn.bounds import refuse_few_rows
from lstmfcn.check.headers import Header
from lstmfcn.check.parts import UnparsedError, parts_of
from lstmfcn.check.row_statistics import RowStatistics
from lstmfcn.data_arguments import Data, told
from lstmfcn.errors import DataError, raise_first
from lstmfcn.hyperparameters import TaskName
from lstmfcn.schema import SeriesSchema
from lstmfcn.shards import Shard

_MOST_THREADS = 4


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
class Examined:
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
        return told(self.arguments)

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


def examine(
    data: Data, headers: list[Header], schema: SeriesSchema | None, task: TaskName, limit: int
) -> Examined:
    """Read every row of data arguments.

    Args:
        headers: of its shards, as `read_headers` gave them.
        schema: what its columns must be; None where no header makes a schema of the task.
        limit: how many faults to describe.
    """
    if schema is None:
        return Examined(data, None, [_without_schema(header, task) for header in headers], [])

    def of(header: Header) -> ShardFindings:
        return _examine_shard(header, schema, limit)

    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as threads:
        return Examined(data, schema, list(threads.map(of, headers)), [])


def name_classes(examined: Examined) -> None:
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


def _examine_shard(header: Header, schema: SeriesSchema, limit: int) -> ShardFindings:
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
        for part in parts_of(header.shard, schema, header.columns, unparsed):
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
