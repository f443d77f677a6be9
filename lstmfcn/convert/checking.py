"""Refuse series that training would refuse, before anything is written."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lstmfcn.console import pluralize
from lstmfcn.convert.series import JITTER, Series, are_equal, find_step, first_refused, is_gap
from lstmfcn.data.columns import value_names
from lstmfcn.errors import DataError
from lstmfcn.hyperparameters import MissingName

_CONTROL_CHARACTERS = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Line breaks, other control characters and unpaired surrogates."""

logger = logging.getLogger(__name__)


@dataclass
class Shape:
    """The shape of all series together.

    Attributes:
        n_timepoints: the length of the longest series.
        step: the step between times, if the file has times.
    """

    n_rows: int = 0
    n_channels: int = 0
    n_timepoints: int = 0
    has_labels: bool = False
    step: float | None = None


def with_empty_cells(series: Series) -> Series:
    """Replace the texts of gaps by empty text."""
    return series._replace(
        channels=[["" if is_gap(text) else text for text in channel] for channel in series.channels]
    )


def validate_series(all_series: Iterable[Series], file: str, missing: MissingName) -> Shape:
    """Check every series, and refuse the first that training would refuse.

    Raises:
        DataError: a series has another length or number of channels, a value that is not a number,
            no class, or times that are not equally spaced.
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
        raise DataError("no series", "give a file that has some", file=file)
    if shape.step is not None:
        logger.info("times are not copied: they are %g apart", shape.step)
    return shape


def _check_lengths(series: Series, shape: Shape, file: str, missing: MissingName) -> None:
    if len(series.channels) != shape.n_channels:
        raise series.fault(
            file,
            pluralize(len(series.channels), "dimension"),
            f"the first series has {shape.n_channels}; all series need the same number",
        )
    longest = max(len(values) for values in series.channels)
    if missing == "mask":
        shape.n_timepoints = max(shape.n_timepoints, longest)
    expected = max(1, shape.n_timepoints)
    for i, values in enumerate(series.channels, start=1):
        if len(values) != expected and missing == "refuse":
            raise series.fault(
                file,
                pluralize(len(values), "value")
                + (f" in dimension {i}" if shape.n_channels > 1 else ""),
                f"the first series has {expected}; --missing mask fills shorter series with empty "
                "cells",
            )
    if not longest:
        raise series.fault(file, "0 values", "remove the row")


def _check_label(series: Series, file: str) -> None:
    label = series.label
    if label is None:
        return
    if not label.strip():
        raise series.fault(file, "no class", "write the class of the series")
    if is_gap(label.strip()):
        raise series.fault(
            file,
            f"{label!r}, which stands for a missing class",
            "write the class or remove the row; --label none converts without labels",
        )
    if _CONTROL_CHARACTERS.search(label):
        raise series.fault(
            file, f"the class {label!r}", "write it on one line, without control characters"
        )


def _check_values(series: Series, file: str, missing: MissingName) -> None:
    values = [value for channel in series.channels for value in channel]
    refused = first_refused(values, missing)
    if refused is not None:
        hint = "; --missing mask turns gaps into empty cells" if missing == "refuse" else ""
        raise DataError(
            repr(values[refused]),
            f"values must be numbers{hint}",
            file=file,
            row=series.row if series.rows is None else int(np.concatenate(series.rows)[refused]),
            column=None if series.rows is not None else _column(series, refused),
        )
    if missing == "mask" and not any(values):
        raise series.fault(file, "a row without any value", "remove the row")


def _column(series: Series, index: int) -> str:
    """The column name of a value, given by its index over all channels."""
    positions = [(i, t) for i, values in enumerate(series.channels) for t in range(len(values))]
    channel, time = positions[index]
    return value_names(len(series.channels), time + 1)[channel * (time + 1) + time]


def _check_times(series: Series, shape: Shape, file: str) -> None:
    for times in series.times or []:
        step = find_step(times)
        if step is None:
            raise series.fault(
                file,
                "times that do not increase in equal steps",
                "resample the series, or number the values 1, 2, ... if the times do not matter",
            )
        if shape.step and step and not are_equal(step, shape.step):
            raise series.fault(
                file,
                f"times that are {step:g} apart",
                f"earlier times are {shape.step:g} apart: resample to equal steps",
            )
        shape.step = shape.step or step
    starts = np.array([times[0] for times in series.times or [] if len(times)])
    if (np.abs(starts - starts[:1]) > JITTER * (shape.step or 0)).any():
        raise series.fault(
            file,
            "channels that start at different times",
            "keep only the times that all channels have",
        )
