"""Read the headers and rows of all shards, and collect the faults and statistics of each.

Several threads read shards at the same time; the results are in the order of the shards.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lstmfcn.check.row_errors import UnparsedError, scan_parts
from lstmfcn.check.statistics import RowStatistics
from lstmfcn.data.batch_plan import refuse_few_rows
from lstmfcn.data.columns import BY_FIRST_LETTER, Roles
from lstmfcn.data.csv_errors import with_decimal_points
from lstmfcn.data.listing import Data, join_arguments
from lstmfcn.data.reader import column_names, map_shards, pad_lists, readable, typed_tables
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.data.shards import Shard, empty_file, list_shards, log_dialects
from lstmfcn.data.table import label_matrix
from lstmfcn.errors import DataError, raise_first
from lstmfcn.hyperparameters import MissingName, TaskName

_MAX_THREADS = 4


class Header(NamedTuple):
    """The columns of a shard, or why they cannot be read.

    Attributes:
        columns: the column names; empty if they cannot be read.
        before: the fault of lines above the header.
    """

    shard: Shard
    columns: list[str]
    fault: DataError | None = None
    before: DataError | None = None

    def named(self, roles: Roles) -> frozenset[str]:
        """The names of label and value columns."""
        return frozenset([*roles.labels(self.columns), *roles.values(self.columns)])


def read_headers(
    data: Data, missing: MissingName = "refuse", roles: Roles = BY_FIRST_LETTER
) -> list[Header]:
    """Read the header of each shard.

    Args:
        missing: whether values may be missing; if so, shorter lists of Parquet are filled up.

    Raises:
        DataError: nothing was found.
    """
    headers = map_shards(partial(_read_header, roles=roles), list_shards(data))
    intact = [header for header in headers if header.fault is None]
    log_dialects(join_arguments(data), [header.shard for header in intact])
    if missing == "refuse":
        return headers
    padded = pad_lists([h.shard for h in intact], [h.columns for h in intact], roles=roles)
    columns = dict(zip((h.shard.path for h in intact), padded, strict=True))
    return [h._replace(columns=columns.get(h.shard.path, h.columns)) for h in headers]


def _read_header(shard: Shard, roles: Roles) -> Header:
    if shard.is_empty:
        return Header(shard, [], empty_file(shard))
    try:
        with readable(shard):
            columns = column_names(shard)
            raise_first(shard.header_faults(columns, labels=not roles.label_column))
            return Header(shard, columns, before=shard.layout.before_fault(shard.path))
    except DataError as fault:
        return Header(shard, [], fault)


def guess_task(headers: list[Header], roles: Roles = BY_FIRST_LETTER) -> TaskName:
    """Guess the task from the label columns.

    One column means multiclass, and so do several if most of the first rows have exactly one 1.
    """
    header = next((header for header in headers if header.fault is None), None)
    labels = roles.labels(header.columns) if header else []
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
    headers: list[Header], task: TaskName, options: Mapping[str, Any]
) -> SeriesSchema | None:
    """The schema of the columns that most shards have, in the order of the first of these shards.

    If two sets of columns are equally frequent, the first one counts. None if no header makes a
    schema. The options are further arguments of `SeriesSchema.from_header`.
    """
    schemas: dict[frozenset[str], SeriesSchema] = {}
    votes: Counter[frozenset[str]] = Counter()
    for header in headers:
        try:
            schema = SeriesSchema.from_header(header.columns, task, header.shard.path, **options)
        except DataError:
            continue
        named = header.named(schema.roles)
        schemas.setdefault(named, schema)
        votes[named] += 1
    return schemas[votes.most_common(1)[0][0]] if votes else None


class ShardFindings(NamedTuple):
    """The faults and statistics of one shard.

    Attributes:
        header: the column names; empty if they cannot be read.
        statistics: of the rows without faults; None if the shard is refused as a whole.
        faults: the first faults; a fault of the whole shard comes first.
        n_faults: the number of all faults.
        broken: the numbers of the rows with faults, counted from 1.
        unparsed: why pyarrow cannot parse the shard; None if it can.
        before: the fault of lines above the header, which is also among the faults.
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

    def row_number(self, index: int) -> int:
        """The number, from 1, of a row given by its index, from 0, among rows without faults."""
        intact_before = self.broken - 1 - np.arange(len(self.broken))
        return index + 1 + int(np.searchsorted(intact_before, index, side="right"))


