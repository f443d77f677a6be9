"""Which channel and timepoint a value column holds, as its name says.

``x_1``, ``x1``, ``x-1`` or ``x.1`` are the timepoints of one channel; ``x1_1``, ``x_1_1`` or
``x_acc_1`` name the channel before the timepoint. Names that end in no number are taken where all
are so: one channel, in the order of the header.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from lstmfcn.column_names import odd_labels, some_of
from lstmfcn.errors import DataError

_NAME = re.compile(r"(x(?:.*?\D)??)((?:(?<=[_. ])-)?\d+(?:\.\d+)?)", re.ASCII | re.DOTALL)
"""All before the timepoint; and the timepoint, a number: 3, 0.5, or -3 after a separator."""

_SEPARATORS = "_-. "
_CHANNELS, _WITHOUT_NUMBER = "channels", "without number"


class Channels(NamedTuple):
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
        return list_names("x", n_timepoints)
    channels = range(1, n_channels + 1)
    return [name for channel in channels for name in list_names(f"x{channel}", n_timepoints)]


def list_names(column: str, n_timepoints: int) -> list[str]:
    """Column names of the values in a column of lists: ``x_1``, ... of ``x``."""
    return [f"{column}_{t}" for t in range(1, n_timepoints + 1)]


def channels_of(columns: Sequence[str], file: str | None = None) -> Channels:
    """Read channels and timepoints off the value columns.

    Channels and timepoints are compared as written, and stand as they first appear; timepoints as
    in the first channel.

    Raises:
        DataError: channels with different timepoints, or names that differ from those of the rest.
    """
    places = [_place_of(name) for name in columns]
    kinds = [_kind_of(place) for place in places]
    if len(set(kinds)) > 1:
        raise _mixed(columns, kinds, file)
    if _CHANNELS not in kinds:
        return Channels(1, tuple(columns))
    times_of: dict[str, dict[str, str]] = {}
    for name, place in zip(columns, places, strict=True):
        if place:
            times_of.setdefault(place.channel, {})[place.timepoint] = name
    if len(times_of) == 1:
        return Channels(1, tuple(columns))
    first, *others = times_of
    for channel in others:
        _refuse_other_times(first, channel, times_of, file)
    ordered = (times_of[channel][t] for channel in times_of for t in times_of[first])
    return Channels(len(times_of), tuple(ordered))


def timepoints_out_of_order(columns: Sequence[str]) -> tuple[str, str] | None:
    """The first two neighbours in a channel of which the second has the smaller timepoint.

    Args:
        columns: of values, one channel after the other. They stay in this order.
    """
    for name, other in pairwise(columns):
        place, next_one = _place_of(name), _place_of(other)
        if place and next_one and _falls(place, next_one):
            return name, other
    return None


def names_without_numbers(columns: Sequence[str]) -> list[str]:
    """Those of value columns whose names tell no timepoint; but for a single column."""
    found = [name for name in columns if _place_of(name) is None]
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
            f"the columns {some_of(free)} are a series in this order, though their names tell no "
            "timepoint; rename what is no value"
        )
    if odd := odd_labels(labels):
        found.append(
            f"the column {some_of(odd)} is read as labels, for its name starts with y; rename what "
            "is no label"
        )
    return found


def _falls(place: _Place, other: _Place) -> bool:
    return place.channel == other.channel and float(place.timepoint) > float(other.timepoint)


def _place_of(name: str) -> _Place | None:
    found = _NAME.fullmatch(name)
    return _Place(*found.groups()) if found else None


def _kind_of(place: _Place | None) -> str:
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
        f"the column {some_of(others)} beside {some_of(fitting)}",
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
