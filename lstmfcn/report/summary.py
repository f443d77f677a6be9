"""What the rows are: classes, lengths, and the middle of each class with its spread.

Shapes: N rows, C classes, K channels of T timepoints.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lstmfcn.cells import FloatArray
from lstmfcn.report.gathering import Gathered

BAND = (0.1, 0.9)
"""Quantiles that the band around a median runs between."""

CHANNELS_DRAWN = 4


class ClassSeries(NamedTuple):
    """One class: its rows, how many of them were sampled, and their median and band, (K, T) each.

    nan where no sampled row has a value.
    """

    name: str
    rows: int
    sampled: int
    median: FloatArray
    low: FloatArray
    high: FloatArray


class Lengths(NamedTuple):
    """Timepoints of the series up to their last values."""

    least: int
    median: float
    most: int


@dataclass(frozen=True)
class Summary:
    """The rows in numbers.

    Attributes:
        rows, shards: how many.
        n_timepoints, n_channels: of the model's input.
        lengths: of the series.
        all_lengths: of each row, (N,).
        gaps: the share of values missing before the end of their series.
        classes: a class each, in the model's order.
        channels: those that are drawn, from 0: the ones in which the classes' medians differ most.
        channel_names: of those.
        unlabelled: rows of multilabel without any label.
    """

    rows: int
    shards: int
    n_timepoints: int
    n_channels: int
    lengths: Lengths
    all_lengths: npt.NDArray[np.int64]
    gaps: float
    classes: list[ClassSeries]
    channels: list[int]
    channel_names: list[str]
    unlabelled: int


def summary_of(gathered: Gathered) -> Summary:
    """Summarise the rows; medians and bands are those of the sample."""
    schema, lengths = gathered.schema, gathered.lengths
    sample = gathered.sample
    series = sample.values.reshape(len(sample.values), schema.n_channels, schema.n_timepoints)
    true = gathered.columns.true
    sampled = true[sample.numbers] == 1
    classes = [
        ClassSeries(
            name, int(true[:, i].sum()), int(sampled[:, i].sum()), *_middle(series[sampled[:, i]])
        )
        for i, name in enumerate(schema.classes)
    ]
    channels = _telling_channels(classes, series)
    names = [
        schema.value_columns[k * schema.n_timepoints].rpartition("_")[0] or f"channel {k + 1}"
        for k in channels
    ]
    return Summary(
        rows=len(true),
        shards=len(gathered.shards),
        n_timepoints=schema.n_timepoints,
        n_channels=schema.n_channels,
        lengths=Lengths(int(lengths.min()), float(np.median(lengths)), int(lengths.max())),
        all_lengths=lengths,
        gaps=gathered.missing / int(lengths.sum() * schema.n_channels),
        classes=classes,
        channels=channels,
        channel_names=names,
        unlabelled=int((~true.any(axis=1)).sum()),
    )


def _middle(series: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Median and band of series (n, K, T), (K, T) each."""
    if not len(series):
        nothing = np.full(series.shape[1:], np.nan, dtype=np.float32)
        return nothing, nothing, nothing
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)  # past the longest series
        median, low, high = np.nanquantile(series, [0.5, *BAND], axis=0).astype(np.float32)
    return median, low, high


def _telling_channels(classes: list[ClassSeries], series: FloatArray) -> list[int]:
    """The channels in which the classes' medians lie furthest apart for the channel's spread."""
    if series.shape[1] <= CHANNELS_DRAWN:
        return list(range(series.shape[1]))
    medians = np.stack([one.median for one in classes if one.sampled])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=RuntimeWarning)  # nan where nothing is known
        apart = np.nanmean(np.nanstd(medians, axis=0), axis=1)
        spread = np.nanstd(series, axis=(0, 2))
        telling = np.nan_to_num(apart / np.maximum(spread, 1e-12))
    return sorted(np.argsort(-telling, kind="stable")[:CHANNELS_DRAWN].tolist())
