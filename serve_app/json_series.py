"""Series as JSON states them: lists of numbers, or, of several channels, lists of such lists.

Where values may be missing they are null, and a series or channel may end early.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from lstmfcn.counts import number
from lstmfcn.errors import DataError
from lstmfcn.schema import SeriesSchema

_LARGEST = float(np.finfo(np.float32).max)


def series_of(rows: list[Any], text: str, schema: SeriesSchema) -> npt.NDArray[Any]:
    """Numbers (N, V), nan where one is missing.

    Args:
        rows: the series, as JSON.
        text: that they were read from.

    Raises:
        DataError: the first that is no series of the schema's.
    """
    if not rows:
        raise DataError("no rows", "send at least one series")
    if not ("true" in text or "false" in text):  # which would pass for 1 and 0
        try:
            found: npt.NDArray[Any] = np.array(rows)
        except ValueError:
            found = np.array(None)
        if found.dtype.kind in "fiu" and found.shape[1:] in _shapes(schema):
            return found.reshape(len(rows), schema.n_values)
    flat = [_flat_series(row, series, schema) for row, series in enumerate(rows, start=1)]
    return np.array(flat, dtype=np.float64)


def _shapes(schema: SeriesSchema) -> list[tuple[int, ...]]:
    """Those that a series may have."""
    nested = [(schema.n_channels, schema.n_timepoints)] if schema.n_channels > 1 else []
    return [(schema.n_values,), *nested]


def _flat_series(row: int, series: Any, schema: SeriesSchema) -> list[float]:
    """A series' values, all of them numbers, channel after channel."""
    n_channels, n_timepoints = schema.n_channels, schema.n_timepoints
    fix = f"send a list of {schema.n_values} numbers"
    if n_channels > 1:
        fix += f", or {n_channels} lists of {n_timepoints}"
    if not isinstance(series, list):
        raise DataError(f"{type(series).__name__} for a series", fix, row=row)
    if n_channels > 1 and any(isinstance(values, list) for values in series):
        series = _joined(row, series, schema, fix)
    elif n_channels == 1:
        series = _padded(series, schema)
    if len(series) != schema.n_values:
        raise DataError(f"a series of {number(len(series), 'value')}", fix, row=row)
    _refuse_no_numbers(row, series, schema)
    found: list[float] = series
    return found


def _padded(values: Any, schema: SeriesSchema) -> Any:
    """A channel's values, with nulls after its end where values may be missing."""
    if schema.missing == "refuse" or not isinstance(values, list) or not values:
        return values
    return values + [None] * (schema.n_timepoints - len(values))


def _joined(row: int, channels: list[Any], schema: SeriesSchema, fix: str) -> list[Any]:
    """The values of all channels of a series."""
    if len(channels) != schema.n_channels:
        raise DataError(f"a series of {number(len(channels), 'channel')}", fix, row=row)
    n_timepoints, names = schema.n_timepoints, schema.value_columns
    channels = [_padded(values, schema) for values in channels]
    for i, values in enumerate(channels):
        if not isinstance(values, list) or len(values) != n_timepoints:
            size = (
                number(len(values), "value") if isinstance(values, list) else type(values).__name__
            )
            first, last = names[i * n_timepoints], names[(i + 1) * n_timepoints - 1]
            raise DataError(f"{size} for a channel", fix, row=row, column=f"{first} to {last}")
    return [value for values in channels for value in values]


def _refuse_no_numbers(row: int, series: list[Any], schema: SeriesSchema) -> None:
    for value, name in zip(series, schema.value_columns, strict=True):
        if value is None and schema.missing == "mask":
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or abs(value) > _LARGEST:
            found = json.dumps(value) if len(repr(value)) < 40 else type(value).__name__
            raise DataError(found, "send a number there", row=row, column=name)
