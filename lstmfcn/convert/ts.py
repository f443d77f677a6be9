"""Files of sktime's .ts format, that of the UEA archive.

Lines that start with @ describe the set, up to ``@data``; those that start with # or % are
comments. Then a row a series: values separated by commas, several dimensions separated by colons,
and its class behind the last colon. Where values have times, each is a pair ``(time,value)``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from lstmfcn.cells import class_name
from lstmfcn.column_names import some_of
from lstmfcn.convert.series import Rereadable, Series, Wanted, lines_of
from lstmfcn.convert.times import times_of
from lstmfcn.counts import number
from lstmfcn.errors import DataError
from lstmfcn.hyperparameters import MissingName
from lstmfcn.shards import Shard

_PAIR = re.compile(r"\(([^()]*)\)")
_COLON = "\0"
"""Stands for a colon within a pair, which separates no dimensions."""


@dataclass
class _Header:
    """What the lines before the data say, by their names in small letters."""

    said: dict[str, str] = field(default_factory=dict)

    def is_true(self, name: str) -> bool:
        return self.said.get(name, "").lower().split()[:1] == ["true"]

    @property
    def is_labelled(self) -> bool:
        return self.is_true("classlabel") or self.is_true("targetlabel")

    @property
    def classes(self) -> list[str]:
        """Those that are listed; none where the header lists none."""
        return [class_name(name) for name in self.said.get("classlabel", "").split()[1:]]

    def count(self, *names: str) -> int | None:
        """A number that the header gives."""
        texts = [self.said[name] for name in names if name in self.said]
        return int(texts[0]) if texts and texts[0].isdecimal() else None


def read_ts(shard: Shard, wanted: Wanted) -> Rereadable:
    """The series of a .ts file.

    Raises:
        DataError: the header says that there are no classes, or a row is not as the header says.
    """
    return Rereadable(lambda: _series(shard, wanted))


def _series(shard: Shard, wanted: Wanted) -> Iterator[Series]:
    lines = (line for line in lines_of(shard) if line and not line.startswith(("#", "%")))
    header = _header(lines, shard.path)
    is_labelled = header.is_labelled
    if wanted.label is None:
        _refuse_without_classes(header, shard.path)
        is_labelled = True
    for row, line in enumerate(lines, start=1):
        parts = _PAIR.sub(lambda pair: pair[0].replace(":", _COLON), line).split(":")
        label = parts.pop().strip() if is_labelled else None
        if not parts:
            raise DataError(
                "no class", "end the row with : and its class", file=shard.path, row=row
            )
        series = _one(row, None if wanted.label == "none" else label, parts, shard.path)
        _refuse_otherwise(header, series, wanted, shard.path)
        yield series


def _header(lines: Iterator[str], file: str) -> _Header:
    header, other = _Header(), None
    for line in lines:
        if line.lower() == "@data":
            if other:
                raise DataError(
                    f"{other[:40]!r} before the line @data",
                    "begin a comment with # and what describes the set with @",
                    file=file,
                )
            return header
        if line.startswith("@"):
            name, *said = line[1:].split(maxsplit=1) or [""]
            header.said[name.lower()] = "".join(said)
        else:
            other = other or line
    raise DataError("no line @data", "name a file in sktime's .ts format", file=file)


def _refuse_without_classes(header: _Header, file: str) -> None:
    if header.is_true("targetlabel"):
        raise DataError(
            "@targetLabel true: numbers to predict (regression), no classes",
            "lstmfcn classifies; --label none leaves the numbers out",
            file=file,
        )
    if "classlabel" in header.said and not header.is_true("classlabel"):
        raise DataError(
            f"@classLabel {header.said['classlabel']}: rows without classes",
            "--label none converts them without labels, for lstmfcn predict",
            file=file,
        )


def _one(row: int, label: str | None, parts: list[str], file: str) -> Series:
    if not any(part.lstrip().startswith("(") for part in parts):
        return Series(row, label, [_cells(part) for part in parts])
    pairs = []
    for part in parts:
        found = [text.rpartition(",") for text in _PAIR.findall(part)]
        if not all(comma for _, comma, _ in found) or _PAIR.sub("", part).strip(", "):
            raise DataError(
                f"{part[:40]!r} among values with times",
                "write each as (time,value)",
                file=file,
                row=row,
            )
        pairs.append(found)
    channels = [[value.strip() for *_, value in found] for found in pairs]
    texts = [[time.replace(_COLON, ":").strip() for time, *_ in found] for found in pairs]
    times = [times_of(own, file, row) for own in texts]
    return Series(row, label, channels, times)


def _cells(part: str) -> list[str]:
    return [cell.strip() for cell in part.split(",")]


def _refuse_otherwise(header: _Header, series: Series, wanted: Wanted, file: str) -> None:
    """Refuse a row that is not as the header says."""
    for found, said in _differences(header, series, wanted.missing):
        fix = f"the header {said}; correct one of the two"
        raise DataError(found, fix, file=file, row=series.row)


def _differences(
    header: _Header, series: Series, missing: MissingName
) -> Iterator[tuple[str, str]]:
    """What a row is, and what the header says of it."""
    n_channels, n_said = len(series.channels), header.count("dimensions", "dimension")
    if n_said is not None and n_channels != n_said:
        yield number(n_channels, "dimension"), f"says @dimensions {n_said}"
    if header.is_true("univariate") and n_channels > 1:
        yield number(n_channels, "dimension"), "says @univariate true"
    length = header.count("serieslength")
    for values in series.channels if length is not None and missing == "refuse" else []:
        if len(values) != length:
            yield number(len(values), "value"), f"says @seriesLength {length}"
    if header.is_true("timestamps") and series.times is None:
        yield "values without times", "says @timeStamps true"
    name = class_name(series.label)
    if header.classes and name not in ("", "?", *header.classes):
        yield f"the class {name!r}", f"lists {some_of(header.classes)}"
