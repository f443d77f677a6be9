"""Rows of values without a header, the class first or last: .tsv, .txt and headerless .csv.

.tsv, .txt and no suffix are the UCR archive's of 2018 and 2015: a row a series, its class first,
separated by tabs, commas or blanks. What separates is found from the first line; where no comma
does, and there are some within its values, they are decimal commas.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import NamedTuple

from lstmfcn.column_names import some_of
from lstmfcn.convert.series import (
    LabelName,
    Rereadable,
    Series,
    Wanted,
    are_numbers,
    cells_of,
    is_gap,
    lines_of,
)
from lstmfcn.counts import number
from lstmfcn.dialect import ONE_MARK
from lstmfcn.errors import DataError
from lstmfcn.shards import Shard

_NAMES = {"\t": "tabs", ";": "semicolons", ",": "commas", None: "blanks"}

logger = logging.getLogger(__name__)


class _Form(NamedTuple):
    """How rows are written.

    Attributes:
        separator: of cells; None where any blanks are.
        has_commas: whether decimal marks are commas.
        label: where a row's class stands.
        n_channels: those that follow each other in a row.
    """

    separator: str | None
    has_commas: bool
    label: LabelName
    n_channels: int

    def cells(self, line: str) -> tuple[str | None, list[str]]:
        """A line's class, where it has one, and its values."""
        values = cells_of(line, self.separator)
        label = None if self.label == "none" else values.pop(0 if self.label == "first" else -1)
        return label, values


def separator_of(line: str) -> str | None:
    """What separates the cells of a line; None where blanks do."""
    return next((mark for mark in "\t;," if mark in line), None)


def read_rows(shard: Shard, wanted: Wanted) -> Rereadable:
    """The series of a file of rows without a header.

    Raises:
        DataError: the first row is a header, or a row cannot be read.
    """
    numbered = ((row, line) for row, line in enumerate(lines_of(shard), start=1) if line)
    row, first = next(numbered, (0, ""))
    form = _Form(separator_of(first), False, wanted.label or "first", wanted.n_channels or 1)
    values = form.cells(first)[1] if first else []
    form = form._replace(has_commas=form.separator != "," and any("," in value for value in values))
    _refuse_header(first, values, form, shard.path, row)
    marks = " and decimal commas" if form.has_commas else ""
    logger.info("%s: cells separated by %s%s", shard.name, _NAMES[form.separator], marks)
    return Rereadable(lambda: _series(shard, form))


def _refuse_header(line: str, values: list[str], form: _Form, file: str, row: int) -> None:
    """Refuse a first row of names: a table with a header is a shard."""
    texts = [value.replace(",", ".") for value in values] if form.has_commas else values
    if not any(is_gap(text) or are_numbers([text]) for text in texts) and values:
        raise DataError(
            f"a header ({some_of(cells_of(line, form.separator))}) or a row without any number",
            "lstmfcn train reads a table with a header as it is",
            file=file,
            row=row,
        )


def _series(shard: Shard, form: _Form) -> Iterator[Series]:
    for row, line in enumerate(lines_of(shard), start=1):
        if line:
            label, values = form.cells(line)
            if form.has_commas:
                label, values = _with_points(label, values, shard.path, row)
            yield Series(row, label, _channels(values, form.n_channels, shard.path, row))


def _with_points(
    label: str | None, values: list[str], file: str, row: int
) -> tuple[str | None, list[str]]:
    """The cells with decimal points for decimal commas."""
    points = next((value for value in values if "." in value), None)
    if points:
        raise DataError(
            f"{points!r} in a file with decimal commas",
            ONE_MARK,
            file=file,
            row=row,
        )
    if label and are_numbers([label.replace(",", ".")]):
        label = label.replace(",", ".")
    return label, [value.replace(",", ".") for value in values]


def _channels(values: list[str], n_channels: int, file: str, row: int) -> list[list[str]]:
    if len(values) % n_channels:
        raise DataError(
            number(len(values), "value"),
            f"--channels {n_channels} needs rows of as many values of each channel",
            file=file,
            row=row,
        )
    length = len(values) // n_channels
    return [values[i * length : (i + 1) * length] for i in range(n_channels)]
