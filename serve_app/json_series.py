"""Series as JSON states them: lists of numbers, or, of several channels, lists of such lists.

Where values may be missing they are null (or NaN, as Python writes it), and a series or channel may
end early.

Whoever may ask may send anything, so work is bounded before it is done: `refuse_overlong` counts
punctuation, and types are looked at before numpy sees a value, which pads texts to one length.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from lstmfcn.counts import number
from lstmfcn.errors import DataError
from lstmfcn.schema import SeriesSchema
from serve_app.request_errors import RequestError

_NUMBERS = {int, float}
_NOT_FINITE = r"-?(?:NaN|Infinity|[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)"
"""A number as JSON and Python's json module write it, which may be beyond 64 bits."""

MOST_TEXTS = 50_000
"""Quotes, and braces, of a long body: it holds numbers, and next to no texts and objects."""


def refuse_overlong(body: bytes, schema: SeriesSchema, max_rows: int) -> None:
    """Refuse what cannot be ``max_rows`` series at most, by counting marks, before it is parsed.

    Raises:
        RequestError: 413 for more lists or numbers than they need.
        DataError: for texts and objects among them.
    """
    lists = 2 + max_rows * (1 + schema.n_channels) + MOST_TEXTS
    fix = f"send at most {max_rows} series a request, each a list of {schema.n_values} numbers"
    for mark, most, kind in (
        (b"[", lists, "lists"),
        (b",", lists + max_rows * schema.n_values, "commas"),
    ):
        if (found := body.count(mark)) > most:
            raise RequestError(413, f"found {found} {kind}; {fix}")
    for mark, kind in ((b'"', "quotes"), (b"{", "objects")):
        if (found := body.count(mark)) > MOST_TEXTS:
            raise DataError(f"{found} {kind}", fix)


def loaded(text: bytes, schema: SeriesSchema, row: int | None = None) -> Any:
    """What JSON says. Numbers that 64 bits do not hold become texts, which are refused by place.

    Raises:
        DataError: it is no JSON.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        told, place = str(error), error.pos  # and not the error, which holds the text
    if b"NaN" in text or b"Infinity" in text:
        text = text.replace(b"NaN", b"null" if schema.missing == "mask" else b'"NaN"')
        text = text.replace(b"-Infinity", b"Infinity").replace(b"Infinity", b'"Infinity"')
    elif found := re.compile(_NOT_FINITE.encode()).match(text, place):
        text = b'%b"%b"%b' % (text[:place], found[0], text[found.end() :])
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise DataError(f"what is no JSON ({told})", "correct it", row=row) from error


def series_of(rows: list[Any], schema: SeriesSchema) -> npt.NDArray[np.float64]:
    """Numbers (N, V), nan where one is missing.

    Args:
        rows: the series, as JSON.
        schema: of the model.

    Raises:
        DataError: the first that is no series of the schema's.
    """
    if not rows:
        raise DataError("no rows", "send at least one series")
    found = np.empty((len(rows), schema.n_values))
    for i, series in enumerate(rows):
        if not _is_flat(series, schema):
            series = _flat_series(i + 1, series, schema)
        found[i] = series
    return found


def _is_flat(series: Any, schema: SeriesSchema) -> bool:
    """Whether it is a list of as many numbers as the schema has, and of nothing else."""
    whole = type(series) is list and len(series) == schema.n_values
    return whole and set(map(type, series)) <= _NUMBERS


def _flat_series(row: int, series: Any, schema: SeriesSchema) -> list[float]:
    """A series' values, all of them numbers, channel after channel."""
    n_channels, n_timepoints = schema.n_channels, schema.n_timepoints
    fix = f"send a list of {schema.n_values} numbers"
    if n_channels > 1:
        fix += f", or {n_channels} lists of {n_timepoints}"
    if not isinstance(series, list):
        raise DataError(f"{type(series).__name__} for a series", fix, row=row)
    if n_channels > 1 and list in set(map(type, series)):
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
    taken = _NUMBERS | {type(None)} if schema.missing == "mask" else _NUMBERS
    if set(map(type, series)) <= taken:
        return  # too large a number is refused as those of other bodies are
    for value, name in zip(series, schema.value_columns, strict=True):
        if type(value) not in taken:
            raise DataError(_told(value), "send a number there", row=row, column=name)


def _told(value: Any) -> str:
    """A value that is no number, in few words."""
    if not isinstance(value, str):
        return json.dumps(value) if len(repr(value)) < 40 else type(value).__name__
    if re.fullmatch(_NOT_FINITE, value) and not math.isfinite(float(value)):
        return f"{_shortened(value)}, which is no finite 32-bit number"
    return _shortened(json.dumps(value))


def _shortened(text: str) -> str:
    return text if len(text) < 40 else f"{text[:20]}... ({len(text)} characters)"
