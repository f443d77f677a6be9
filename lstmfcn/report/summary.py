"""Summarise the rows: classes, lengths, and the median of each class with its spread.

Shapes: N rows, C classes, K channels of T timepoints.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lstmfcn.data.table import FloatArray
from lstmfcn.report.predictions import Predictions

BAND = (0.1, 0.9)
"""The quantiles that bound the band around a median."""

CHANNELS_DRAWN = 4


class ClassSeries(NamedTuple):
    """One class: its rows, its sampled rows, and their median and band, (K, T) each.

    Values are nan where no sampled row has a value.
    """

    name: str
    rows: int
    sampled: int
    median: FloatArray
    low: FloatArray
    high: FloatArray


class Lengths(NamedTuple):
    """Shortest, median and longest length of the series, in timepoints up to the last value."""

    least: int
    median: float
    most: int


@dataclass(frozen=True)
class Summary:
    """Statistics of the rows.

    Attributes:
        all_lengths: length of each series, (N,).
        gaps: share of the values before the end of a series that are missing.
        channels: the channels to draw, from 0: those in which the classes' medians differ most.
        unlabelled: number of rows without any label, for multilabel.
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


def summarise(predictions: Predictions) -> Summary:
    """Summarise the rows; medians and bands are computed from the sample."""
    schema, lengths = predictions.schema, predictions.lengths
    sample = predictions.sample
    series = sample.values.reshape(len(sample.values), schema.n_channels, schema.n_timepoints)
    true = predictions.columns.true
    sampled = true[sample.numbers] == 1
    classes = [
        ClassSeries(
            name,
            int(true[:, i].sum()),
            int(sampled[:, i].sum()),
            *_median_and_band(series[sampled[:, i]]),
        )
        for i, name in enumerate(schema.classes)
    ]
    channels = _discriminative_channels(classes, series)
    names = [
        schema.value_columns[k * schema.n_timepoints].rpartition("_")[0] or f"channel {k + 1}"
        for k in channels
    ]
    return Summary(
        rows=len(true),
        shards=len(predictions.shards),
        n_timepoints=schema.n_timepoints,
        n_channels=schema.n_channels,
        lengths=Lengths(int(lengths.min()), float(np.median(lengths)), int(lengths.max())),
        all_lengths=lengths,
        gaps=predictions.missing / int(lengths.sum() * schema.n_channels),
        classes=classes,
        channels=channels,
        channel_names=names,
        unlabelled=int((~true.any(axis=1)).sum()),
    )


def _median_and_band(series: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Compute median and band of series (n, K, T), (K, T) each."""
    if not len(series):
        undefined = np.full(series.shape[1:], np.nan, dtype=np.float32)
        return undefined, undefined, undefined
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)  # after the longest series
        median, low, high = np.nanquantile(series, [0.5, *BAND], axis=0).astype(np.float32)
    return median, low, high


def _discriminative_channels(classes: list[ClassSeries], series: FloatArray) -> list[int]:
    """Find the channels in which the classes' medians differ most, relative to the spread."""
    if series.shape[1] <= CHANNELS_DRAWN:
        return list(range(series.shape[1]))
    medians = np.stack([one.median for one in classes if one.sampled])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=RuntimeWarning)  # nan where no row has a value
        distance = np.nanmean(np.nanstd(medians, axis=0), axis=1)
        spread = np.nanstd(series, axis=(0, 2))
        discrimination = np.nan_to_num(distance / np.maximum(spread, 1e-12))
    return sorted(np.argsort(-discrimination, kind="stable")[:CHANNELS_DRAWN].tolist())
