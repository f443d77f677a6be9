"""Series from Python: tables matched by column name, series of different lengths, axes.

Shapes: N rows, C channels of T timepoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstmfcn.console import pluralize
from lstmfcn.data.columns import abbreviate
from lstmfcn.errors import DataError

Numbers = npt.NDArray[np.float64]


def order_columns(values: Any, names: Sequence[Sequence[str]]) -> Any:
    """Select the value columns of a table by name; anything but a table is returned as it is.

    A table is a pandas or polars DataFrame or a pyarrow Table. A table with numbered columns, as
    pandas numbers columns without names, counts as an array.

    Args:
        names: lists of value columns, in the order of the model; the first list is used of which
            the table has all columns.

    Raises:
        DataError: the table does not have all columns of any list, or has further value columns.
    """
    columns = _column_names(values)
    if columns is None:
        return values
    present = set(columns)
    for model_columns in names:
        if present.issuperset(model_columns):
            _refuse_further_values(columns, model_columns)
            selected = list(model_columns)
            table = values.select(selected).to_pandas() if _is_arrow(values) else values
            return table[selected]
    closest = max(names, key=lambda model_columns: len(present.intersection(model_columns)))
    missing = [name for name in closest if name not in present]
    raise DataError(
        f"a table without {pluralize(len(missing), 'value column')} of the model, "
        f"{abbreviate(missing)}",
        "use the model's column names, or pass an array with the values in the model's order",
    )


def _refuse_further_values(columns: Sequence[Any], model_columns: Sequence[str]) -> None:
    """Refuse further value columns, because the series would be cut."""
    if not all(name.startswith("x") for name in model_columns):
        return
    expected = set(model_columns)
    further = [name for name in columns if str(name).startswith("x") and name not in expected]
    if further:
        raise DataError(
            f"a table with {pluralize(len(further), 'value column')} that the model does not have, "
            f"{abbreviate(further)}",
            "remove them, or pass an array with the values in the model's order",
        )


def _column_names(values: Any) -> list[Any] | None:
    """The column names of a table; None if it is not a table, or its columns have no names."""
    names = getattr(values, "column_names" if _is_arrow(values) else "columns", None)
    if names is None:
        return None
    columns = list(names)
    numbered = all(isinstance(name, int | np.integer) for name in columns)
    first = columns[0] if numbered and columns else 0
    return None if numbered and columns == [*range(first, first + len(columns))] else columns


def _is_arrow(values: Any) -> bool:
    return hasattr(values, "column_names")


def several_lengths(values: Any) -> str | None:
    """Describe the lengths of series in a list or a nested DataFrame; None if they are equal."""
    lengths = _lengths(values)
    return f"{min(lengths)} to {max(lengths)} timepoints" if len(lengths) > 1 else None


def to_array(values: Any, n_timepoints: int = 0) -> Any:
    """Make one array of series of different lengths, with nan after their ends.

    Args:
        values: a list of series, (t,) or (C, t), as in aeon, or a DataFrame with one series in each
            cell and one channel in each column, as in sktime.
        n_timepoints: the smallest T to fill up to.

    Returns:
        (N, T) or (N, C, T). Anything else, and a list of equally long series, is returned as it
        is.
    """
    lengths = _lengths(values)
    is_even = not lengths - {max([n_timepoints, *lengths])}
    if not lengths or (is_even and isinstance(values, list | tuple)):
        return values
    rows = _split_rows(values)
    return values if rows is None else _pad(rows, n_timepoints)


def _lengths(values: Any) -> set[int]:
    """The lengths of the series in a list or a nested DataFrame; empty for anything else."""
    lengths = set()
    for row in _to_lists(values):
        if isinstance(row, list | tuple) and any(map(_has_length, row)):
            lengths |= {len(part) for part in row if _has_length(part)}
        elif hasattr(row, "shape") and row.shape:
            lengths.add(row.shape[-1])
        elif _has_length(row):
            lengths.add(len(row))
    return lengths


def _has_length(part: Any) -> bool:
    """Whether this is a series of values, and not a text or a single value."""
    return hasattr(part, "__len__") and not isinstance(part, str) and getattr(part, "ndim", 1) > 0


def _to_lists(values: Any) -> Any:
    """The rows of a list or a nested DataFrame; empty for anything else."""
    if _is_nested(values):
        cells = (values[name] for name in values.columns)
        return [[np.atleast_1d(cell) for cell in row] for row in zip(*cells, strict=True)]
    is_objects = isinstance(values, np.ndarray) and values.dtype == object and values.ndim == 1
    return values if is_objects or isinstance(values, list | tuple) else []


def _split_rows(values: Any) -> list[Numbers] | None:
    """The series of a list or a nested DataFrame, all (t,) or all (C, t); None if not numbers."""
    try:
        rows = [_parse_row(row) for row in _to_lists(values)]
    except (TypeError, ValueError, OverflowError):
        return None
    leading = {row.shape[:-1] for row in rows}
    return rows if len(leading) == 1 and all(row.ndim in (1, 2) for row in rows) else None


def _parse_row(row: Any) -> Numbers:
    try:
        return np.asarray(row, dtype=np.float64)
    except ValueError:  # channels of different lengths
        return _pad([np.asarray(channel, dtype=np.float64) for channel in row])


def _pad(rows: Sequence[Numbers], n_timepoints: int = 0) -> Numbers:
    longest = max([n_timepoints, *(row.shape[-1] for row in rows)])
    padded = np.full((len(rows), *rows[0].shape[:-1], longest), np.nan)
    for target, row in zip(padded, rows, strict=True):
        target[..., : row.shape[-1]] = row
    return padded


def _is_nested(values: Any) -> bool:
    """Whether the cells of a table are series."""
    if not hasattr(values, "iloc") or values.ndim != 2 or 0 in values.shape:
        return False
    return hasattr(values.iloc[0, 0], "__len__") and not isinstance(values.iloc[0, 0], str)


def swapped_axes(n_channels: int, n_timepoints: int) -> str | None:
    """Describe an array (N, C, T) whose axes are probably (N, T, C); None if they look right."""
    if n_channels <= n_timepoints:
        return None
    return (
        f"{pluralize(n_channels, 'channel')} of {pluralize(n_timepoints, 'timepoint')}: the axes "
        "must be (N, channels, timepoints); if yours are (N, timepoints, channels), pass "
        "X.transpose(0, 2, 1)"
    )
