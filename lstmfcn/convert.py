"""Convert files of the UCR/UEA time-series archive (.tsv, .ts) to CSV shards.

.tsv: a row a series, its class first, separated by tabs, no header. .ts (sktime's format): lines
that start with @ describe the set, then a row a series: values separated by commas, then a colon
and the class; several dimensions are separated by colons. Series of another length than the first,
or with gaps (``?`` or ``NaN``), are refused by row, or get empty cells where that is asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from lstmfcn.channels import value_names
from lstmfcn.errors import DataError
from lstmfcn.files import local_path
from lstmfcn.hyperparameters import MissingName
from lstmfcn.shard_writing import write_shards

SUFFIXES = (".tsv", ".ts")
_GAPS = {"?", "nan", ""}
"""How the archive writes a missing value, in small letters: .ts, .tsv, and neither."""


class Series(NamedTuple):
    """One series as the archive file writes it: its row, class, and channels' values as text."""

    row: int
    label: str
    channels: list[list[str]]

    @property
    def values(self) -> list[str]:
        """Those of all channels, one after the other."""
        return [value for channel in self.channels for value in channel]


def convert(
    input: str,  # noqa: A002 - the flag's name
    output: str,
    shards: int = 1,
    missing: MissingName = "refuse",
) -> int:
    """Write an archive file as CSV shards: ``part-000.csv``, ... with columns y, x_1, x_2, ...

    Of several channels y, x1_1, x1_2, ... (channel, timepoint). Values are copied digit by digit,
    classes by name.

    Args:
        input: a .tsv or .ts file.
        output: a folder that does not exist yet or is empty.
        shards: how many files to spread the rows over, in order.
        missing: mask makes empty cells of gaps, and of what shorter series lack at their end.

    Returns:
        Rows written.

    Raises:
        DataError: the file is not such a file, or holds what cannot be converted.
        OutputError: the folder cannot be used.
    """
    folder = local_path(output)
    path = Path(input)
    if not path.exists():
        raise DataError("nothing", "check the path", file=input)
    if path.suffix not in SUFFIXES:
        raise DataError(
            "no archive file by its name", f"name one ending in {' or '.join(SUFFIXES)}", file=input
        )
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"a file that cannot be read ({error})", "check it", file=input) from error
    series = _tsv(lines) if path.suffix == ".tsv" else _ts(lines, input)
    if missing == "mask":
        series = _with_empty_cells(series)
    _check(series, input, missing)
    write_shards(
        folder,
        [s.label for s in series],
        [s.values for s in series],
        shards,
        len(series[0].channels),
    )
    return len(series)


def _tsv(lines: list[str]) -> list[Series]:
    rows = [(row, line.split("\t")) for row, line in enumerate(lines, start=1) if line.strip()]
    return [Series(row, label, [values]) for row, (label, *values) in rows]


def _ts(lines: list[str], file: str) -> list[Series]:
    data = [line.strip() for line in lines if line.strip() and not line.startswith(("#", "@"))]
    header = [line.lower() for line in lines if line.startswith("@")]
    if "@data" not in [line.strip() for line in header]:
        raise DataError("no line @data", "name a file in sktime's .ts format", file=file)
    series = []
    for row, line in enumerate(data, start=1):
        *dimensions, label = line.split(":")
        if not dimensions:
            raise DataError("no class", "end the row with : and its class", file=file, row=row)
        channels = [[cell.strip() for cell in cells.split(",")] for cells in dimensions]
        series.append(Series(row, label.strip(), channels))
    return series


def _with_empty_cells(series: list[Series]) -> list[Series]:
    """Gaps as empty text, and as many at the end of shorter series as the longest has more."""
    length = max((len(channel) for one in series for channel in one.channels), default=0)
    return [
        one._replace(
            channels=[
                ["" if value.lower() in _GAPS else value for value in channel]
                + [""] * (length - len(channel))
                for channel in one.channels
            ]
        )
        for one in series
    ]


def _check(series: list[Series], file: str, missing: MissingName) -> None:
    if not series:
        raise DataError("no series", "name a file that holds some", file=file)
    n_channels, length = len(series[0].channels), max(1, len(series[0].channels[0]))
    names = value_names(n_channels, length)
    for one in series:
        _check_lengths(one, n_channels, length, file)
        if not one.label:
            raise DataError("no class", "name the series' class", file=file, row=one.row)
        for name, value in zip(names, one.values, strict=True):
            if not _is_finite(value) and (value or missing == "refuse"):
                raise DataError(
                    repr(value),
                    "only series of numbers convert; --missing mask makes empty cells of gaps",
                    file=file,
                    row=one.row,
                    column=name,
                )


def _check_lengths(series: Series, n_channels: int, length: int, file: str) -> None:
    if len(series.channels) != n_channels:
        raise DataError(
            f"{len(series.channels)} dimensions",
            f"the first series has {n_channels}, and only equal numbers convert",
            file=file,
            row=series.row,
        )
    for number, values in enumerate(series.channels, start=1):
        if len(values) != length:
            raise DataError(
                f"{len(values)} values" + (f" in dimension {number}" if n_channels > 1 else ""),
                f"the first series has {length}; --missing mask fills up with empty cells",
                file=file,
                row=series.row,
            )


def _is_finite(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False
