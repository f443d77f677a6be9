"""Read long tables: CSV with one row for each value, with its series, time and class."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from lstmfcn.console import pluralize
from lstmfcn.convert.series import (
    ConvertRequest,
    ReadSeries,
    Series,
    Times,
    are_numbers,
    parse_times,
    read_lines,
)
from lstmfcn.data.columns import abbreviate
from lstmfcn.data.csv_parser import BLOCK_BYTES
from lstmfcn.data.dialect import ONE_MARK, find_separator, split
from lstmfcn.data.layout import plain_bytes
from lstmfcn.data.shards import Shard
from lstmfcn.data.table import class_name
from lstmfcn.errors import DataError

_ROLES = {
    "id": ("id", "case_id", "series", "series_id"),
    "time": ("time", "t", "timepoint", "timestamp", "reading_id"),
    "channel": ("channel", "dim", "dim_id", "dimension", "kind"),
    "value": ("value",),
    "label": ("label", "y", "class"),
}
"""The names of the columns of each role, in small letters; also those of sktime and tsfresh."""

Indices = npt.NDArray[np.int64]

logger = logging.getLogger(__name__)


class _Table(NamedTuple):
    """A long table by series, channel and time, which are numbered; its rows count from 1."""

    ids: Indices
    channels: Indices
    times: Times
    values: pa.Array
    labels: pa.Array | None
    rows: Indices


def read_long_table(shard: Shard, request: ConvertRequest) -> ReadSeries:
    """Read the series of a long table; any other table raises `DataError`."""
    numbered = enumerate(read_lines(shard), start=1)
    n_lines, header = next(((n, line) for n, line in numbered if line), (0, ""))
    separator = find_separator(header)
    names = [name.strip() for name in split(header, separator)]
    _refuse_numbers(names, shard.path)
    roles = _find_roles(names, request, shard.path)
    if unused := [name for name in names if name not in roles.values()]:
        logger.info("columns not used: %s", ", ".join(unused))
    table = _sort(_read(shard, names, separator, n_lines), roles, shard.path)
    if table.labels is not None:
        _refuse_other_classes(table, roles["label"], shard.path)
    return partial(_iterate, table)


def _refuse_numbers(names: list[str], file: str) -> None:
    if sum(are_numbers([name]) for name in names) >= max(1, len(names) - 1):
        raise DataError(
            f"no header ({abbreviate(names)})",
            "add --no-header, and --label first, last or none: where the class is in a row",
            file=file,
        )


def _find_roles(names: list[str], request: ConvertRequest, file: str) -> dict[str, str]:
    """Find the column of each role."""
    roles: dict[str, str] = {}
    for role, usual_names in _ROLES.items():
        columns = [name for name in names if name.lower() in usual_names]
        if len(columns) > 1:
            raise DataError(
                f"the columns {abbreviate(columns)}, which could all be the {role}",
                f"rename all but the {role}",
                file=file,
            )
        if columns:
            roles[role] = columns[0]
    if request.label == "none":
        roles.pop("label", None)
    needed = {"id", "time", "value"} | (set() if request.label == "none" else {"label"})
    if not needed <= roles.keys():
        raise DataError(
            f"the columns {abbreviate(names)}",
            "a long table has the columns id, time, value, label and optionally channel; "
            "lstmfcn train reads a table with one series per row directly",
            file=file,
        )
    return roles


def _read(shard: Shard, names: list[str], separator: str, n_lines: int) -> pa.Table:
    """Read all columns as text; the header is the last of the first ``n_lines`` lines."""
    ragged: list[pa.csv.InvalidRow] = []

    def collect(row: pa.csv.InvalidRow) -> str:
        ragged.append(row)
        return "skip"

    with plain_bytes(shard.filesystem, shard.path) as (stream, _):
        table = pa.csv.read_csv(
            stream,
            read_options=pa.csv.ReadOptions(
                use_threads=False, block_size=BLOCK_BYTES, skip_rows=n_lines, column_names=names
            ),
            parse_options=pa.csv.ParseOptions(delimiter=separator, invalid_row_handler=collect),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), null_values=[]
            ),
        )
    if ragged:
        raise DataError(
            pluralize(ragged[0].actual_columns, "cell"),
            f"the header has {pluralize(len(names), 'column')}: write one cell for each",
            file=shard.path,
            row=ragged[0].number - 1,
        )
    return table


def _sort(table: pa.Table, roles: dict[str, str], file: str) -> _Table:
    columns = {
        role: pc.utf8_trim_whitespace(table[name]).combine_chunks() for role, name in roles.items()
    }
    for role in ("id", "time", "channel"):
        if role in columns:
            _refuse_empty(columns[role], roles[role], file)
    ids = _codes(columns["id"])
    channels = _codes(columns["channel"]) if "channel" in columns else np.zeros_like(ids)
    times = parse_times(_with_points(columns["time"], roles["time"], file).to_pylist(), file)
    order = np.lexsort((times, channels, ids))
    labels = columns.get("label")
    return _Table(
        ids[order],
        channels[order],
        times[order],
        _with_points(columns["value"], roles["value"], file).take(order),
        None if labels is None else labels.take(order),
        order + 1,
    )


def _codes(texts: pa.Array) -> Indices:
    """Number the texts by first appearance."""
    return np.asarray(texts.dictionary_encode().indices.to_numpy(), dtype=np.int64)


def _refuse_empty(texts: pa.Array, column: str, file: str) -> None:
    empty = pc.index(texts, "").as_py()
    if empty >= 0:
        raise DataError(
            "an empty cell", "fill it or remove the row", file=file, row=empty + 1, column=column
        )


def _with_points(values: pa.Array, column: str, file: str) -> pa.Array:
    """Replace decimal commas by points, if there are any; refuse a mixture."""
    has_comma = pc.match_substring(values, ",")
    if not pc.any(has_comma).as_py():
        return values
    row = pc.index(pc.match_substring(values, "."), True).as_py()
    if row >= 0:
        raise DataError(
            f"{values[row].as_py()!r} in a file with decimal commas",
            ONE_MARK,
            file=file,
            row=row + 1,
            column=column,
        )
    return pc.replace_substring(values, ",", ".")


def _refuse_other_classes(table: _Table, column: str, file: str) -> None:
    """Refuse a series with rows of different classes."""
    assert table.labels is not None
    codes = _codes(pa.array(map(class_name, table.labels.to_pylist())))
    starts = np.flatnonzero(np.diff(table.ids, prepend=-1))
    first = starts[np.cumsum(np.diff(table.ids, prepend=-1) != 0) - 1]
    other = np.flatnonzero(codes != codes[first])
    if len(other):
        row, first_row = int(other[0]), int(first[other[0]])
        raise DataError(
            f"the class {table.labels[row].as_py()!r}, and {table.labels[first_row].as_py()!r} in "
            f"row {table.rows[first_row]} of the same series",
            "write the same class in all rows of a series",
            file=file,
            row=int(table.rows[row]),
            column=column,
        )


def _iterate(table: _Table) -> Iterator[Series]:
    """The series, in the order of first appearance, and so their channels."""
    for rows in _runs(table.ids):
        channels = [
            slice(rows.start + run.start, rows.start + run.stop)
            for run in _runs(table.channels[rows])
        ]
        yield Series(
            int(table.rows[rows].min()),
            None if table.labels is None else table.labels[rows.start].as_py(),
            [table.values[channel].to_pylist() for channel in channels],
            [table.times[channel] for channel in channels],
            [table.rows[channel] for channel in channels],
        )


def _runs(codes: Indices) -> Iterator[slice]:
    """The slices of equal neighbours."""
    bounds = [*np.flatnonzero(np.diff(codes, prepend=-1)).tolist(), len(codes)]
    yield from (slice(start, stop) for start, stop in pairwise(bounds))
