"""Read series from JSON: lists of numbers; with several channels, lists of one list per channel.

If values may be missing, they are null (or NaN, as Python writes it), and a series or a channel may
end early.

A client may send anything, so the work is limited before it is done: `refuse_overlong` counts
punctuation, and types are checked before numpy sees a value, because numpy pads texts to one
length.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from lstmfcn.console import pluralize
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.errors import DataError
from serve_app.errors import RequestError

_NUMBER_TYPES = {int, float}
_NUMBER = r"-?(?:NaN|Infinity|[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)"
"""A number as JSON and Python's json module write it, perhaps too large for 64 bits."""

MAX_TEXTS = 50_000
"""The most quotes, and the most braces, in a long body: it holds numbers."""


def refuse_overlong(body: bytes, schema: SeriesSchema, max_rows: int) -> None:
    """Refuse a body that must hold more than ``max_rows`` series, by counting its punctuation.

    Raises:
        RequestError: 413 for more lists or numbers than the series need.
        DataError: it holds many texts or objects.
    """
    max_lists = 2 + max_rows * (1 + schema.n_channels) + MAX_TEXTS
    fix = f"send at most {max_rows} series per request, each a list of {schema.n_values} numbers"
    for mark, limit, kind in (
        (b"[", max_lists, "lists"),
        (b",", max_lists + max_rows * schema.n_values, "commas"),
    ):
        if (count := body.count(mark)) > limit:
            raise RequestError(413, f"found {count} {kind}; {fix}")
    for mark, kind in ((b'"', "quotes"), (b"{", "objects")):
        if (count := body.count(mark)) > MAX_TEXTS:
            raise DataError(f"{count} {kind}", fix)


def parse_json(text: bytes, schema: SeriesSchema, row: int | None = None) -> Any:
    """Parse JSON. Numbers too large for 64 bits become texts, which are refused with their place.

    Raises:
        DataError: the text is not JSON.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        message, place = str(error), error.pos  # not the error itself, which holds the text
    if b"NaN" in text or b"Infinity" in text:
        text = text.replace(b"NaN", b"null" if schema.missing == "mask" else b'"NaN"')
        text = text.replace(b"-Infinity", b"Infinity").replace(b"Infinity", b'"Infinity"')
    elif number := re.compile(_NUMBER.encode()).match(text, place):
        text = b'%b"%b"%b' % (text[:place], number[0], text[number.end() :])
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise DataError(f"invalid JSON ({message})", "correct it", row=row) from error


def parse_json_series(rows: list[Any], schema: SeriesSchema) -> npt.NDArray[np.float64]:
    """Put series into numbers (N, V), nan for missing ones; `DataError` names a bad row."""
    if not rows:
        raise DataError("no rows", "send at least one series")
    values = np.empty((len(rows), schema.n_values))
    for i, series in enumerate(rows):
        if not _is_flat(series, schema):
            series = _flatten(i + 1, series, schema)
        values[i] = series
    return values


def _is_flat(series: Any, schema: SeriesSchema) -> bool:
    """Whether a series is a list of numbers only, as many as the schema has."""
    is_list = type(series) is list and len(series) == schema.n_values
    return is_list and set(map(type, series)) <= _NUMBER_TYPES


def _flatten(row: int, series: Any, schema: SeriesSchema) -> list[float]:
    """The values of a series, channel after channel, after a check that they are numbers."""
    n_channels, n_timepoints = schema.n_channels, schema.n_timepoints
    fix = f"send a list of {schema.n_values} numbers"
    if n_channels > 1:
        fix += f", or {n_channels} lists of {n_timepoints}"
    if not isinstance(series, list):
        raise DataError(f"{type(series).__name__} for a series", fix, row=row)
    if n_channels > 1 and list in set(map(type, series)):
        series = _join_channels(row, series, schema, fix)
    elif n_channels == 1:
        series = _pad(series, schema)
    if len(series) != schema.n_values:
        raise DataError(f"a series of {pluralize(len(series), 'value')}", fix, row=row)
    _refuse_other_types(row, series, schema)
    values: list[float] = series
    return values


def _pad(values: Any, schema: SeriesSchema) -> Any:
    """Add nulls to the end of a channel, if values may be missing."""
    if schema.missing == "refuse" or not isinstance(values, list) or not values:
        return values
    return values + [None] * (schema.n_timepoints - len(values))


def _join_channels(row: int, channels: list[Any], schema: SeriesSchema, fix: str) -> list[Any]:
    """The values of all channels of a series, in one list."""
    if len(channels) != schema.n_channels:
        raise DataError(f"a series of {pluralize(len(channels), 'channel')}", fix, row=row)
    n_timepoints, names = schema.n_timepoints, schema.value_columns
    channels = [_pad(values, schema) for values in channels]
    for i, values in enumerate(channels):
        if not isinstance(values, list) or len(values) != n_timepoints:
            size = (
                pluralize(len(values), "value")
                if isinstance(values, list)
                else type(values).__name__
            )
            first, last = names[i * n_timepoints], names[(i + 1) * n_timepoints - 1]
            raise DataError(f"{size} for a channel", fix, row=row, column=f"{first} to {last}")
    return [value for values in channels for value in values]


def _refuse_other_types(row: int, series: list[Any], schema: SeriesSchema) -> None:
    allowed = _NUMBER_TYPES | {type(None)} if schema.missing == "mask" else _NUMBER_TYPES
    if set(map(type, series)) <= allowed:
        return  # numbers that are too large are refused later, as those of CSV are
    for value, name in zip(series, schema.value_columns, strict=True):
        if type(value) not in allowed:
            raise DataError(_describe(value), "send a number there", row=row, column=name)


def _describe(value: Any) -> str:
    """A value that is not a number, in a few words."""
    if not isinstance(value, str):
        return json.dumps(value) if len(repr(value)) < 40 else type(value).__name__
    if re.fullmatch(_NUMBER, value) and not math.isfinite(float(value)):
        return f"{_shorten(value)}, which is not a finite 32-bit number"
    return _shorten(json.dumps(value))


def _shorten(text: str) -> str:
    return text if len(text) < 40 else f"{text[:20]}... ({len(text)} characters)"
