"""Read CSV line by line, to report the row and cell that pyarrow's parser cannot read."""

from __future__ import annotations

import io
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from lstmfcn.console import pluralize
from lstmfcn.data.columns import abbreviate
from lstmfcn.data.dialect import (
    ONE_MARK,
    USUAL,
    Dialect,
    lines_of_text,
    looks_like_number,
    parse_lines,
)
from lstmfcn.data.schema import OR_MASK, VALUE_FIX, SeriesSchema
from lstmfcn.data.shards import Shard
from lstmfcn.data.table import MISSING_TEXTS, RowOrigin
from lstmfcn.errors import DataError, raise_first

_NUMBER_WITH_COMMA = r"^\s*([+-]?\d*),(\d+(?:[eE][+-]?\d+)?)\s*$"
_REMOVE_ROW = "remove the row (lstmfcn check --fix does this)"


@contextmanager
def read_lines(shard: Shard) -> Iterator[Iterator[list[str]]]:
    """Open a CSV shard; gives the cells of each line, header first, no cells for empty lines.

    Iteration raises UnicodeDecodeError, csv.Error or LongLineError.
    """
    layout = shard.layout
    with shard.open() as stream, io.TextIOWrapper(stream, "utf-8-sig") as text:
        lines = islice(lines_of_text(text), layout.n_lines_before, None)
        yield parse_lines(lines, layout.dialect.separator)


def number_columns(types: Mapping[str, pa.DataType | None]) -> list[str]:
    """The columns that must contain numbers."""
    return [name for name, kind in types.items() if kind == pa.float32()]


def refuse_first_fault(
    lines: Iterable[Sequence[str]],
    header: Sequence[str],
    numbers: Sequence[str],
    schema: SeriesSchema,
    file: str | None = None,
    dialect: Dialect = USUAL,
) -> int:
    """Refuse the first row or cell that cannot be parsed.

    Args:
        lines: the cells of each line below the header; empty lines do not count as rows.
        numbers: the columns that must contain numbers.

    Returns:
        The number of rows, if all of them can be parsed.

    Raises:
        DataError: a row has another number of cells than the header, or a cell is not a number.
    """
    fields = locate_fields(numbers, header)
    row = 0
    for row, cells in enumerate(filter(None, lines), start=1):
        source = RowOrigin(file, row - 1)
        raise_first(line_faults(cells, header, fields, schema, source, dialect))
    return row


def locate_fields(names: Iterable[str], header: Sequence[str]) -> list[int]:
    """The positions of these names in a header."""
    names = set(names)
    return [i for i, name in enumerate(header) if name in names]


def line_faults(
    cells: Sequence[str],
    header: Sequence[str],
    fields: Sequence[int],
    schema: SeriesSchema,
    source: RowOrigin,
    dialect: Dialect = USUAL,
) -> Iterator[DataError]:
    """Report why a line cannot be parsed: one fault of the line, or one of each faulty cell.

    Args:
        fields: positions of the columns that must contain numbers.

    Raises:
        DataError: the line is a second header, and the rows below it have other columns.
    """
    gap_texts = set(schema.gap_texts)
    if len(cells) == len(header) and _are_numbers([cells[i] for i in fields], gap_texts, dialect):
        return
    _refuse_other_columns(cells, header, schema, source)
    if fault := _find_line_fault(cells, header, fields, schema, dialect):
        found, fix = fault
        if fix == _REMOVE_ROW and not source.file:
            fix = "remove the row"
        yield source.fault(0, found, fix)
        return
    for i in fields:
        if not _are_numbers([cells[i]], gap_texts, dialect):
            yield source.fault(0, repr(cells[i]), _advise(cells[i], schema), header[i])


def _advise(cell: str, schema: SeriesSchema) -> str:
    """What to do about a cell with this text instead of a number."""
    text = cell.strip()
    if text in MISSING_TEXTS and schema.missing == "refuse":
        return VALUE_FIX + OR_MASK
    if looks_like_number(text):
        return ONE_MARK
    if text and not any(map(str.isalnum, text)) and not schema.missing_marker:
        return f"{VALUE_FIX}{OR_MASK} --missing-marker {shlex.quote(text)}"
    return VALUE_FIX