@dataclass
class DataScan:
    """The faults and statistics of all shards of data arguments.

    Attributes:
        schema: the schema that the rows were read with; None if no header makes a schema.
        faults: faults of the data as a whole, such as a class without rows; empty if any shard has
            faults.
    """

    arguments: Data
    schema: SeriesSchema | None
    shards: list[ShardFindings]
    faults: list[DataError]

    @property
    def data(self) -> str:
        """The data arguments, as one text for messages."""
        return join_arguments(self.arguments)

    @property
    def n_faults(self) -> int:
        """The number of all faults."""
        return len(self.faults) + sum(shard.n_faults for shard in self.shards)

    @property
    def statistics(self) -> list[RowStatistics]:
        """The statistics of each shard that is not refused as a whole."""
        return [shard.statistics for shard in self.shards if shard.statistics]

    @property
    def n_rows(self) -> int:
        """The number of rows of all shards that can be read."""
        return sum(shard.n_rows for shard in self.shards)

    @property
    def n_broken(self) -> int:
        """The number of rows with faults."""
        return sum(len(shard.broken) for shard in self.shards)

    def first_faults(self, limit: int) -> list[DataError]:
        """The first faults, in the order of the shards."""
        all_faults = (fault for shard in self.shards for fault in shard.faults)
        return list(islice((*all_faults, *self.faults), limit))

    def class_counts(self) -> dict[str, int]:
        """Count the rows without faults of each class or label, in the order of the schema."""
        counts: Counter[str] = Counter()
        for rows in self.statistics:
            row_counts = np.bincount(rows.codes, minlength=len(rows.classes)).tolist()
            for names, n_rows in zip(rows.classes, row_counts, strict=True):
                counts.update(dict.fromkeys(names, n_rows))
        in_order = self.schema.classes if self.schema else ()
        return {name: counts.pop(name, 0) for name in in_order} | counts

    def ignored_columns(self) -> list[str]:
        """Names of columns that are neither labels nor values."""
        roles = self.schema.roles if self.schema else BY_FIRST_LETTER
        return roles.ignored(shard.header for shard in self.shards)

    def lengths(self) -> dict[str, int] | None:
        """Shortest, median and longest length of the series, and missing values before their ends.

        None unless values may be missing.
        """
        lengths: Counter[int] = Counter()
        for rows in self.statistics:
            lengths.update(rows.lengths)
        if not lengths:
            return None
        distinct = sorted(lengths)
        n_up_to = np.cumsum([lengths[length] for length in distinct])
        median = distinct[int(np.searchsorted(n_up_to, (n_up_to[-1] + 1) // 2))]
        missing = sum(rows.n_missing for rows in self.statistics)
        return {"least": distinct[0], "median": median, "most": distinct[-1], "missing": missing}


def scan_shards(
    data: Data,
    headers: list[Header],
    schema: SeriesSchema | None,
    task: TaskName,
    limit: int,
    roles: Roles = BY_FIRST_LETTER,
) -> DataScan:
    """Read every row of all shards.

    Args:
        headers: the headers of the shards, from `read_headers`.
        schema: the schema that the shards must have; None if no header makes one.
        limit: how many faults of each shard to describe.
    """
    if schema is None:
        return DataScan(data, None, [_refuse_header(header, task, roles) for header in headers], [])
    scan_shard = partial(_scan_shard, schema=schema, limit=limit)
    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as threads:
        return DataScan(data, schema, list(threads.map(scan_shard, headers)), [])


def name_classes(scan: DataScan) -> None:
    """Add the classes of the rows to the schema of training data.

    Missing classes and too few rows are faults only if there are no others, because rows with
    faults do not count for a class.
    """
    schema = scan.schema
    if schema is None:
        return
    counts = scan.class_counts()
    faults = []
    try:
        if not schema.classes:
            scan.schema = schema = schema.with_classes(list(counts), scan.data)
        raise_first(schema.absent_class_faults(counts, scan.data))
        refuse_few_rows(scan.n_rows - scan.n_broken, 1, scan.data)
    except DataError as fault:
        faults = [fault]
    if not scan.n_faults:
        scan.faults = faults


def _refuse_header(header: Header, task: TaskName, roles: Roles) -> ShardFindings:
    """Refuse a shard whose header cannot be read, or makes no schema."""
    fault = header.fault
    if fault is None:
        try:
            SeriesSchema.from_header(header.columns, task, header.shard.path, roles=roles)
        except DataError as error:
            fault = error
    return _refuse_shard(header, [fault] if fault else [])


def _scan_shard(header: Header, schema: SeriesSchema, limit: int) -> ShardFindings:
    if header.fault:
        return _refuse_shard(header, [header.fault])
    if faults := list(schema.header_faults(header.columns, header.shard.path, labels=True)):
        return _refuse_shard(header, faults)
    try:
        return _scan_rows(header, schema, limit)
    except UnparsedError as unparsed:
        return _scan_rows(header, schema, limit, unparsed.error)


def _refuse_shard(header: Header, faults: list[DataError]) -> ShardFindings:
    return ShardFindings(header.shard, header.columns, None, faults, len(faults))


def _scan_rows(
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
                broken.append(rows + 1 + np.flatnonzero(~part.intact))
                n_faults += part.n_faults
            rows += len(part.values)
    except DataError as fault:
        return _refuse_shard(header, [fault, *faults])._replace(n_faults=n_faults + 1)
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
