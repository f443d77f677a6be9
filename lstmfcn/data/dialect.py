"""How lines of CSV become cells: separator, decimal mark, header line."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise
from typing import NamedTuple

SEPARATORS = (",", ";", "\t")
"""Separators of cells; if several fit a header equally well, the first is used."""

MAX_LINE_CHARACTERS = 16 << 20
"""The longest line, and the longest row (a row has several lines if a cell has line breaks)."""

_PLAIN = re.compile(r"[ \t]*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?[ \t]*")
_WITH_COMMA = re.compile(r"[ \t]*[+-]?(\d*,\d+|\d+,)([eE][+-]?\d+)?[ \t]*")
_WITH_POINT = re.compile(r"[ \t]*[+-]?(\d*\.\d+|\d+\.)([eE][+-]?\d+)?[ \t]*")
_LIKE_NUMBER = re.compile(r"[+-]?[.,]?\d[\d.,'_ \xa0\u202f]*([eE][+-]?\d+)?", re.ASCII)
_QUOTED = re.compile('"[^"]*"')
_SWAPPED = str.maketrans(",.", ".,")
_MISSING = {"", "nan", "na", "inf", "-inf"}

_HEADER_LINES = 32
"""Lines in which to look for the header."""

_DECIMAL_LINES = 200
"""Lines in which to look for the decimal mark; only some values may have decimals."""

ONE_MARK = "use one decimal mark in all numbers, and no thousands separators"
"""What to do about numbers in a form that pyarrow does not read."""


class Dialect(NamedTuple):
    """The separator between the cells of a file, and the decimal mark of its numbers."""

    separator: str = ","
    decimal: str = "."

    def number_text(self, cell: str) -> str:
        """Write the number of a cell with a decimal point; other text is not changed."""
        text = cell.strip(" \t")
        return text.translate(_SWAPPED) if self.decimal == "," else text

    def __str__(self) -> str:
        name = "tabs" if self.separator == "\t" else repr(self.separator)
        return f"{name} with decimal commas" if self.decimal == "," else name


USUAL = Dialect()


class LongLineError(Exception):
    """A line, or the lines of a row together, are longer than `MAX_LINE_CHARACTERS`."""


class Header(NamedTuple):
    """The header of a file.

    Attributes:
        before: lines above the header, which are not part of the table, with their line ends.
        record: the text of the header; several lines if a quoted name has line breaks.
    """

    before: tuple[str, ...]
    record: str
    separator: str
    names: list[str]


def lines_of_text(text: io.TextIOWrapper) -> Iterator[str]:
    """Read the lines of a file, with their line ends; a line too long raises `LongLineError`."""
    while line := text.readline(MAX_LINE_CHARACTERS):
        if len(line) >= MAX_LINE_CHARACTERS and not line.endswith(("\n", "\r")):
            raise LongLineError
        yield line


def parse_lines(lines: Iterable[str], separator: str) -> Iterator[list[str]]:
    """Split rows into cells; an empty line has no cells.

    Raises:
        csv.Error: the lines are not CSV.
        LongLineError: a row is too long.
    """
    length = 0

    def count_characters() -> Iterator[str]:
        nonlocal length
        for line in lines:
            length += len(line)
            if length > MAX_LINE_CHARACTERS:
                raise LongLineError
            yield line

    for cells in csv.reader(count_characters(), delimiter=separator):
        length = 0
        yield cells


def split(record: str, separator: str) -> list[str]:
    """Split a row into cells."""
    return next(csv.reader(io.StringIO(record), delimiter=separator), [])


def find_header(lines: Iterator[str]) -> Header:
    """Find the header: the first line, unless only a later line has names of values and labels.

    A header that is too long raises `LongLineError`.
    """
    record = _read_record(next(lines, ""), lines)
    header = _parse_header((), record)
    if any(name.startswith("x") for name in header.names):
        return header
    records = [record]
    for line in islice(lines, _HEADER_LINES):
        record = _read_record(line, lines)
        if _names_columns(header := _parse_header(tuple(records), record)):
            return header
        records.append(record)
        if sum(map(len, records)) > MAX_LINE_CHARACTERS:
            break
    filled = [i for i, record in enumerate(records) if record.strip()] or [0]
    first = next((i for i in filled if not records[i].startswith("#")), filled[0])
    return _parse_header(tuple(records[:first]), records[first])


def find_separator(record: str) -> str:
    """Find the separator of a header: the one that gives most names of values and labels.

    If there are no such names, the one that gives most numbers, and then most cells.
    """
    candidates = _separators_in(record)
    if len(candidates) < 2:
        return candidates[0] if candidates else SEPARATORS[0]
    return max(candidates, key=lambda separator: _rate_separator(record, separator))


def rival_separator(record: str, separator: str) -> str | None:
    """Another separator that gives as many names of values and labels, or None."""
    others = [other for other in _separators_in(record) if other != separator]
    if not others:
        return None
    n_roles, _, n_names = _rate_separator(record, separator)
    if n_roles < max(2, n_names):  # one name is not enough to tell
        return None
    return next((other for other in others if _rate_separator(record, other)[0] == n_roles), None)


def decimal_mark(lines: Iterable[str], separator: str) -> str:
    """Find the decimal mark: a comma if the separator is ; and most decimals have one."""
    if separator != ";":
        return "."
    commas = points = 0
    for cells in parse_lines(islice(lines, _DECIMAL_LINES), separator):
        commas += sum(1 for cell in cells if _WITH_COMMA.fullmatch(cell))
        points += sum(1 for cell in cells if _WITH_POINT.fullmatch(cell))
    return "," if commas > points else "."


def looks_like_data(names: Sequence[str], separator: str) -> bool:
    """Whether a first line has only numbers, except for a label or a name at either end."""
    if any(name.startswith("x") for name in names):
        return False
    numbers = [_is_number(name, separator) for name in names]
    inner = zip(names[1:-1], numbers[1:-1], strict=True)
    return sum(numbers) >= max(1, len(names) // 2) and all(
        is_number or name.strip().lower() in _MISSING for name, is_number in inner
    )


def may_be_names(names: Sequence[str], separator: str) -> bool:
    """Whether the numbers of a first line increase, as those of numbered columns do."""
    numbers = [float(name.replace(",", ".")) for name in names if _is_number(name, separator)]
    return len(numbers) > 2 and all(one < other for one, other in pairwise(numbers))


def looks_like_number(cell: str) -> bool:
    """Whether people read a cell as a number, with any decimal mark or thousands separator."""
    return bool(_LIKE_NUMBER.fullmatch(cell.strip()))


def _read_record(first: str, lines: Iterator[str]) -> str:
    """Read a row: a line, and the following lines while a quote is open."""
    parts, length = [first], len(first)
    quotes = 0 if first.startswith("#") else first.count('"')
    while quotes % 2 and (line := next(lines, "")):
        parts.append(line)
        length += len(line)
        quotes += line.count('"')
        if length > MAX_LINE_CHARACTERS:
            raise LongLineError
    return "".join(parts)


def _parse_header(before: tuple[str, ...], record: str) -> Header:
    separator = find_separator(record)
    return Header(before, record, separator, split(record, separator))


def _separators_in(record: str) -> list[str]:
    """The separators that occur outside quotes."""
    plain = _QUOTED.sub("", record) if '"' in record else record
    return [separator for separator in SEPARATORS if separator in plain]


def _rate_separator(record: str, separator: str) -> tuple[int, int, int]:
    """Rate how well a separator fits a header; higher is better."""
    names = split(record, separator)
    roles = sum(name.strip().startswith(("x", "y")) for name in names)
    numbers = sum(_is_number(name, separator) for name in names)
    return roles, numbers if not roles else 0, len(names)


def _names_columns(line: Header) -> bool:
    """Whether a line has names of values and labels, and no numbers."""
    names = [name.strip() for name in line.names]
    roles = [name for name in names if name.startswith(("x", "y"))]
    return (
        any(name.startswith("x") for name in roles)
        and (len(roles) > 1 or len(names) == 1)
        and not any(_is_number(name, line.separator) for name in names)
    )


def _is_number(cell: str, separator: str) -> bool:
    """Whether a cell is written as a number, in a file with this separator."""
    return bool(_PLAIN.fullmatch(cell) or (separator == ";" and _WITH_COMMA.fullmatch(cell)))
