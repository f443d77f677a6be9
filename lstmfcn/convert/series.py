"""The series of a file that is converted: its lines, read within limits, its numbers and times."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import takewhile
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lstmfcn.data.columns import abbreviate
from lstmfcn.data.dialect import MAX_LINE_CHARACTERS, LongLineError, lines_of_text
from lstmfcn.data.layout import plain_bytes
from lstmfcn.data.reader import readable
from lstmfcn.data.shards import Shard
from lstmfcn.data.table import is_missing
from lstmfcn.errors import DataError
from lstmfcn.hyperparameters import MissingName

LabelName = Literal["first", "last", "none"]


class ConvertRequest(NamedTuple):
    """The user's options for a conversion, as in `lstmfcn.convert.run.convert`."""

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


ReadSeries = Callable[[], Iterator[Series]]
"""Reads the series of a file; every call reads the file again."""


def read_lines(shard: Shard) -> Iterator[str]:
    """Read lines, without spaces around them; one longer than a row of a shard is refused."""
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
        return [_parse_numbers([cell], missing) is None for cell in cells].index(True)
    refused = ~np.isfinite(numbers)
    if missing == "mask":
        refused &= np.array([cell != "" for cell in cells], dtype=np.bool_)
    return int(refused.argmax()) if refused.any() else None


def _parse_numbers(cells: list[str], missing: MissingName = "refuse") -> np.ndarray | None:
    """Read cells as pyarrow reads those of shards; None if one is not a number."""
    texts = [cell or None for cell in cells] if missing == "mask" else cells
    with suppress(pa.ArrowInvalid):
        numbers = pa.array(texts, pa.string()).cast(pa.float32())
        return np.asarray(numbers.to_numpy(zero_copy_only=False))
    return None


Times = npt.NDArray[np.float64]

JITTER = 0.01
"""Steps may differ by this fraction, because clocks have jitter."""


def parse_times(texts: Sequence[str], file: str, row: int | None = None) -> Times:
    """Read times as float64: numbers, ISO dates (in seconds), or numbers after a word, ``x_1``.

    Anything else raises `DataError`.
    """
    if not texts:
        return np.empty(0)
    first, last = min(texts), max(texts)
    equal = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    prefix = first[: sum(1 for _ in equal)].rstrip("+-.0123456789")
    as_numbers = [text[len(prefix) :] for text in texts]
    for cells, kind in (
        (as_numbers, pa.float64()),
        (texts, pa.timestamp("us")),
        (texts, pa.timestamp("us", "UTC")),
    ):
        try:
            times = pa.array(cells, pa.string()).cast(kind)
        except pa.ArrowInvalid:
            continue
        if pa.types.is_timestamp(kind):
            times = times.cast(pa.int64())
        seconds = 1e6 if pa.types.is_timestamp(kind) else 1.0
        return np.asarray(times.to_numpy() / seconds, dtype=np.float64)
    raise DataError(
        f"the times {abbreviate(texts)}",
        "write numbers, dates such as 2026-01-31 13:00:00, or one word followed by numbers (t1, "
        "t2)",
        file=file,
        row=row,
    )


def find_step(times: Times) -> float | None:
    """The step between all times; 0 for fewer than two, None if there is no single step."""
    if not np.isfinite(times).all():
        return None
    steps = np.diff(times)
    if not len(steps):
        return 0.0
    step = float(np.median(steps))
    return step if step > 0 and are_equal(steps, step) else None


def are_equal(steps: Times | float, step: float) -> bool:
    """Whether all steps are equal to ``step``, except for jitter."""
    return bool((np.abs(np.asarray(steps) - step) <= JITTER * step).all())
