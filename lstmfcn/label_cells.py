"""Cells of labels: class names, and 0 and 1 as numbers, and what is wrong with one.

Shapes: N rows, L label columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lstmfcn.cells import FloatArray, Source
from lstmfcn.column_names import some_of
from lstmfcn.errors import DataError

_FIX = "write 0 or 1 there"


def rows_of(names: Sequence[str], is_wanted: Callable[[str], bool]) -> Iterator[tuple[int, str]]:
    """Rows, counted from 0, with a class name of some kind; each name is looked at once."""
    wanted = {name for name in set(names) if is_wanted(name)}
    if wanted:
        yield from ((row, name) for row, name in enumerate(names) if name in wanted)


def label_matrix(table: pa.Table, columns: Sequence[str]) -> FloatArray:
    """Label columns, text or numbers, as float32 (N, L); nan for what is no number.

    ``True`` and ``False``, as pandas writes them, are 1 and 0, in any letters.
    """
    found = np.empty((table.num_rows, len(columns)), dtype=np.float32)
    for i, name in enumerate(columns):
        found[:, i] = _numbers(table[name].combine_chunks())
    return found


def _numbers(cells: pa.Array) -> FloatArray:
    if not pa.types.is_string(cells.type):
        numbers: FloatArray = cells.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)
        return numbers
    distinct = cells.dictionary_encode()
    values = [_number(text) for text in distinct.dictionary.to_pylist()]
    codes = distinct.indices.fill_null(len(values)).to_numpy(zero_copy_only=False)
    named: FloatArray = np.array([*values, np.nan], dtype=np.float32)[codes]
    return named


def _number(text: str) -> float:
    text = {"true": "1", "false": "0"}.get(text.strip().lower(), text.strip(" \t"))
    try:
        return float(pc.cast(pa.scalar(text), pa.float32()).as_py())
    except pa.ArrowInvalid:
        return float("nan")


def cell_faults(
    matrix: FloatArray, table: pa.Table, columns: Sequence[str], source: Source
) -> Iterator[DataError]:
    """Cells of a `label_matrix` that are neither 0 nor 1: first what is no number."""
    finite = np.isfinite(matrix)
    for refused in (~finite, finite & (matrix != 0) & (matrix != 1)):
        for row, i in np.argwhere(refused).tolist():
            cell = table[columns[i]][row].as_py()
            yield DataError(
                _found(cell, matrix[row, i]),
                _FIX,
                file=source.file,
                row=source.rows_before + row + 1,
                column=columns[i],
            )


def _found(cell: object, number: np.float32) -> str:
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return "an empty cell"
    return repr(cell) if isinstance(cell, str) and np.isnan(number) else f"{number:g}"


def not_one_hot(matrix: FloatArray, columns: Sequence[str], source: Source) -> Iterator[DataError]:
    """Rows of a `label_matrix` without a single 1, among those whose cells are all 0 or 1."""
    whole: npt.NDArray[np.bool_] = ((matrix == 0) | (matrix == 1)).all(axis=1)
    ones = (matrix == 1).sum(axis=1)
    for row in np.flatnonzero(whole & (ones != 1)).tolist():
        chosen = [name for name, value in zip(columns, matrix[row], strict=True) if value]
        yield DataError(
            f"{len(chosen)} classes ({some_of(chosen)})" if chosen else "no class",
            "put a single 1 in the row, or use --task multilabel",
            file=source.file,
            row=source.rows_before + row + 1,
            column=f"{columns[0]} to {columns[-1]}",
        )
