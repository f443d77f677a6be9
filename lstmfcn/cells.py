"""Cells of a table as numbers and as class names, and what is wrong with one.

Shapes: N rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lstmfcn.errors import DataError

Array = npt.NDArray[np.generic]
FloatArray = npt.NDArray[np.float32]


class Source(NamedTuple):
    """Where a table comes from, for messages: its file and how many rows stand before it."""

    file: str | None = None
    rows_before: int = 0


class Place(NamedTuple):
    """A row of a file: the file's path or name, and the row, counted from 1 below the header."""

    file: str
    row: int

    def __str__(self) -> str:
        return f"{self.file}, row {self.row}"


def matrix_of(table: pa.Table, columns: Sequence[str]) -> FloatArray:
    """The columns as one float32 matrix (N, len(columns)); nan for empty cells."""
    chosen = table.select(list(columns))
    if any(kind != pa.float32() for kind in chosen.schema.types):
        chosen = chosen.cast(pa.schema([(name, pa.float32()) for name in columns]), safe=False)
    batches = chosen.combine_chunks().to_batches()
    if not batches:
        return np.empty((0, len(columns)), dtype=np.float32)
    matrix: FloatArray = batches[0].to_tensor(null_to_nan=True).to_numpy()
    return matrix


def cell_faults(
    refused: npt.NDArray[np.bool_],
    table: pa.Table,
    columns: Sequence[str],
    source: Source,
    fix: str,
    fix_of_empty: str = "",
) -> Iterator[DataError]:
    """What to say of refused cells, by row.

    Args:
        refused: which cells, (N, len(columns)).
        fix: what to do about one.
        fix_of_empty: what else helps an empty cell.
    """
    for row in np.flatnonzero(refused.any(axis=1)).tolist():
        for i in np.flatnonzero(refused[row]).tolist():
            value = table[columns[i]][row].as_py()
            empty = value is None
            yield DataError(
                "an empty cell" if empty else f"{value}, which is no finite 32-bit number",
                fix + (fix_of_empty if empty else ""),
                file=source.file,
                row=source.rows_before + row + 1,
                column=columns[i],
            )


def class_name(value: object) -> str:
    """A label as its class name: one written 1.0 in one shard and 1 in another is one class."""
    return "" if value is None else re.sub(r"^(-?\d+)\.0+$", r"\1", str(value).strip())


def class_order(name: str) -> tuple[bool, float, str]:
    """Numbers first, by value; then text, "nan" and "inf" among it, by the alphabet."""
    try:
        number = float(name)
    except ValueError:
        number = np.nan
    finite = bool(np.isfinite(number))
    return not finite, number if finite else 0.0, name
