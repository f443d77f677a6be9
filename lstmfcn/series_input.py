"""Series as Python has them: tables matched by name, series of several lengths, axes in order.

Shapes: N rows, C channels of T timepoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstmfcn.column_names import some_of
from lstmfcn.counts import number
from lstmfcn.errors import DataError

Numbers = npt.NDArray[np.float64]


def in_named_order(values: Any, names: Sequence[Sequence[str]]) -> Any:
    """A table's value columns, matched by name as those of a shard are; all else as it is.

    A table is a pandas or polars DataFrame, or a pyarrow Table. One whose columns are numbered in
    ascending order, as pandas numbers what has no names, counts as an array.

    Args:
        names: of the value columns, in the order of the model; the first that the table has all of.

    Raises:
        DataError: it has not all of any, or more values than these; names them.
    """
    columns = _column_names(values)
    if columns is None:
        return values
    there = set(columns)
    for wanted in names:
        if there.issuperset(wanted):
            _refuse_more(columns, wanted)
            table = values.select(list(wanted)).to_pandas() if _is_arrow(values) else values
            return table[list(wanted)]
    closest = max(names, key=lambda wanted: len(there.intersection(wanted)))
    missing = [name for name in closest if name not in there]
    raise DataError(
        f"a table without {number(len(missing), 'value column')} of the model, {some_of(missing)}",
        "name its columns as the model's, or give an array of the values in their order",
    )


def _refuse_more(columns: Sequence[Any], wanted: Sequence[str]) -> None:
    """Refuse further columns that are named as values are: the series would be cut."""
    if not all(name.startswith("x") for name in wanted):
        return
    known = set(wanted)
    more = [name for name in columns if str(name).startswith("x") and name not in known]
    if more:
        raise DataError(
            f"a table with {number(len(more), 'value column')} that the model has not, "
            f"{some_of(more)}",
            "leave them out, or give an array of the values in their order",
        )


def _column_names(values: Any) -> list[Any] | None:
    """None for what is no table, or a table without names."""
    names = getattr(values, "column_names" if _is_arrow(values) else "columns", None)
    if names is None:
        return None
    found = list(names)
    numbered = all(isinstance(name, int | np.integer) for name in found)
    first = found[0] if numbered and found else 0
    return None if numbered and found == [*range(first, first + len(found))] else found


def _is_arrow(values: Any) -> bool:
    return hasattr(values, "column_names")


def several_lengths(values: Any) -> str | None:
    """How many timepoints the series of a list or of a nested frame have, where these differ."""
    lengths = _lengths(values)
    return f"{min(lengths)} to {max(lengths)} timepoints" if len(lengths) > 1 else None


def as_array(values: Any, n_timepoints: int = 0) -> Any:
    """Series of several lengths as one array with nan after their ends; arrays as they are.

    Args:
        values: a list of series, (t,) or (C, t), as aeon has them, or a DataFrame with a series in
            each cell and a channel in each column, as sktime has them.
        n_timepoints: the least T to fill up to.

    Returns:
        (N, T) or (N, C, T); what is no such list, and a list that needs no filling, as it is.
    """
    lengths = _lengths(values)
    is_even = not lengths - {max([n_timepoints, *lengths])}
    if not lengths or (is_even and isinstance(values, list | tuple)):
        return values
    rows = _rows_of(values)
    return values if rows is None else _filled(rows, n_timepoints)


def _lengths(values: Any) -> set[int]:
    """Timepoints of the series of a list or of a nested frame; none of all else."""
    lengths = set()
    for row in _listed(values):
        if isinstance(row, list | tuple) and any(map(_has_length, row)):
            lengths |= {len(part) for part in row if _has_length(part)}
        elif hasattr(row, "shape") and row.shape:
            lengths.add(row.shape[-1])
        elif _has_length(row):
            lengths.add(len(row))
    return lengths


def _has_length(part: Any) -> bool:
    """Whether a series is several values, and no text or array of a single one."""
    return hasattr(part, "__len__") and not isinstance(part, str) and getattr(part, "ndim", 1) > 0


def _listed(values: Any) -> Any:
    """The rows of a list or of a nested frame; none of all else."""
    if _is_nested(values):
        cells = (values[name] for name in values.columns)
        return [[np.atleast_1d(cell) for cell in row] for row in zip(*cells, strict=True)]
    is_objects = isinstance(values, np.ndarray) and values.dtype == object and values.ndim == 1
    return values if is_objects or isinstance(values, list | tuple) else []


def _rows_of(values: Any) -> list[Numbers] | None:
    """The series of a list or of a nested frame, all (t,) or all (C, t); None of no numbers."""
    try:
        rows = [_row_of(row) for row in _listed(values)]
    except (TypeError, ValueError, OverflowError):
        return None
    leading = {row.shape[:-1] for row in rows}
    return rows if len(leading) == 1 and all(row.ndim in (1, 2) for row in rows) else None


def _row_of(row: Any) -> Numbers:
    try:
        return np.asarray(row, dtype=np.float64)
    except ValueError:  # channels of several lengths
        return _filled([np.asarray(channel, dtype=np.float64) for channel in row])


def _filled(rows: Sequence[Numbers], n_timepoints: int = 0) -> Numbers:
    longest = max([n_timepoints, *(row.shape[-1] for row in rows)])
    found = np.full((len(rows), *rows[0].shape[:-1], longest), np.nan)
    for filled, row in zip(found, rows, strict=True):
        filled[..., : row.shape[-1]] = row
    return found


def _is_nested(values: Any) -> bool:
    """Whether the cells of a table are series."""
    if not hasattr(values, "iloc") or values.ndim != 2 or 0 in values.shape:
        return False
    return hasattr(values.iloc[0, 0], "__len__") and not isinstance(values.iloc[0, 0], str)


def swapped_axes(n_channels: int, n_timepoints: int) -> str | None:
    """What to say of arrays (N, C, T) whose axes are likely (N, T, C); None where all is well."""
    if n_channels <= n_timepoints:
        return None
    return (
        f"{number(n_channels, 'channel')} of {number(n_timepoints, 'timepoint')}: the axes are "
        f"(N, channels, timepoints); if yours are (N, timepoints, channels), give "
        "X.transpose(0, 2, 1)"
    )
