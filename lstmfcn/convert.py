"""Convert files of the UCR/UEA time-series archive (.tsv, .ts) to CSV shards.

.tsv: a row a series, its class first, separated by tabs, no header. .ts (sktime's format): lines
that start with @ describe the set, then a row a series: values separated by commas, then a colon
and the class. Only univariate series of equal length without gaps are converted; others are
refused by row.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from lstmfcn.errors import DataError
from lstmfcn.shard_writing import write_shards

SUFFIXES = (".tsv", ".ts")


class Series(NamedTuple):
    """One series as the archive file writes it: its row, its class and its values as text."""

    row: int
    label: str
    values: list[str]


def convert(input: str, output: str, shards: int = 1) -> int:  # noqa: A002 - the flag's name
    """Write an archive file as CSV shards: ``part-000.csv``, ... with columns y, x_1, x_2, ...

    Values are copied digit by digit, classes by name.

    Args:
        input: a .tsv or .ts file.
        output: a folder that does not exist yet or is empty.
        shards: how many files to spread the rows over, in order.

    Returns:
        Rows written.

    Raises:
        DataError: the file is not such a file, or holds what cannot be converted.
        OutputError: the folder cannot be used.
    """
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
    _check(series, input)
    write_shards(Path(output), [s.label for s in series], [s.values for s in series], shards)
    return len(series)


def _tsv(lines: list[str]) -> list[Series]:
    rows = [(row, line.split("\t")) for row, line in enumerate(lines, start=1) if line.strip()]
    return [Series(row, label, values) for row, (label, *values) in rows]


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
        if len(dimensions) != 1:
            raise DataError(
                f"{len(dimensions)} dimensions", "only univariate sets convert", file=file, row=row
            )
        series.append(
            Series(row, label.strip(), [cell.strip() for cell in dimensions[0].split(",")])
        )
    return series


def _check(series: list[Series], file: str) -> None:
    if not series:
        raise DataError("no series", "name a file that holds some", file=file)
    length = max(1, len(series[0].values))
    for row, label, values in series:
        if len(values) != length:
            raise DataError(
                f"{len(values)} values",
                f"the first series has {length}, and only equal lengths convert",
                file=file,
                row=row,
            )
        if not label:
            raise DataError("no class", "name the series' class", file=file, row=row)
        for i, value in enumerate(values, start=1):
            if not _is_finite(value):
                raise DataError(
                    repr(value),
                    "only series of numbers without gaps convert",
                    file=file,
                    row=row,
                    column=f"x_{i}",
                )


def _is_finite(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False
