"""Names of columns: which are labels, and which channel and timepoint a value column holds.

``x_1``, ``x1``, ``x-1`` or ``x.1`` are the timepoints of one channel; ``x1_1``, ``x_1_1`` or
``x_acc_1`` name the channel before the timepoint. Names that end in no number are taken where all
are so: one channel, in the order of the header.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from lstmfcn.console import is_number, pluralize
from lstmfcn.errors import DataError

_NAME = re.compile(r"(x(?:.*?\D)??)((?:(?<=[_. ])-)?\d+(?:\.\d+)?)", re.ASCII | re.DOTALL)
"""All before the timepoint; and the timepoint, a number: 3, 0.5, or -3 after a separator."""

_SEPARATORS = "_-. "

_CHANNELS, _WITHOUT_NUMBER = "channels", "without number"


def value_columns(header: Sequence[str]) -> list[str]:
    """The names that start with x."""
    return [name for name in header if name.startswith("x")]


def label_columns(header: Sequence[str]) -> list[str]:
    """The names that start with y."""
    return [name for name in header if name.startswith("y")]


def odd_labels(labels: Sequence[str]) -> list[str]:
    """Those of label columns that may start with y by chance, as ``year``: a letter follows."""
    return [name for name in labels if name[1:2].isalpha()]


def blank_faults(header: Sequence[str], file: str | None) -> Iterator[DataError]:
    """Blanks around the names of value or label columns."""
    padded = (name for name in header if name != name.strip())
    blank = [repr(name) for name in padded if name.strip().startswith(("x", "y"))]
    if blank:
        yield DataError(
            f"blanks around the column name {abbreviate(blank)}", "remove them", file=file
        )


def repeat_faults(columns: Sequence[str], file: str | None) -> Iterator[DataError]:
    """Names that stand there twice."""
    repeated = [name for name, count in Counter(columns).items() if count > 1]
    if repeated:
        yield DataError(
            f"the column {abbreviate(repeated)} more than once",
            "give every column a name of its own",
            file=file,
        )


def label_name_faults(labels: Sequence[str], file: str | None) -> Iterator[DataError]:
    """Label columns that cannot all be meant: beside ``y``, or by chance beside ``y_1``."""
    odd = odd_labels(labels)
    if "y" in labels and len(labels) > 1:
        yield DataError(
            f"{len(labels)} label columns that start with y ({abbreviate(labels)})",
            "keep y alone, which holds class names, or y_1, y_2, ... of 0 and 1; rename what is no "
            "label",
            file=file,
        )
    elif odd and len(odd) < len(labels):
        yield DataError(
            f"the label column {abbreviate(odd)} beside "
            f"{abbreviate([name for name in labels if name not in set(odd)])}",
            "rename what is no label, for names that start with y are labels; name all labels y_1, "
            "y_2, ...",
            file=file,
        )


def column_faults(
    kind: str, header: Sequence[str], expected: Sequence[str], file: str | None
) -> Iterator[DataError]:
    """Why the value or label columns of a header are not those that are expected.

    Args:
        kind: "value" or "label".
        header: all names.
        expected: of that kind, in any order.
        file: for the message.
    """
    found = value_columns(header) if kind == "value" else label_columns(header)
    yield from repeat_faults(found, file)
    there, wanted = set(found), set(expected)
    if there == wanted:
        return
    fix = f"give it the {pluralize(len(expected), f'{kind} column')} {abbreviate(expected)}"
    if not found:
        unlabelled = "; for data without labels use lstmfcn predict" if kind == "label" else ""
        yield lack_fault(header, kind, fix + unlabelled, file)
        return
    missing = [name for name in expected if name not in there]
    extra = [name for name in found if name not in wanted]
    differences = [f"without {abbreviate(missing)}"] if missing else []
    differences += [f"with {abbreviate(extra)} beside them"] if extra else []
    count = pluralize(len(found), f"{kind} column")
    yield DataError(f"{count}, {', '.join(differences)}", fix, file=file)


def lack_fault(header: Sequence[str], kind: str, fix: str, file: str | None) -> DataError:
    """What to say of a header without any value column, or without any label column.

    Args:
        header: all names.
        kind: "value" or "label".
        fix: what to do, where the header does not tell why.
        file: for the message.
    """
    found = f"no {kind} column in the header ({abbreviate(header)})"
    capitals = [name for name in header if name.startswith("X" if kind == "value" else "Y")]
    if header and sum(map(is_number, header)) > len(header) / 2:
        found = f"numbers in place of column names ({abbreviate(header)})"
        fix = "write the names as the first line of the file, such as y,x_1,x_2"
    elif capitals:
        others = [name for name in header if name.startswith("Y")] if kind == "value" else []
        renames = [f"{name} to {name[0].lower()}{name[1:]}" for name in [*capitals, *others]]
        fix = f"names are case-sensitive: rename {abbreviate(renames)}"
    return DataError(found, fix, file=file)


def abbreviate(names: Sequence[str]) -> str:
    """A few of many names: the first, the last, and how many."""
    if len(names) <= 6:
        return ", ".join(names) or "nothing"
    return f"{names[0]}, {names[1]}, ... {names[-1]} ({len(names)} in all)"


class ChannelLayout(NamedTuple):
    """Value columns, one channel after the other, and how many channels they are."""

    n_channels: int
    columns: tuple[str, ...]


class _Place(NamedTuple):
    """Where a value stands: its channel, as the beginning of the name, and its timepoint."""

    channel: str
    timepoint: str


def value_names(n_channels: int, n_timepoints: int) -> list[str]:
    """Column names of values that have none: ``x_1``, ...; ``x1_1``, ... of several channels."""
    if n_channels == 1:
        return list_column_names("x", n_timepoints)
    channels = range(1, n_channels + 1)
    return [name for channel in channels for name in list_column_names(f"x{channel}", n_timepoints)]


def list_column_names(column: str, n_timepoints: int) -> list[str]:
    """Column names of the values in a column of lists: ``x_1``, ... of ``x``."""
    return [f"{column}_{t}" for t in range(1, n_timepoints + 1)]


def parse_channels(columns: Sequence[str], file: str | None = None) -> ChannelLayout:
    """Read channels and timepoints off the value columns.

    Channels and timepoints are compared as written, and stand as they first appear; timepoints as
    in the first channel.

    Raises:
        DataError: channels with different timepoints, or names that differ from those of the rest.
    """
    places = [_parse_name(name) for name in columns]
    kinds = [_name_kind(place) for place in places]
    if len(set(kinds)) > 1:
        raise _mixed(columns, kinds, file)
    if _CHANNELS not in kinds:
        return ChannelLayout(1, tuple(columns))
    times_of: dict[str, dict[str, str]] = {}
    for name, place in zip(columns, places, strict=True):
        if place:
            times_of.setdefault(place.channel, {})[place.timepoint] = name
    if len(times_of) == 1:
        return ChannelLayout(1, tuple(columns))
    first, *others = times_of
    for channel in others:
        _refuse_other_times(first, channel, times_of, file)
    ordered = (times_of[channel][t] for channel in times_of for t in times_of[first])
    return ChannelLayout(len(times_of), tuple(ordered))


def timepoints_out_of_order(columns: Sequence[str]) -> tuple[str, str] | None:
    """The first two neighbours in a channel of which the second has the smaller timepoint.

    Args:
        columns: of values, one channel after the other. They stay in this order.
    """
    for name, other in pairwise(columns):
        place, next_one = _parse_name(name), _parse_name(other)
        if place and next_one and _falls(place, next_one):
            return name, other
    return None


def names_without_numbers(columns: Sequence[str]) -> list[str]:
    """Those of value columns whose names tell no timepoint; but for a single column."""
    found = [name for name in columns if _parse_name(name) is None]
    return found if len(columns) > 1 else []


def naming_warnings(values: Sequence[str], labels: Sequence[str]) -> list[str]:
    """What names of value and label columns say that may not be meant."""
    found = []
    if falling := timepoints_out_of_order(values):
        found.append(
            f"the columns {falling[0]} and {falling[1]} stand in this order, which is that of the "
            "header, and so does the series; order the columns if time is meant"
        )
    if free := names_without_numbers(values):
        found.append(
            f"the columns {abbreviate(free)} are a series in this order, though their names tell "
            "no timepoint; rename what is no value"
        )
    if odd := odd_labels(labels):
        found.append(
            f"the column {abbreviate(odd)} is read as labels, for its name starts with y; rename "
            "what is no label"
        )
    return found


def _falls(place: _Place, other: _Place) -> bool:
    return place.channel == other.channel and float(place.timepoint) > float(other.timepoint)


def _parse_name(name: str) -> _Place | None:
    found = _NAME.fullmatch(name)
    return _Place(*found.groups()) if found else None


def _name_kind(place: _Place | None) -> str:
    """What names must share: a channel named or not, and if not, the separator."""
    if place is None:
        return _WITHOUT_NUMBER
    return _CHANNELS if place.channel[1:].strip(_SEPARATORS) else place.channel


def _mixed(columns: Sequence[str], kinds: Sequence[str], file: str | None) -> DataError:
    """What to say of names that differ from those of most that end in a number."""
    ((usual, _),) = Counter(kind for kind in kinds if kind != _WITHOUT_NUMBER).most_common(1)
    fitting = [name for name, kind in zip(columns, kinds, strict=True) if kind == usual]
    others = [name for name, kind in zip(columns, kinds, strict=True) if kind != usual]
    return DataError(
        f"the column {abbreviate(others)} beside {abbreviate(fitting)}",
        "rename what is no value, for names that start with x are values; name all values x_1, "
        "x_2, ..., or x1_1, x1_2, ... (channel, timepoint)",
        file=file,
    )


def _refuse_other_times(
    first: str, channel: str, times_of: dict[str, dict[str, str]], file: str | None
) -> None:
    for some, other in ((channel, first), (first, channel)):
        missing = [t for t in times_of[other] if t not in times_of[some]]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise DataError(
                f"channel {_shown(some)} without {some}{missing[0]}{more}, which channel "
                f"{_shown(other)} has",
                "give every channel the same timepoints, or name those of one channel x_1, x_2, "
                "...; rename what is no value",
                file=file,
            )


def _shown(channel: str) -> str:
    return channel[1:].strip(_SEPARATORS)
