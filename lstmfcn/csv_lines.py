"""CSV line by line, to name what pyarrow's parser stumbles over, and rows that are none."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from lstmfcn.cells import MISSING_TEXTS, Source
from lstmfcn.column_names import some_of
from lstmfcn.counts import number
from lstmfcn.dialect import USUAL, Dialect, lines_of_text, looks_like_number, rows_of_lines
from lstmfcn.errors import DataError, raise_first
from lstmfcn.schema import SeriesSchema
from lstmfcn.shards import Shard

_NUMBER_WITH_COMMA = r"^\s*([+-]?\d*),(\d+(?:[eE][+-]?\d+)?)\s*$"
LEAVE_OUT = "leave the row out, as lstmfcn check --fix does"


@contextmanager
def lines_of(shard: Shard) -> Iterator[Iterator[list[str]]]:
    """The cells of each line of a CSV shard, the header first; none for empty lines.

    Iterating raises:
        UnicodeDecodeError, csv.Error, LongLineError: a line that cannot be read.
    """
    layout = shard.layout
    with shard.open() as stream, io.TextIOWrapper(stream, "utf-8-sig") as text:
        lines = islice(lines_of_text(text), layout.n_lines_before, None)
        yield rows_of_lines(lines, layout.dialect.separator)


def numbers_of(types: Mapping[str, pa.DataType | None]) -> list[str]:
    """The columns that must hold numbers."""
    return [name for name, kind in types.items() if kind == pa.float32()]


def refuse_first_fault(
    lines: Iterable[Sequence[str]],
    header: Sequence[str],
    numbers: Sequence[str],
    schema: SeriesSchema,
    file: str | None = None,
    dialect: Dialect = USUAL,
) -> int:
    """Look for the first row or cell that cannot be parsed.

    Args:
        lines: the cells of each line below the header; empty lines do not count.
        header: the columns.
        numbers: those that must hold numbers.
        schema: knows what to do about a cell that holds none.
        file: for the message.
        dialect: of the numbers.

    Returns:
        The number of rows, where all can be parsed.

    Raises:
        DataError: a row with another number of cells, or a cell that is no number.
    """
    places = places_of(numbers, header)
    row = 0
    for row, cells in enumerate(filter(None, lines), start=1):
        source = Source(file, row - 1)
        raise_first(line_faults(cells, header, places, schema, source, dialect))
    return row


def places_of(names: Iterable[str], header: Sequence[str]) -> list[int]:
    """Where in a header these names stand."""
    wanted = set(names)
    return [i for i, name in enumerate(header) if name in wanted]


def line_faults(
    cells: Sequence[str],
    header: Sequence[str],
    places: Sequence[int],
    schema: SeriesSchema,
    source: Source,
    dialect: Dialect = USUAL,
) -> Iterator[DataError]:
    """Why a line cannot be parsed: one fault of all of it, or of each cell that is no number.

    Args:
        cells: of the line.
        header: the columns.
        places: where in the header those stand that must hold numbers.
        schema: knows what to do about a cell that holds none.
        source: of the line.
        dialect: of the numbers.

    Raises:
        DataError: the rows below the line are of other columns.
    """
    file, row = source.file, source.rows_before + 1
    gap_texts = set(schema.gap_texts)
    if len(cells) == len(header) and _are_numbers([cells[i] for i in places], gap_texts, dialect):
        return
    _refuse_other_columns(cells, header, schema, source)
    if told := _of_whole_line(cells, header, places, schema, dialect):
        found, fix = told
        if fix == LEAVE_OUT and not file:
            fix = "leave the row out"
        yield DataError(found, fix, file=file, row=row)
        return
    for i in places:
        if not _are_numbers([cells[i]], gap_texts, dialect):
            fix = schema.fix_for(cells[i])
            yield DataError(repr(cells[i]), fix, file=file, row=row, column=header[i])


def _are_numbers(cells: Sequence[str], gap_texts: Collection[str], dialect: Dialect) -> bool:
    """Whether pyarrow reads cells as numbers, or as missing, which the schema may refuse."""
    try:
        numbers_in(cells, gap_texts, dialect)
    except pa.ArrowInvalid:
        return False
    return True


def _refuse_other_columns(
    cells: Sequence[str], header: Sequence[str], schema: SeriesSchema, source: Source
) -> None:
    """Refuse a second header of other columns, or of the same in another order.

    Raises:
        DataError: names the row; those below it would be read by the wrong columns.
    """
    names = [cell.strip() for cell in cells]
    if set(schema.value_columns) <= set(names) and not _is_header(names, header, schema):
        raise DataError(
            "a second header, of columns that stand otherwise than in the first",
            "split the file above it",
            file=source.file,
            row=source.rows_before + 1,
        )


def _is_header(names: Sequence[str], header: Sequence[str], schema: SeriesSchema) -> bool:
    """Whether names of labels and values stand where they do in the header."""
    places = places_of([*schema.label_columns, *schema.value_columns], header)
    return len(names) == len(header) and all(names[i] == header[i] for i in places)


def _of_whole_line(
    cells: Sequence[str],
    header: Sequence[str],
    places: Sequence[int],
    schema: SeriesSchema,
    dialect: Dialect,
) -> tuple[str, str] | None:
    """What is wrong with a line as a whole, and what to do; None where single cells are."""
    if not any(cell.strip() for cell in cells):
        return "an empty row", LEAVE_OUT
    if len(cells) != len(header):
        if cells[0].startswith("#"):
            return "a comment among the rows", LEAVE_OUT
        columns = number(len(header), "column")
        return number(len(cells), "cell"), f"the header has {columns}: give the row as many"
    texts = [cell.strip() for cell in cells]
    if _is_header(texts, header, schema):
        return "a second header", LEAVE_OUT
    values = [texts[i] for i in places if header[i] not in schema.label_columns]
    if len(values) > 1 and not any(_may_be_value(text, dialect) for text in values):
        return f"text in place of all values ({some_of(values)}), such as units", LEAVE_OUT
    return None


def _may_be_value(text: str, dialect: Dialect) -> bool:
    """Whether a cell holds a number in any form, nothing, or what may mark a missing value."""
    is_gap = not text or text in MISSING_TEXTS
    return is_gap or looks_like_number(text) or _are_numbers([text], (), dialect)


def numbers_in(
    cells: Sequence[str], gap_texts: Collection[str], dialect: Dialect = USUAL
) -> pa.Array:
    """Cells as pyarrow reads them in a column of numbers, float32; null for what is missing.

    Raises:
        pa.ArrowInvalid: one is no number.
    """
    texts = [None if cell in gap_texts else dialect.number_text(cell) for cell in cells]
    return pa.array(texts, pa.string()).cast(pa.float32())


def with_decimal_points(table: pa.Table, labels: Collection[str], dialect: Dialect) -> pa.Table:
    """The table, in which labels that are numbers have no decimal comma: 1.0 for 1,0.

    Args:
        labels: names of the columns.
    """
    if dialect.decimal == ".":
        return table
    for i, (name, kind) in enumerate(zip(table.column_names, table.schema.types, strict=True)):
        if name in labels and kind == pa.string():
            points = pc.replace_substring_regex(table[name], _NUMBER_WITH_COMMA, r"\1.\2")
            table = table.set_column(i, name, points)
    return table


def empty_rows(table: pa.Table) -> list[int]:
    """The rows of which every cell is empty, counted from 0."""
    rows = None
    for i in reversed(range(table.num_columns)):  # values, few of which are missing, come last
        column = table.column(i)
        if pa.types.is_string(column.type):
            empty = pc.fill_null(pc.equal(column, ""), True)
        elif column.null_count:
            empty = column.is_null()
        else:
            return []
        rows = empty if rows is None else pc.and_(rows, empty)
    return [] if rows is None else pc.indices_nonzero(rows).to_pylist()


def empty_row(source: Source) -> DataError:
    """What to say of a row of empty cells."""
    return DataError("an empty row", LEAVE_OUT, file=source.file, row=source.rows_before + 1)
