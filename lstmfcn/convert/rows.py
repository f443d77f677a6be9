"""Read rows of values without a header, the class first or last: .tsv, .txt, headerless .csv.

.tsv, .txt and files without suffix have the format of the UCR archive of 2018 and 2015: one series
per row, the class first, separated by tabs, commas or spaces. The separator is found from the first
line. If it is not a comma, commas in the values are decimal commas.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from lstmfcn.console import pluralize
from lstmfcn.convert.series import (
    ConvertRequest,
    LabelName,
    ReadSeries,
    Series,
    are_numbers,
    is_gap,
    read_lines,
    split_cells,
)
from lstmfcn.data.columns import abbreviate
from lstmfcn.data.dialect import ONE_MARK
from lstmfcn.data.shards import Shard
from lstmfcn.errors import DataError

_SEPARATOR_NAMES = {"\t": "tabs", ";": "semicolons", ",": "commas", None: "spaces"}

logger = logging.getLogger(__name__)


class _Form(NamedTuple):
    """How rows are written; the separator None stands for any spaces."""

    separator: str | None
    has_commas: bool
    label: LabelName
    n_channels: int

    def parse_line(self, line: str) -> tuple[str | None, list[str]]:
        """Split a line into its class, if it has one, and its values."""
        values = split_cells(line, self.separator)
        label = None if self.label == "none" else values.pop(0 if self.label == "first" else -1)
        return label, values


def find_separator(line: str) -> str | None:
    """The separator of the cells of a line; None for spaces."""
    return next((mark for mark in "\t;," if mark in line), None)


def read_rows(shard: Shard, request: ConvertRequest) -> ReadSeries:
    """Read the series of a file without a header; a header or broken row raises `DataError`."""
    numbered = ((row, line) for row, line in enumerate(read_lines(shard), start=1) if line)
    row, first = next(numbered, (0, ""))
    form = _Form(find_separator(first), False, request.label or "first", request.n_channels or 1)
    values = form.parse_line(first)[1] if first else []
    form = form._replace(has_commas=form.separator != "," and any("," in value for value in values))
    _refuse_header(first, values, form, shard.path, row)
    marks = " and decimal commas" if form.has_commas else ""
    logger.info("%s: cells separated by %s%s", shard.name, _SEPARATOR_NAMES[form.separator], marks)
    return partial(_iterate, shard, form)


def _refuse_header(line: str, values: list[str], form: _Form, file: str, row: int) -> None:
    """Refuse a first row of names, because a table with a header is a shard."""
    texts = [value.replace(",", ".") for value in values] if form.has_commas else values
    if not any(is_gap(text) or are_numbers([text]) for text in texts) and values:
        raise DataError(
            f"a header ({abbreviate(split_cells(line, form.separator))}) or a row without any "
            "number",
            "lstmfcn train reads a table with a header directly",
            file=file,
            row=row,
        )


def _iterate(shard: Shard, form: _Form) -> Iterator[Series]:
    for row, line in enumerate(read_lines(shard), start=1):
        if line:
            label, values = form.parse_line(line)
            if form.has_commas:
                label, values = _with_points(label, values, shard.path, row)
            yield Series(row, label, _split_channels(values, form.n_channels, shard.path, row))


def _with_points(
    label: str | None, values: list[str], file: str, row: int
) -> tuple[str | None, list[str]]:
    """Replace decimal commas by points; refuse a mixture."""
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


def _split_channels(values: list[str], n_channels: int, file: str, row: int) -> list[list[str]]:
    if len(values) % n_channels:
        raise DataError(
            pluralize(len(values), "value"),
            f"--channels {n_channels} needs the same number of values for each channel",
            file=file,
            row=row,
        )
    length = len(values) // n_channels
    return [values[i * length : (i + 1) * length] for i in range(n_channels)]