def _are_numbers(cells: Sequence[str], gap_texts: Collection[str], dialect: Dialect) -> bool:
    """Whether pyarrow reads the cells as numbers, or as missing (which the schema may refuse)."""
    try:
        parse_numbers(cells, gap_texts, dialect)
    except pa.ArrowInvalid:
        return False
    return True


def _refuse_other_columns(
    cells: Sequence[str], header: Sequence[str], schema: SeriesSchema, source: RowOrigin
) -> None:
    """Refuse a second header with other columns or another order, which the rows below have."""
    names = [cell.strip() for cell in cells]
    if set(schema.value_columns) <= set(names) and not _is_header(names, header, schema):
        found = "a second header, with other columns or another order"
        raise source.fault(0, found, "split the file above this row")


def _is_header(names: Sequence[str], header: Sequence[str], schema: SeriesSchema) -> bool:
    """Whether a line repeats the names of labels and values at the positions of the header."""
    fields = locate_fields([*schema.label_columns, *schema.value_columns], header)
    return len(names) == len(header) and all(names[i] == header[i] for i in fields)


def _find_line_fault(
    cells: Sequence[str],
    header: Sequence[str],
    fields: Sequence[int],
    schema: SeriesSchema,
    dialect: Dialect,
) -> tuple[str, str] | None:
    """What is wrong with a line as a whole and what to do; None if only single cells are wrong."""
    if not any(cell.strip() for cell in cells):
        return "an empty row", _REMOVE_ROW
    if len(cells) != len(header):
        if cells[0].startswith("#"):
            return "a comment among the rows", _REMOVE_ROW
        columns = pluralize(len(header), "column")
        return pluralize(len(cells), "cell"), f"the header has {columns}: write one cell for each"
    texts = [cell.strip() for cell in cells]
    if _is_header(texts, header, schema):
        return "a second header", _REMOVE_ROW
    values = [texts[i] for i in fields if header[i] not in schema.label_columns]
    if len(values) > 1 and not any(_may_be_value(text, dialect) for text in values):
        return f"text instead of all values ({abbreviate(values)}), perhaps units", _REMOVE_ROW
    return None


def _may_be_value(text: str, dialect: Dialect) -> bool:
    """Whether a cell is empty, a number in any form, or a text that marks a missing value."""
    is_gap = not text or text in MISSING_TEXTS
    return is_gap or looks_like_number(text) or _are_numbers([text], (), dialect)


def parse_numbers(
    cells: Sequence[str], gap_texts: Collection[str], dialect: Dialect = USUAL
) -> pa.Array:
    """Read numbers as pyarrow does, float32, null for gaps; else raises `pa.ArrowInvalid`."""
    texts = [None if cell in gap_texts else dialect.number_text(cell) for cell in cells]
    return pa.array(texts, pa.string()).cast(pa.float32())


def with_decimal_points(table: pa.Table, labels: Collection[str], dialect: Dialect) -> pa.Table:
    """Write numbers in label columns with a decimal point: 1.0 instead of 1,0."""
    if dialect.decimal == ".":
        return table
    for i, (name, kind) in enumerate(zip(table.column_names, table.schema.types, strict=True)):
        if name in labels and kind == pa.string():
            points = pc.replace_substring_regex(table[name], _NUMBER_WITH_COMMA, r"\1.\2")
            table = table.set_column(i, name, points)
    return table


def empty_rows(table: pa.Table) -> list[int]:
    """The rows in which all cells are empty, counted from 0."""
    rows = None
    for i in reversed(range(table.num_columns)):  # values come last, and few are missing
        column = table.column(i)
        if pa.types.is_string(column.type):
            empty = pc.fill_null(pc.equal(column, ""), True)
        elif column.null_count:
            empty = column.is_null()
        else:
            return []
        rows = empty if rows is None else pc.and_(rows, empty)
    return [] if rows is None else pc.indices_nonzero(rows).to_pylist()


def empty_row(source: RowOrigin) -> DataError:
    """Describe a row of empty cells."""
    return source.fault(0, "an empty row", _REMOVE_ROW)
