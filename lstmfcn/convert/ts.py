"""Read .ts files, the format of sktime and of the UEA archive.

Lines that start with @ describe the data, up to ``@data``; lines that start with # or % are
comments. Then there is one series per row: values separated by commas, dimensions separated by
colons, and the class after the last colon. If values have times, each is a pair ``(time,value)``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from lstmfcn.console import pluralize
from lstmfcn.convert.series import ConvertRequest, ReadSeries, Series, parse_times, read_lines
from lstmfcn.data.columns import abbreviate
from lstmfcn.data.shards import Shard
from lstmfcn.data.table import class_name
from lstmfcn.errors import DataError
from lstmfcn.hyperparameters import MissingName

_PAIR = re.compile(r"\(([^()]*)\)")
_COLON = "\0"
"""Replaces a colon within a pair, which does not separate dimensions."""


@dataclass
class _Header:
    """The lines before the data: their texts by their names in small letters."""

    fields: dict[str, str] = field(default_factory=dict)

    def is_true(self, name: str) -> bool:
        return self.fields.get(name, "").lower().split()[:1] == ["true"]

    @property
    def is_labelled(self) -> bool:
        return self.is_true("classlabel") or self.is_true("targetlabel")

    @property
    def classes(self) -> list[str]:
        """The classes in the header; empty if it lists none."""
        return [class_name(name) for name in self.fields.get("classlabel", "").split()[1:]]

    def count(self, *names: str) -> int | None:
        """The number in the first of these lines; None if there is none."""
        texts = [self.fields[name] for name in names if name in self.fields]
        return int(texts[0]) if texts and texts[0].isdecimal() else None


def read_ts(shard: Shard, request: ConvertRequest) -> ReadSeries:
    """Read the series of a .ts file; rows that contradict its header raise `DataError`."""
    return partial(_iterate, shard, request)


def _iterate(shard: Shard, request: ConvertRequest) -> Iterator[Series]:
    lines = (line for line in read_lines(shard) if line and not line.startswith(("#", "%")))
    header = _read_header(lines, shard.path)
    is_labelled = header.is_labelled
    if request.label is None:
        _refuse_without_classes(header, shard.path)
        is_labelled = True
    for row, line in enumerate(lines, start=1):
        parts = _PAIR.sub(lambda pair: pair[0].replace(":", _COLON), line).split(":")
        label = parts.pop().strip() if is_labelled else None
        if not parts:
            raise DataError(
                "no class", "end the row with : and its class", file=shard.path, row=row
            )
        series = _parse_series(row, None if request.label == "none" else label, parts, shard.path)
        for found, statement in _differences(header, series, request.missing):
            fix = f"the header {statement}; correct one of the two"
            raise series.fault(shard.path, found, fix)
        yield series


def _read_header(lines: Iterator[str], file: str) -> _Header:
    header, unknown = _Header(), None
    for line in lines:
        if line.lower() == "@data":
            if unknown:
                raise DataError(
                    f"{unknown[:40]!r} before the line @data",
                    "start comments with # and lines that describe the data with @",
                    file=file,
                )
            return header
        if line.startswith("@"):
            name, *text = line[1:].split(maxsplit=1) or [""]
            header.fields[name.lower()] = "".join(text)
        else:
            unknown = unknown or line
    raise DataError("no line @data", "give a file in sktime's .ts format", file=file)


def _refuse_without_classes(header: _Header, file: str) -> None:
    if header.is_true("targetlabel"):
        raise DataError(
            "@targetLabel true: numbers to predict (regression), no classes",
            "lstmfcn only classifies; --label none drops the numbers",
            file=file,
        )
    if "classlabel" in header.fields and not header.is_true("classlabel"):
        raise DataError(
            f"@classLabel {header.fields['classlabel']}: rows without classes",
            "--label none converts them without labels, for lstmfcn predict",
            file=file,
        )


def _parse_series(row: int, label: str | None, parts: list[str], file: str) -> Series:
    if not any(part.lstrip().startswith("(") for part in parts):
        return Series(row, label, [list(map(str.strip, part.split(","))) for part in parts])
    channels, times = [], []
    for part in parts:
        pairs = [text.rpartition(",") for text in _PAIR.findall(part)]
        if not all(comma for _, comma, _ in pairs) or _PAIR.sub("", part).strip(", "):
            raise DataError(
                f"{part[:40]!r} among values with times",
                "write each value as (time,value)",
                file=file,
                row=row,
            )
        channels.append([value.strip() for *_, value in pairs])
        times.append([time.replace(_COLON, ":").strip() for time, *_ in pairs])
    return Series(row, label, channels, [parse_times(texts, file, row) for texts in times])


def _differences(
    header: _Header, series: Series, missing: MissingName
) -> Iterator[tuple[str, str]]:
    """What a row has, and what the header says instead."""
    n_channels, n_stated = len(series.channels), header.count("dimensions", "dimension")
    if n_stated is not None and n_channels != n_stated:
        yield pluralize(n_channels, "dimension"), f"says @dimensions {n_stated}"
    if header.is_true("univariate") and n_channels > 1:
        yield pluralize(n_channels, "dimension"), "says @univariate true"
    length = header.count("serieslength")
    for values in series.channels if length is not None and missing == "refuse" else []:
        if len(values) != length:
            yield pluralize(len(values), "value"), f"says @seriesLength {length}"
    if header.is_true("timestamps") and series.times is None:
        yield "values without times", "says @timeStamps true"
    name = class_name(series.label)
    if header.classes and name not in ("", "?", *header.classes):
        yield f"the class {name!r}", f"lists {abbreviate(header.classes)}"
