"""Series as a file of another form holds them, and the bounded lines that it is read by."""

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

from lstmfcn.cells import is_missing
from lstmfcn.convert.times import Times
from lstmfcn.dialect import MOST_LINE_CHARACTERS, LongLineError, lines_of_text
from lstmfcn.errors import DataError
from lstmfcn.hyperparameters import MissingName
from lstmfcn.layout import plain_bytes
from lstmfcn.reading import readable
from lstmfcn.shards import Shard

LabelName = Literal["first", "last", "none"]


class Wanted(NamedTuple):
    """What the user says of a file.

    Attributes:
        label: where the class of a row stands, or that no labels are wanted; None: as the file's
            form has it.
        header: whether a .csv has one: then it is a long table.
        n_channels: how many follow each other in a row; None where nothing is said.
        missing: whether values may be missing.
    """

    label: LabelName | None = None
    header: bool = True
    n_channels: int | None = None
    missing: MissingName = "refuse"


class Series(NamedTuple):
    """One series, its values as the file writes them.

    Attributes:
        row: where it stands, counted from 1.
        label: its class; None where no labels are wanted.
        channels: the values of each.
        times: when each of them was measured, of each channel, where the file says so.
        rows: where each of them stands, in a file of a row a value.
    """

    row: int
    label: str | None
    channels: list[list[str]]
    times: list[Times] | None = None
    rows: list[npt.NDArray[np.int64]] | None = None


@dataclass(frozen=True)
class Rereadable:
    """The series of a file, read anew each time that they are asked for."""

    read: Callable[[], Iterator[Series]]

    def __iter__(self) -> Iterator[Series]:
        return self.read()


def lines_of(shard: Shard) -> Iterator[str]:
    """A text file's lines, without blanks around them.

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
            limit = f"{MOST_LINE_CHARACTERS >> 20} MiB"
            raise DataError(
                f"a line of more than {limit}", "write a series a line", file=shard.path
            ) from error


def cells_of(line: str, separator: str | None) -> list[str]:
    """The cells of a line, without blanks around them; any blanks separate where None."""
    if separator is None:
        return line.split() or [""]
    if '"' in line:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator))]
    return [cell.strip() for cell in line.split(separator)]


def are_numbers(cells: list[str]) -> bool:
    """Whether training reads all of them as numbers."""
    return _as_numbers(cells) is not None


def is_gap(value: str) -> bool:
    """Whether a cell stands for a missing value; ``?`` is that of .ts and .arff."""
    return value.lower() in ("?", "nan") or is_missing(value)


def first_refused(cells: list[str], missing: MissingName) -> int | None:
    """The first cell that training would not take; it may be empty where values may be missing."""
    numbers = _as_numbers(cells, missing)
    if numbers is None:
        return _first_text(cells, missing)
    refused = ~np.isfinite(numbers)
    if missing == "mask":
        refused &= np.array([cell != "" for cell in cells], dtype=np.bool_)
    return int(refused.argmax()) if refused.any() else None


def _first_text(cells: list[str], missing: MissingName) -> int:
    """The first cell that is no number, of cells among which there is one."""
    start, stop = 0, len(cells)
    while stop - start > 1:
        middle = (start + stop) // 2
        if _as_numbers(cells[start:middle], missing) is None:
            stop = middle
        else:
            start = middle
    return start


def _as_numbers(cells: list[str], missing: MissingName = "refuse") -> np.ndarray | None:
    """What pyarrow, which reads shards, makes of them; None where one is no number."""
    texts = [cell or None for cell in cells] if missing == "mask" else cells
    with suppress(pa.ArrowInvalid):
        numbers = pa.array(texts, pa.string()).cast(pa.float32())
        return np.asarray(numbers.to_numpy(zero_copy_only=False))
    return None
