"""CSV line by line, to name what pyarrow's parser stumbles over."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa

from lstmfcn.cells import Source
from lstmfcn.errors import DataError, raise_first
from lstmfcn.schema import SeriesSchema
from lstmfcn.shards import Shard


@contextmanager
def lines_of(shard: Shard) -> Iterator[Iterator[list[str]]]:
    """The cells of each line of a CSV shard, the header first; none for empty lines."""
    with shard.open() as stream, io.TextIOWrapper(stream, "utf-8-sig") as text:
        yield csv.reader(text)


def numbers_of(types: dict[str, pa.DataType]) -> list[str]:
    """The columns that must hold numbers."""
    return [name for name, kind in types.items() if kind == pa.float32()]


def refuse_first_fault(
    lines: Iterable[Sequence[str]],
    header: Sequence[str],
    numbers: Sequence[str],
    schema: SeriesSchema,
    file: str | None = None,
) -> int:
    """Look for the first row or cell that cannot be parsed.

    Args:
        lines: the cells of each line below the header; empty lines do not count.
        header: the columns.
        numbers: those that must hold numbers.
        schema: knows what to do about a cell that holds none.
        file: for the message.

    Returns:
        The number of rows, where all can be parsed.

    Raises:
        DataError: a row with another number of cells, or a cell that is no number.
    """
    wanted = set(numbers)
    places = [i for i, name in enumerate(header) if name in wanted]
    row = 0
    for row, cells in enumerate(filter(None, lines), start=1):
        raise_first(line_faults(cells, header, places, schema, Source(file, row - 1)))
    return row


def line_faults(
    cells: Sequence[str],
    header: Sequence[str],
    places: Sequence[int],
    schema: SeriesSchema,
    source: Source,
) -> Iterator[DataError]:
    """Why a line cannot be parsed: another number of cells, or cells that are no numbers.

    Args:
        cells: of the line.
        header: the columns.
        places: where in the header those stand that must hold numbers.
        schema: knows what to do about a cell that holds none.
        source: of the line.
    """
    file, row = source.file, source.rows_before + 1
    if len(cells) != len(header):
        yield DataError(
            f"{len(cells)} cells",
            f"the header has {len(header)} columns: give the row as many",
            file=file,
            row=row,
        )
        return
    gap_texts = set(schema.gap_texts)
    if not _are_numbers([cells[i] for i in places], gap_texts):
        for i in places:
            if not _are_numbers([cells[i]], gap_texts):
                fix = schema.fix_for(cells[i])
                yield DataError(repr(cells[i]), fix, file=file, row=row, column=header[i])


def _are_numbers(cells: Sequence[str], gap_texts: Collection[str]) -> bool:
    """Whether pyarrow reads cells as numbers, or as missing, which the schema may refuse."""
    try:
        numbers_in(cells, gap_texts)
    except pa.ArrowInvalid:
        return False
    return True


def numbers_in(cells: Sequence[str], gap_texts: Collection[str]) -> pa.Array:
    """Cells as pyarrow reads them in a column of numbers, float32; null for what is missing.

    Raises:
        pa.ArrowInvalid: one is no number.
    """
    texts = [None if cell in gap_texts else cell.strip(" \t") for cell in cells]
    return pa.array(texts, pa.string()).cast(pa.float32())
