"""The series of a file that is converted, and reading its lines within limits."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lstmfcn.convert.times import Times
from lstmfcn.data.dialect import MAX_LINE_CHARACTERS, LongLineError, lines_of_text
from lstmfcn.data.layout import plain_bytes
from lstmfcn.data.reader import readable
from lstmfcn.data.shards import Shard
from lstmfcn.data.table import is_missing
from lstmfcn.errors import DataError
from lstmfcn.hyperparameters import MissingName

LabelName = Literal["first", "last", "none"]


class ConvertRequest(NamedTuple):
    """The user's options for a conversion."""

    label: LabelName | None = None
    header: bool = True
    n_channels: int | None = None
    missing: MissingName = "refuse"


class Series(NamedTuple):
    """One series, with its values as text, as in the file.

    Attributes:
        row: its row in the file, counted from 1.
        label: its class; None when converting without labels.
        channels: the values of each channel.
        times: the times of the values of each channel, if the file has times.
        rows: the rows of the values of each channel, in a long table.
    """

    row: int
    label: str | None
    channels: list[list[str]]
    times: list[Times] | None = None
    rows: list[npt.NDArray[np.int64]] | None = None

    def fault(self, file: str, found: str, fix: str) -> DataError:
        """Describe a fault of this series."""
        return DataError(found, fix, file=file, row=self.row)


@dataclass(frozen=True)
class Rereadable:
    """The series of a file; every iteration reads the file again."""

    read: Callable[[], Iterator[Series]]

    def __iter__(self) -> Iterator[Series]:
        return self.read()


def read_lines(shard: Shard) -> Iterator[str]:
    """Read the lines of a text file, without spaces around them.

    Raises:
        DataError: the file cannot be read, or a line is longer than a row of a shard may be.
    """
    with (
        readable(shard),
        plain_bytes(shard.filesystem, shard.path) as (plain, _),
        io.TextIOWrapper(plain, "utf-8-sig") as text,
    ):
        try:
            yield from (line.strip("\r\n ") for line in lines_of_text(text))
        except LongLineError as error:
            limit = f"{MAX_LINE_CHARACTERS >> 20} MiB"
            raise DataError(
                f"a line of more than {limit}", "write one series per line", file=shard.path
            ) from error


def split_cells(line: str, separator: str | None) -> list[str]:
    """Split a line into cells, without spaces around them; None splits at any spaces."""
    if separator is None:
        return line.split() or [""]
    if '"' in line:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator))]
    return [cell.strip() for cell in line.split(separator)]


def are_numbers(cells: list[str]) -> bool:
    """Whether training reads all of these cells as numbers."""
    return _parse_numbers(cells) is not None


def is_gap(value: str) -> bool:
    """Whether a cell marks a missing value; ``?`` does so in .ts and .arff files."""
    return value.lower() in ("?", "nan") or is_missing(value)


def first_refused(cells: list[str], missing: MissingName) -> int | None:
    """The index of the first cell that training would refuse, or None."""
    numbers = _parse_numbers(cells, missing)
    if numbers is None:
        return _first_text(cells, missing)
    refused = ~np.isfinite(numbers)
    if missing == "mask":
        refused &= np.array([cell != "" for cell in cells], dtype=np.bool_)
    return int(refused.argmax()) if refused.any() else None


def _first_text(cells: list[str], missing: MissingName) -> int:
    """The index of the first cell that is not a number, found by bisection."""
    start, stop = 0, len(cells)
    while stop - start > 1:
        middle = (start + stop) // 2
        if _parse_numbers(cells[start:middle], missing) is None:
            stop = middle
        else:
            start = middle
    return start


def _parse_numbers(cells: list[str], missing: MissingName = "refuse") -> np.ndarray | None:
    """Read cells as pyarrow reads those of shards; None if one is not a number."""
    texts = [cell or None for cell in cells] if missing == "mask" else cells
    with suppress(pa.ArrowInvalid):
        numbers = pa.array(texts, pa.string()).cast(pa.float32())
        return np.asarray(numbers.to_numpy(zero_copy_only=False))
    return None
