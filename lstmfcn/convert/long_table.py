"""Long tables: a CSV row for each value, with the series, the time and the class it belongs to."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from lstmfcn.cells import class_name
from lstmfcn.column_names import some_of
from lstmfcn.convert.series import Rereadable, Series, Wanted, are_numbers, lines_of
from lstmfcn.convert.times import Times, times_of
from lstmfcn.counts import number
from lstmfcn.dialect import ONE_MARK, separator_of, split
from lstmfcn.errors import DataError
from lstmfcn.layout import plain_bytes
from lstmfcn.reading import BLOCK_BYTES
from lstmfcn.shards import Shard

_ROLES = {
    "id": ("id", "case_id", "series", "series_id"),
    "time": ("time", "t", "timepoint", "timestamp", "reading_id"),
    "channel": ("channel", "dim", "dim_id", "dimension", "kind"),
    "value": ("value",),
    "label": ("label", "y", "class"),
}
"""What a column holds, by its name, in small letters; sktime's and tsfresh's among them."""

Indices = npt.NDArray[np.int64]

logger = logging.getLogger(__name__)


class _Table(NamedTuple):
    """A long table, sorted by series, channel and time.

    Attributes:
        ids: of each row, as index by first appearance; ``channels`` too.
        rows: where each stands in the file, counted from 1.
        labels: as text; None where none are wanted.
    """

    ids: Indices
    channels: Indices
    times: Times
    values: pa.Array
    labels: pa.Array | None
    rows: Indices


def read_long_table(shard: Shard, wanted: Wanted) -> Rereadable:
    """The series of a long table.

    Raises:
        DataError: no long table, or one in which a row cannot be read.
    """
    numbered = enumerate(lines_of(shard), start=1)
    n_lines, header = next(((n, line) for n, line in numbered if line), (0, ""))
    separator = separator_of(header)
    names = [name.strip() for name in split(header, separator)]
    _refuse_numbers(names, shard.path)
    roles = _roles(names, wanted, shard.path)
    if unused := [name for name in names if name not in roles.values()]:
        logger.info("columns not used: %s", ", ".join(unused))
    table = _sorted(_read(shard, names, separator, n_lines), roles, shard.path)
    if table.labels is not None:
        _refuse_other_classes(table, roles["label"], shard.path)
    return Rereadable(lambda: _series(table))


def _refuse_numbers(names: list[str], file: str) -> None:
    if sum(are_numbers([name]) for name in names) >= max(1, len(names) - 1):
        raise DataError(
            f"no header ({some_of(names)})",
            "add --no-header, and --label first, last or none: where the class of a row stands",
            file=file,
        )


def _roles(names: list[str], wanted: Wanted, file: str) -> dict[str, str]:
    """The column of each role."""
    roles: dict[str, str] = {}
    for role, known in _ROLES.items():
        found = [name for name in names if name.lower() in known]
        if len(found) > 1:
            raise DataError(
                f"the columns {some_of(found)}, each of which may be the {role}",
                f"rename all but the {role}",
                file=file,
            )
        roles |= dict.fromkeys([role] if found else [], *found)
    if wanted.label == "none":
        roles.pop("label", None)
    needed = {"id", "time", "value"} | (set() if wanted.label == "none" else {"label"})
    if not needed <= roles.keys():
        raise DataError(
            f"the columns {some_of(names)}",
            "a long table has the columns id, time, value and label, and may have channel; "
            "lstmfcn train reads a table of a row a series as it is",
            file=file,
        )
    return roles


def _read(shard: Shard, names: list[str], separator: str, n_lines: int) -> pa.Table:
    """All columns as text, below so many lines, the last of which is the header."""
    ragged: list[pa.csv.InvalidRow] = []

    def keep(row: pa.csv.InvalidRow) -> str:
        ragged.append(row)
        return "skip"

    with plain_bytes(shard.filesystem, shard.path) as (stream, _):
        table = pa.csv.read_csv(
            stream,
            read_options=pa.csv.ReadOptions(
                use_threads=False, block_size=BLOCK_BYTES, skip_rows=n_lines, column_names=names
            ),
            parse_options=pa.csv.ParseOptions(delimiter=separator, invalid_row_handler=keep),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), null_values=[]
            ),
        )
    if ragged:
        raise DataError(
            number(ragged[0].actual_columns, "cell"),
            f"the header has {number(len(names), 'column')}: give the row as many",
            file=shard.path,
            row=ragged[0].number - 1,
        )
    return table


def _sorted(table: pa.Table, roles: dict[str, str], file: str) -> _Table:
    columns = {
        role: pc.utf8_trim_whitespace(table[name]).combine_chunks() for role, name in roles.items()
    }
    for role in ("id", "time", "channel"):
        if role in columns:
            _refuse_empty(columns[role], roles[role], file)
    ids = _codes(columns["id"])
    channels = _codes(columns["channel"]) if "channel" in columns else np.zeros_like(ids)
    times = times_of(_with_points(columns["time"], roles["time"], file).to_pylist(), file)
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
    """Each text as index by first appearance."""
    return np.asarray(texts.dictionary_encode().indices.to_numpy(), dtype=np.int64)


def _refuse_empty(texts: pa.Array, column: str, file: str) -> None:
    empty = pc.index(texts, "").as_py()
    if empty >= 0:
        raise DataError(
            "an empty cell", "fill it or leave the row out", file=file, row=empty + 1, column=column
        )


def _with_points(values: pa.Array, column: str, file: str) -> pa.Array:
    """Values with decimal points, where there are only decimal commas."""
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
    """Refuse a row of a class that the first row of its series does not have."""
    assert table.labels is not None
    codes = _codes(pa.array(map(class_name, table.labels.to_pylist())))
    starts = np.flatnonzero(np.diff(table.ids, prepend=-1))
    first = starts[np.cumsum(np.diff(table.ids, prepend=-1) != 0) - 1]
    other = np.flatnonzero(codes != codes[first])
    if len(other):
        here, there = int(other[0]), int(first[other[0]])
        raise DataError(
            f"the class {table.labels[here].as_py()!r}, and {table.labels[there].as_py()!r} in row "
            f"{table.rows[there]} of the same series",
            "write one class in all rows of a series",
            file=file,
            row=int(table.rows[here]),
            column=column,
        )


def _series(table: _Table) -> Iterator[Series]:
    """Each series, by first appearance, with its channels, by first appearance in the file."""
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
    """Where equal codes stand beside each other."""
    bounds = [*np.flatnonzero(np.diff(codes, prepend=-1)).tolist(), len(codes)]
    yield from (slice(start, stop) for start, stop in pairwise(bounds))
