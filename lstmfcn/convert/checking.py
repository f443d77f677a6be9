"""What training would refuse in a series is refused before it is written."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lstmfcn.channels import value_names
from lstmfcn.convert.series import Series, first_refused, is_gap
from lstmfcn.convert.times import JITTER, are_equal, step_of
from lstmfcn.counts import number
from lstmfcn.errors import DataError
from lstmfcn.hyperparameters import MissingName

_NO_NAME = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Line breaks, other control characters, and halves of characters."""

logger = logging.getLogger(__name__)


@dataclass
class Shape:
    """What all series together are; none are zeros.

    Attributes:
        n_timepoints: of the longest.
        step: from one time to the next, where the file has times.
    """

    n_rows: int = 0
    n_channels: int = 0
    n_timepoints: int = 0
    has_labels: bool = False
    step: float | None = None


def with_empty_cells(series: Series) -> Series:
    """Gaps as empty text."""
    return series._replace(
        channels=[["" if is_gap(v) else v for v in channel] for channel in series.channels]
    )


def check(all_series: Iterable[Series], file: str, missing: MissingName) -> Shape:
    """Look at every series, and refuse the first that training would refuse.

    Raises:
        DataError: a series of another length or number of channels, a value that is no number, no
            class, times that the order alone does not say.
    """
    shape = Shape()
    for series in all_series:
        if not shape.n_rows:
            shape.n_channels = len(series.channels)
            shape.n_timepoints = len(series.channels[0])
            shape.has_labels = series.label is not None
        shape.n_rows += 1
        _check_lengths(series, shape, file, missing)
        _check_label(series, file)
        _check_values(series, file, missing)
        if series.times is not None:
            _check_times(series, shape, file)
    if not shape.n_rows:
        raise DataError("no series", "name a file that holds some", file=file)
    if shape.step is not None:
        logger.info("times are left out: each is %g after the one before", shape.step)
    return shape


def _check_lengths(series: Series, shape: Shape, file: str, missing: MissingName) -> None:
    if len(series.channels) != shape.n_channels:
        raise DataError(
            number(len(series.channels), "dimension"),
            f"the first series has {shape.n_channels}, and only equal numbers convert",
            file=file,
            row=series.row,
        )
    longest = max(len(values) for values in series.channels)
    if missing == "mask":
        shape.n_timepoints = max(shape.n_timepoints, longest)
    wanted = max(1, shape.n_timepoints)
    for i, values in enumerate(series.channels, start=1):
        if len(values) != wanted and missing == "refuse":
            raise DataError(
                number(len(values), "value")
                + (f" in dimension {i}" if shape.n_channels > 1 else ""),
                f"the first series has {wanted}; --missing mask fills up with empty cells",
                file=file,
                row=series.row,
            )
    if not longest:
        raise DataError("0 values", "leave the row out", file=file, row=series.row)


def _check_label(series: Series, file: str) -> None:
    label = series.label
    if label is None:
        return
    if not label.strip():
        raise DataError("no class", "name the series' class", file=file, row=series.row)
    if is_gap(label.strip()):
        raise DataError(
            f"{label!r}, which stands for a missing class",
            "name the series' class or leave the row out; --label none converts without labels",
            file=file,
            row=series.row,
        )
    if _NO_NAME.search(label):
        raise DataError(
            f"the class {label!r}",
            "write it in one line, without control characters",
            file=file,
            row=series.row,
        )


def _check_values(series: Series, file: str, missing: MissingName) -> None:
    values = [value for channel in series.channels for value in channel]
    refused = first_refused(values, missing)
    if refused is not None:
        hint = "; --missing mask makes empty cells of gaps" if missing == "refuse" else ""
        raise DataError(
            repr(values[refused]),
            f"only series of numbers convert{hint}",
            file=file,
            row=series.row if series.rows is None else int(np.concatenate(series.rows)[refused]),
            column=None if series.rows is not None else _column(series, refused),
        )
    if missing == "mask" and not any(values):
        raise DataError("no value at all", "leave the row out", file=file, row=series.row)


def _column(series: Series, index: int) -> str:
    """The column of a series' value, counted over all channels."""
    places = [(i, t) for i, values in enumerate(series.channels) for t in range(len(values))]
    channel, time = places[index]
    return value_names(len(series.channels), time + 1)[channel * (time + 1) + time]


def _check_times(series: Series, shape: Shape, file: str) -> None:
    for times in series.times or []:
        step = step_of(times)
        if step is None:
            raise DataError(
                "times that do not rise by equal steps",
                "resample them, or number the values 1, 2, ... where steps do not matter",
                file=file,
                row=series.row,
            )
        if shape.step and step and not are_equal(step, shape.step):
            raise DataError(
                f"times that are {step:g} apart",
                f"those before are {shape.step:g} apart: resample one of the two",
                file=file,
                row=series.row,
            )
        shape.step = shape.step or step
    starts = np.array([times[0] for times in series.times or [] if len(times)])
    if (np.abs(starts - starts[:1]) > JITTER * (shape.step or 0)).any():
        raise DataError(
            "channels that begin at different times",
            "cut them to the times that all have",
            file=file,
            row=series.row,
        )
