"""Column names: which columns are labels and values, and each value's channel and timepoint.

Names that start with y are labels and those that start with x are values, unless `Roles` says
otherwise. In what follows, another first letter may stand for x.

``x_1``, ``x1``, ``x-1`` or ``x.1`` are the timepoints of one channel. ``x1_1``, ``x_1_1`` or
``x_acc_1`` name the channel before the timepoint. If no value name ends in a number, the columns
are one channel, in the order of the header.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import NamedTuple

from lstmfcn.console import is_number, pluralize
from lstmfcn.errors import DataError

_VALUE_NAME = re.compile(r"(\D(?:.*?\D)??)((?:(?<=[_. ])-)?\d+(?:\.\d+)?)", re.ASCII | re.DOTALL)
"""The text before the timepoint, and the timepoint: 3, 0.5, or -3 after a separator."""

_SEPARATORS = "_-. "

_USUAL_LABELS = ("label", "class", "target", "category", "outcome", "diagnosis")

_CHANNELS, _WITHOUT_NUMBER = "channels", "without number"


class Roles(NamedTuple):
    """Which columns are labels, and which are values.

    Attributes:
        label_column: names or patterns (``*`` and ``?``), separated by commas; empty for the names
            that start with y.
        value_columns: the same of values; empty for the names that start with x.
    """

    label_column: str = ""
    value_columns: str = ""

    def labels(self, header: Sequence[str]) -> list[str]:
        """The label columns of a header."""
        if self.label_column:
            return [name for name in header if _fits(name, self.label_column)]
        names = (name for name in header if name.startswith("y"))
        return [name for name in names if not _fits(name, self.value_columns)]

    def values(self, header: Sequence[str]) -> list[str]:
        """The value columns of a header; a label is none."""
        labels = {*self.labels(header)}
        if self.value_columns:
            fitting = (name for name in header if _fits(name, self.value_columns))
        else:
            fitting = (name for name in header if name.startswith("x"))
        return [name for name in fitting if name not in labels]

    def ignored(self, headers: Iterable[Sequence[str]]) -> list[str]:
        """The names in any of the headers that are neither labels nor values, sorted."""
        ignored: set[str] = set()
        for header in headers:
            ignored.update({*header} - {*self.labels(header)} - {*self.values(header)})
        return sorted(ignored)


BY_FIRST_LETTER = Roles()


def _fits(name: str, patterns: str) -> bool:
    parts = [part.strip() for part in patterns.split(",")]
    return name in (patterns, *parts) or any(fnmatchcase(name, part) for part in parts)


class ChannelLayout(NamedTuple):
    """The number of channels, and the value columns, one channel after the other."""

    n_channels: int
    columns: tuple[str, ...]


class DataWarning(NamedTuple):
    """A warning about data that training accepts.

    Attributes:
        kind: a name for programs.
        advice: what to do if it is not intended.
        n: the number of rows, columns, values or classes concerned.
        places: where some of them are.
    """

    kind: str
    found: str
    advice: str
    n: int
    places: Sequence[str] = ()

    def __str__(self) -> str:
        return f"{self.found}; {self.advice}"


class _Position(NamedTuple):
    """What the name of a value column says: the channel (as its prefix) and the timepoint."""

    channel: str
    timepoint: str


def abbreviate(names: Sequence[str]) -> str:
    """List names for a message: all of them, or the first two, the last, and the count."""
    if len(names) <= 6:
        return ", ".join(names) or "nothing"
    return f"{names[0]}, {names[1]}, ... {names[-1]} ({len(names)} in all)"


def odd_labels(labels: Sequence[str]) -> list[str]:
    """Label columns that may start with y by accident, such as ``year``: a letter follows."""
    return [name for name in labels if name[1:2].isalpha()]


def blank_faults(header: Sequence[str], file: str | None) -> Iterator[DataError]:
    """Report spaces around the names of value or label columns."""
    padded = (name for name in header if name != name.strip())
    names = [repr(name) for name in padded if name.strip().startswith(("x", "y"))]
    if names:
        yield DataError(
            f"spaces around the column name {abbreviate(names)}", "remove them", file=file
        )


def repeat_faults(columns: Sequence[str], file: str | None) -> Iterator[DataError]:
    """Report names that occur more than once."""
    repeated = [name for name, count in Counter(columns).items() if count > 1]
    if repeated:
        yield DataError(
            f"the column {abbreviate(repeated)} more than once",
            "give each column a different name",
            file=file,
        )


def label_name_faults(labels: Sequence[str], file: str | None) -> Iterator[DataError]:
    """Report label columns that cannot all be meant, such as ``year`` beside ``y`` or ``y_1``."""
    odd = odd_labels(labels)
    if "y" in labels and len(labels) > 1:
        yield DataError(
            f"{len(labels)} columns whose names start with y ({abbreviate(labels)})",
            "keep only y (class names), or only y_1, y_2, ... (0 or 1); rename columns that are "
            "not labels",
            file=file,
        )
    elif odd and len(odd) < len(labels):
        others = [name for name in labels if not name[1:2].isalpha()]
        yield DataError(
            f"the label column {abbreviate(odd)} beside {abbreviate(others)}",
            "rename columns that are not labels (names that start with y are labels), or name all "
            "labels y_1, y_2, ...",
            file=file,
        )


def column_faults(
    kind: str,
    header: Sequence[str],
    expected: Sequence[str],
    file: str | None,
    roles: Roles = BY_FIRST_LETTER,
) -> Iterator[DataError]:
    """Report value or label columns that are missing, unexpected or repeated.

    Args:
        kind: "value" or "label".
        expected: the names of this kind that the file must have, in any order.
    """
    columns = roles.values(header) if kind == "value" else roles.labels(header)
    yield from repeat_faults(columns, file)
    present, required = set(columns), set(expected)
    if present == required:
        return
    count = pluralize(len(expected), f"{kind} column") if len(expected) > 1 else f"{kind} column"
    fix = f"the file must have the {count} {abbreviate(expected)}"
    if not columns:
        unlabelled = "; for data without labels use lstmfcn predict" if kind == "label" else ""
        yield no_columns_fault(header, kind, file, fix + unlabelled, roles)
        return
    missing = [name for name in expected if name not in present]
    unexpected = [name for name in columns if name not in required]
    differences = [f"missing: {abbreviate(missing)}"] if missing else []
    differences += [f"unexpected: {abbreviate(unexpected)}"] if unexpected else []
    count = pluralize(len(columns), f"{kind} column")
    yield DataError(f"{count} ({'; '.join(differences)})", fix, file=file)


def no_columns_fault(
    header: Sequence[str],
    kind: str,
    file: str | None,
    fix: str = "",
    roles: Roles = BY_FIRST_LETTER,
) -> DataError:
    """Describe a header that has no value column, or no label column.

    Args:
        kind: "value" or "label".
        fix: what to do, unless the header itself shows what is wrong.
    """
    wanted = roles.value_columns if kind == "value" else roles.label_column
    if wanted:
        flag = "--value-columns" if kind == "value" else "--label-column"
        found = f"no column {wanted!r}, as {flag} names, in the header ({abbreviate(header)})"
        return DataError(found, fix or f"correct {flag}", file=file)
    found = f"no {kind} column in the header ({abbreviate(header)})"
    capitals = [name for name in header if name.startswith("X" if kind == "value" else "Y")]
    if header and sum(map(is_number, header)) > len(header) / 2:
        found = f"numbers instead of column names ({abbreviate(header)})"
        fix = "add a first line with the column names, such as y,x_1,x_2"
    elif capitals:
        labels = [name for name in header if name.startswith("Y")] if kind == "value" else []
        renames = [f"{name} to {name[0].lower()}{name[1:]}" for name in [*capitals, *labels]]
        fix = f"names are case-sensitive: rename {abbreviate(renames)}"
    if not fix:
        fix = f"start the names of the {kind} columns with {'x' if kind == 'value' else 'y'}"
        if len(header) > 1:
            fix += f", or add {_guess_flags(header, roles)}"
        elif kind == "value":
            fix += ", and separate names by commas"
    return DataError(found, fix, file=file)


def _guess_flags(header: Sequence[str], roles: Roles) -> str:
    """The flags that name the columns that no first letter names."""
    labels = [] if roles.label_column else roles.labels(header)
    needs_labels = not roles.label_column and labels == odd_labels(labels)
    flags = [f"--label-column {_guess_label(header)}"] if needs_labels else []
    if not roles.values(header):
        flags.append(f"--value-columns {_guess_values(header)}")
    return " ".join(flags)


def _guess_values(header: Sequence[str]) -> str:
    """The pattern of the largest group of names that differ in their number only."""
    positions = [position for name in header if (position := _parse_name(name))]
    groups = Counter(position.channel for position in positions)
    if not groups:
        return "NAMES"
    return shlex.quote(f"{groups.most_common(1)[0][0]}*")


def _guess_label(header: Sequence[str]) -> str:
    """The name that most likely means the label."""
    usual = [name for name in header if name.strip().lower() in _USUAL_LABELS]
    return shlex.quote(usual[0]) if usual else "NAME"


def value_names(n_channels: int, n_timepoints: int) -> list[str]:
    """Make names for value columns: ``x_1``, ...; with several channels ``x1_1``, ..."""
    if n_channels == 1:
        return list_column_names("x", n_timepoints)
    channels = range(1, n_channels + 1)
    return [name for channel in channels for name in list_column_names(f"x{channel}", n_timepoints)]


def list_column_names(column: str, n_timepoints: int) -> list[str]:
    """Make names for the values of a list column: ``x_1``, ``x_2``, ... for ``x``."""
    return [f"{column}_{t}" for t in range(1, n_timepoints + 1)]


def parse_channels(columns: Sequence[str], file: str | None = None) -> ChannelLayout:
    """Find the channels and timepoints in the names of value columns.

    Channels keep the order in which they first appear, timepoints the order of the first channel.
    Both are compared as text.

    Raises:
        DataError: channels with different timepoints, or names that do not fit the others.
    """
    positions = [_parse_name(name) for name in columns]
    kinds = [_name_kind(position) for position in positions]
    if len(set(kinds)) > 1:
        raise _mixed_names_fault(columns, kinds, file)
    if _CHANNELS not in kinds:
        return ChannelLayout(1, tuple(columns))
    channels: dict[str, dict[str, str]] = {}
    for name, position in zip(columns, positions, strict=True):
        if position:
            channels.setdefault(position.channel, {})[position.timepoint] = name
    if len(channels) == 1:
        return ChannelLayout(1, tuple(columns))
    first, *others = channels
    for channel in others:
        _refuse_different_timepoints(first, channel, channels, file)
    ordered = (channels[channel][t] for channel in channels for t in channels[first])
    return ChannelLayout(len(channels), tuple(ordered))


def timepoints_out_of_order(columns: Sequence[str]) -> tuple[str, str] | None:
    """The first two neighbours in a channel whose timepoints decrease, or None."""
    for name, following in pairwise(columns):
        position, next_position = _parse_name(name), _parse_name(following)
        if position and next_position and _decreases(position, next_position):
            return name, following
    return None


def names_without_numbers(columns: Sequence[str]) -> list[str]:
    """Value columns whose names have no timepoint; empty if there is only one value column."""
    names = [name for name in columns if _parse_name(name) is None]
    return names if len(columns) > 1 else []


def naming_warnings(values: Sequence[str], labels: Sequence[str]) -> Iterator[DataWarning]:
    """Warn of value and label columns whose names may not mean what they are read as."""
    if decreasing := timepoints_out_of_order(values):
        yield DataWarning(
            "column_order",
            f"the column {decreasing[0]} before {decreasing[1]} in the header, and series keep the "
            "order of the header",
            "reorder the columns if it is not the order in time",
            2,
        )
    if unnumbered := names_without_numbers(values):
        yield DataWarning(
            "names_without_numbers",
            f"{pluralize(len(unnumbered), 'value column')} without a number in the name: "
            f"{abbreviate(unnumbered)}; they are read as one channel, in the order of the header",
            "rename columns that are not values, so that they do not start with x",
            len(unnumbered),
        )
    if odd := odd_labels(labels):
        yield DataWarning(
            "odd_labels",
            f"the {'column' if len(odd) == 1 else 'columns'} {abbreviate(odd)}, read as labels "
            "because the name starts with y",
            "rename columns that are not labels",
            len(odd),
        )


def _decreases(position: _Position, following: _Position) -> bool:
    same_channel = position.channel == following.channel
    return same_channel and float(position.timepoint) > float(following.timepoint)


def _parse_name(name: str) -> _Position | None:
    match = _VALUE_NAME.fullmatch(name)
    return _Position(*match.groups()) if match else None


def _name_kind(position: _Position | None) -> str:
    """What all names must share: whether they name a channel, and if not, the separator."""
    if position is None:
        return _WITHOUT_NUMBER
    return _CHANNELS if position.channel[1:].strip(_SEPARATORS) else position.channel


def _mixed_names_fault(columns: Sequence[str], kinds: Sequence[str], file: str | None) -> DataError:
    """Describe the names that differ in kind from most of those that end in a number."""
    ((usual, _),) = Counter(kind for kind in kinds if kind != _WITHOUT_NUMBER).most_common(1)
    fitting = [name for name, kind in zip(columns, kinds, strict=True) if kind == usual]
    different = [name for name, kind in zip(columns, kinds, strict=True) if kind != usual]
    return DataError(
        f"the column {abbreviate(different)} beside {abbreviate(fitting)}",
        "rename columns that are not values (names that start with x are values), or name all "
        "values x_1, x_2, ... or x1_1, x1_2, ... (channel, timepoint)",
        file=file,
    )


def _refuse_different_timepoints(
    first: str, second: str, channels: dict[str, dict[str, str]], file: str | None
) -> None:
    for channel, other in ((second, first), (first, second)):
        missing = [t for t in channels[other] if t not in channels[channel]]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise DataError(
                f"channel {_short_name(channel)} without {channel}{missing[0]}{more}, which "
                f"channel {_short_name(other)} has",
                "give all channels the same timepoints; name the columns of a single channel x_1, "
                "x_2, ...; rename columns that are not values",
                file=file,
            )


def _short_name(channel: str) -> str:
    return channel.removeprefix("x").strip(_SEPARATORS)
