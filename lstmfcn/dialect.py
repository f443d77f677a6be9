"""How lines of CSV become cells: separator, decimal mark, and which line is the header."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise
from typing import NamedTuple

SEPARATORS = (",", ";", "\t")
"""Between cells; of those that fit a header equally well the first is taken."""

MOST_LINE_CHARACTERS = 16 << 20
"""Of a line, and of a row, which is several lines where quoted cells hold line ends."""

_PLAIN = re.compile(r"[ \t]*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?[ \t]*")
_WITH_COMMA = re.compile(r"[ \t]*[+-]?(\d*,\d+|\d+,)([eE][+-]?\d+)?[ \t]*")
_WITH_POINT = re.compile(r"[ \t]*[+-]?(\d*\.\d+|\d+\.)([eE][+-]?\d+)?[ \t]*")
_LIKE_NUMBER = re.compile(r"[+-]?[.,]?\d[\d.,'_ \xa0\u202f]*([eE][+-]?\d+)?", re.ASCII)
_QUOTED = re.compile('"[^"]*"')
_SWAPPED = str.maketrans(",.", ".,")
_MISSING = {"", "nan", "na", "inf", "-inf"}
_LINES_SEARCHED = 32
_LINES_LOOKED_AT = 200
"""For the decimal mark, in a few of which values have decimals."""


ONE_MARK = "write all numbers with one decimal mark, and none between thousands"
"""What to do about numbers in another form than pyarrow reads."""


class Dialect(NamedTuple):
    """What stands between the cells of a file, and what before the decimals of its numbers."""

    separator: str = ","
    decimal: str = "."

    def number_text(self, cell: str) -> str:
        """A cell as a number is written with a decimal point; other text than numbers as it is."""
        text = cell.strip(" \t")
        return text.translate(_SWAPPED) if self.decimal == "," else text

    def __str__(self) -> str:
        name = "tabs" if self.separator == "\t" else repr(self.separator)
        return f"{name} with decimal commas" if self.decimal == "," else name


USUAL = Dialect()


class LongLineError(Exception):
    """A line, or the lines of a row, are longer than `MOST_LINE_CHARACTERS`."""


class Header(NamedTuple):
    """The beginning of a file.

    Attributes:
        before: lines above the header that are no part of the table, with their ends.
        record: the header, several lines where a quoted name holds line ends.
        separator: of its names.
        names: of the columns.
    """

    before: tuple[str, ...]
    record: str
    separator: str
    names: list[str]


def lines_of_text(text: io.TextIOWrapper) -> Iterator[str]:
    """The lines of a file, each with its end.

    Raises:
        LongLineError: one is too long to be read.
    """
    while line := text.readline(MOST_LINE_CHARACTERS):
        if len(line) >= MOST_LINE_CHARACTERS and not line.endswith(("\n", "\r")):
            raise LongLineError
        yield line


def rows_of_lines(lines: Iterable[str], separator: str) -> Iterator[list[str]]:
    """The cells of each row; none for an empty line.

    Raises:
        csv.Error: what is no CSV.
        LongLineError: a row is too long.
    """
    length = 0

    def counted() -> Iterator[str]:
        nonlocal length
        for line in lines:
            length += len(line)
            if length > MOST_LINE_CHARACTERS:
                raise LongLineError
            yield line

    for cells in csv.reader(counted(), delimiter=separator):
        length = 0
        yield cells


def split(record: str, separator: str) -> list[str]:
    """The cells of a row."""
    return next(csv.reader(io.StringIO(record), delimiter=separator), [])


def find_header(lines: Iterator[str]) -> Header:
    """The header among the first lines: the first line, unless a later one has the columns' names.

    Raises:
        LongLineError: the header is too long.
    """
    record = _record(next(lines, ""), lines)
    found = _parsed((), record)
    if any(name.startswith("x") for name in found.names):
        return found
    seen = [record]
    for line in islice(lines, _LINES_SEARCHED):
        record = _record(line, lines)
        if _names_columns(later := _parsed(tuple(seen), record)):
            return later
        seen.append(record)
        if sum(map(len, seen)) > MOST_LINE_CHARACTERS:
            break
    filled = [i for i, record in enumerate(seen) if record.strip()] or [0]
    first = next((i for i in filled if not seen[i].startswith("#")), filled[0])
    return _parsed(tuple(seen[:first]), seen[first])


def separator_of(record: str) -> str:
    """What stands between the names of a header: what gives most names of values and labels.

    Where there are none, what gives most numbers, and then most cells.
    """
    there = _separators_in(record)
    if len(there) < 2:
        return there[0] if there else SEPARATORS[0]
    return max(there, key=lambda separator: _fits(record, separator))


def rival_of(record: str, separator: str) -> str | None:
    """Another separator that gives as many names of values and labels, where there is one."""
    others = [other for other in _separators_in(record) if other != separator]
    if not others:
        return None
    n_fit, _, n_names = _fits(record, separator)
    if n_fit < max(2, n_names):  # of a single name nothing can be said
        return None
    return next((other for other in others if _fits(record, other)[0] == n_fit), None)


def decimal_mark(lines: Iterable[str], separator: str) -> str:
    """What stands before decimals: a comma where cells are separated by ; and numbers have one."""
    if separator != ";":
        return "."
    commas = points = 0
    for cells in rows_of_lines(islice(lines, _LINES_LOOKED_AT), separator):
        commas += sum(1 for cell in cells if _WITH_COMMA.fullmatch(cell))
        points += sum(1 for cell in cells if _WITH_POINT.fullmatch(cell))
    return "," if commas > points else "."


def looks_like_data(names: Sequence[str], separator: str) -> bool:
    """Whether the cells of a first line are numbers, but for a label or a name at either end."""
    if any(name.startswith("x") for name in names):
        return False
    numbers = [_is_number(name, separator) for name in names]
    inner = zip(names[1:-1], numbers[1:-1], strict=True)
    return sum(numbers) >= max(1, len(names) // 2) and all(
        is_number or name.strip().lower() in _MISSING for name, is_number in inner
    )


def may_be_names(names: Sequence[str], separator: str) -> bool:
    """Whether the numbers of a first line grow from cell to cell, as counts and times do."""
    numbers = [float(name.replace(",", ".")) for name in names if _is_number(name, separator)]
    return len(numbers) > 2 and all(one < other for one, other in pairwise(numbers))


def looks_like_number(cell: str) -> bool:
    """Whether a cell is a number to people: with any decimal mark, and marks between thousands."""
    return bool(_LIKE_NUMBER.fullmatch(cell.strip()))


def _record(first: str, lines: Iterator[str]) -> str:
    """A line, and those after it as long as quotes are open."""
    parts, length = [first], len(first)
    quotes = 0 if first.startswith("#") else first.count('"')
    while quotes % 2 and (line := next(lines, "")):
        parts.append(line)
        length += len(line)
        quotes += line.count('"')
        if length > MOST_LINE_CHARACTERS:
            raise LongLineError
    return "".join(parts)


def _parsed(before: tuple[str, ...], record: str) -> Header:
    separator = separator_of(record)
    return Header(before, record, separator, split(record, separator))


def _separators_in(record: str) -> list[str]:
    """The separators that stand outside quotes."""
    plain = _QUOTED.sub("", record) if '"' in record else record
    return [separator for separator in SEPARATORS if separator in plain]


def _fits(record: str, separator: str) -> tuple[int, int, int]:
    """How well a separator fits a header; more is better."""
    names = split(record, separator)
    roles = sum(name.strip().startswith(("x", "y")) for name in names)
    numbers = sum(_is_number(name, separator) for name in names)
    return roles, numbers if not roles else 0, len(names)


def _names_columns(line: Header) -> bool:
    """Whether a line has names of values and labels, and no number."""
    names = [name.strip() for name in line.names]
    roles = [name for name in names if name.startswith(("x", "y"))]
    return (
        any(name.startswith("x") for name in roles)
        and (len(roles) > 1 or len(names) == 1)
        and not any(_is_number(name, line.separator) for name in names)
    )


def _is_number(cell: str, separator: str) -> bool:
    """Whether a cell of a file with this separator is written as a number."""
    return bool(_PLAIN.fullmatch(cell) or (separator == ";" and _WITH_COMMA.fullmatch(cell)))
