"""Which channel and timepoint a value column holds: ``x{channel}_{timepoint}`` says so.

Any other names, ``x_1`` or ``x1``, are the timepoints of one channel.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from lstmfcn.errors import DataError

_NAME = re.compile(r"x(\d+)_(\d+)", re.ASCII)


class Channels(NamedTuple):
    """Value columns, one channel after the other, and how many channels they are."""

    n_channels: int
    columns: tuple[str, ...]


def value_names(n_channels: int, n_timepoints: int) -> list[str]:
    """Column names of values that have none: ``x_1``, ...; ``x1_1``, ... of several channels."""
    times = range(1, n_timepoints + 1)
    if n_channels == 1:
        return [f"x_{t}" for t in times]
    return [f"x{channel}_{t}" for channel in range(1, n_channels + 1) for t in times]


def channels_of(columns: Sequence[str], file: str | None = None) -> Channels:
    """Read channels and timepoints off the value columns.

    Channels and timepoints are compared as written, and stand as they first appear; timepoints as
    in the first channel.

    Raises:
        DataError: channels with different timepoints, or other names among those of channels.
    """
    places = [_NAME.fullmatch(name) for name in columns]
    if not all(places):
        _refuse_mixed(columns, [place is not None for place in places], file)
        return Channels(1, tuple(columns))
    times_of: dict[str, dict[str, str]] = {}
    for place in filter(None, places):
        times_of.setdefault(place[1], {})[place[2]] = place[0]
    if len(times_of) == 1:
        return Channels(1, tuple(columns))
    first, *others = times_of
    for channel in others:
        _refuse_other_times(first, channel, times_of, file)
    ordered = (times_of[channel][t] for channel in times_of for t in times_of[first])
    return Channels(len(times_of), tuple(ordered))


def _refuse_mixed(columns: Sequence[str], is_channel: Sequence[bool], file: str | None) -> None:
    if any(is_channel):
        other, one = columns[is_channel.index(False)], columns[is_channel.index(True)]
        raise DataError(
            f"the column {other} beside {one}",
            "name all values x1_1, x1_2, ... (channel, timepoint), or all of one channel x_1, x_2",
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
                f"channel {some} without x{some}_{missing[0]}{more}, which channel {other} has",
                "give every channel the same timepoints",
                file=file,
            )
