"""Columns of a shard that are carried over into its predictions, as text."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from lstmfcn.cells import class_name
from lstmfcn.schema import SeriesSchema


def kept_names(schema: SeriesSchema, keep: Sequence[str]) -> list[str]:
    """What the columns are called in a prediction file: true labels stand beside predicted ones."""
    return [f"{name}_true" if name in schema.label_columns else name for name in keep]


def kept_texts(schema: SeriesSchema, table: pa.Table, keep: Sequence[str]) -> list[list[str]]:
    """The cells of these columns as text, a list for each.

    Labels that are numbers are written as classes are (``1`` for 1.0); all else as `texts_of` does.
    """
    texts = [texts_of(table[name]) for name in keep]
    return [
        list(map(class_name, cells)) if name in schema.label_columns else cells
        for name, cells in zip(keep, texts, strict=True)
    ]


def texts_of(column: pa.ChunkedArray) -> list[str]:
    """Cells of any type as pandas writes them to CSV, each by itself; nothing for a missing one.

    Unlike pandas, a timestamp at midnight keeps its time whatever the others are, and bytes that
    are UTF-8 are text.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_floating(kind):  # a float32 has fewer digits than as Python's number
        numbers = column.to_numpy()
        return ["" if np.isnan(number) else str(number) for number in numbers]
    try:
        return list(map(_text, column.to_pylist()))
    except (OverflowError, ValueError):  # a date that Python's calendar does not reach
        return column.cast(pa.string()).fill_null("").to_pylist()  # type: ignore[no-any-return]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return str(value)
    if isinstance(value, datetime.timedelta):
        import pandas as pd  # takes half a second

        return str(pd.Timedelta(value))
    return str(value)
