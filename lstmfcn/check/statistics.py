"""Statistics of the rows without faults of one shard, collected part by part.

Shapes: N rows of a part, V values of a row, C channels, T timepoints.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lstmfcn.check.row_errors import Classes, ScannedPart
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.data.table import FloatArray, measure_lengths

_HASH_BYTES = 16
"""With 128 bits, two of 10^9 different series have the same hash with a probability of 10^-21."""

_EXAMPLES = 3

N_MAGNITUDES = 256
"""Exponents of a 32-bit number: its bits 23 to 30."""

_ZERO, _NOT_FINITE = 0, N_MAGNITUDES - 1


class LargestValue(NamedTuple):
    """The value of a channel with the largest exponent, with its row and column."""

    magnitude: int = 0
    row: int = 0
    column: str = ""
    value: float = 0.0


class RowStatistics:
    """Statistics of rows without faults; needs 20 bytes for each row.

    Attributes:
        n_constant: the number of rows that have one value in each channel.
        constant: the indices of the first constant rows, from 0.
        low: the smallest value of each column, (V,); nan if it has no values.
        high: the largest value of each column, (V,).
        magnitudes: how many values of each channel have each exponent, (C, 256).
        largest: the value with the largest exponent of each channel.
        lengths: how many series have each length, if values may be missing.
        n_missing: the number of missing values before the end of their series.
    """

    def __init__(self, schema: SeriesSchema) -> None:
        self._schema = schema
        self._hashes: list[bytes] = []
        self._codes: list[npt.NDArray[np.int32]] = []
        self._class_codes: dict[Classes, int] = {}
        self.n_rows = self.n_constant = self.n_missing = 0
        self.constant: list[int] = []
        self.low = self.high = np.full(schema.n_values, np.nan, dtype=np.float32)
        self.magnitudes = np.zeros((schema.n_channels, N_MAGNITUDES), dtype=np.int64)
        self.largest = [LargestValue()] * schema.n_channels
        self.lengths: Counter[int] = Counter()

    def add(self, part: ScannedPart, rows_before: int) -> None:
        """Add the rows without faults of a part; the shard has so many rows before it."""
        values = part.values if part.intact.all() else part.values[part.intact]
        if not len(values):
            return
        self._hashes.append(_hashes(values))
        codes = (self._class_codes.setdefault(row, len(self._class_codes)) for row in part.classes)
        self._codes.append(np.fromiter(codes, np.int32, len(values)))
        rows = rows_before + 1 + np.flatnonzero(part.intact)
        self._add_ranges(values)
        self._add_magnitudes(values, rows)
        if self._schema.missing == "mask":
            lengths, n_missing = measure_lengths(values, self._schema.n_channels)
            self.lengths.update(lengths.tolist())
            self.n_missing += n_missing
        self.n_rows += len(values)

    @property
    def hashes(self) -> npt.NDArray[np.bytes_]:
        """The hash of each series, (n_rows,)."""
        return np.frombuffer(b"".join(self._hashes), dtype=f"S{_HASH_BYTES}")

    @property
    def classes(self) -> list[Classes]:
        """The sets of classes that rows have, in the order of their codes."""
        return list(self._class_codes)

    @property
    def codes(self) -> npt.NDArray[np.int32]:
        """The index in ``classes`` of the classes of each row, (n_rows,)."""
        return np.concatenate([np.empty(0, np.int32), *self._codes])

    def _add_ranges(self, values: FloatArray) -> None:
        """Update ranges and constant rows; numpy's fmin and fmax ignore nan."""
        self.low = np.fmin(self.low, np.fmin.reduce(values, axis=0))
        self.high = np.fmax(self.high, np.fmax.reduce(values, axis=0))
        if self._schema.n_timepoints > 1:
            channels = self._channels(values)
            same = np.fmax.reduce(channels, axis=2) == np.fmin.reduce(channels, axis=2)
            constant = self.n_rows + np.flatnonzero(same.all(axis=1))
            self.n_constant += len(constant)
            self.constant += constant[: _EXAMPLES - len(self.constant)].tolist()

    def _add_magnitudes(self, values: FloatArray, rows: npt.NDArray[np.int64]) -> None:
        exponents = self._channels(((values.view(np.uint32) >> 23) & 0xFF).astype(np.uint8))
        for channel in range(self._schema.n_channels):
            in_channel = exponents[:, channel]
            counts = np.bincount(in_channel.ravel(), minlength=N_MAGNITUDES)
            counts[[_ZERO, _NOT_FINITE]] = 0
            self.magnitudes[channel] += counts
            top = int(np.flatnonzero(counts)[-1]) if counts.any() else 0
            if top > self.largest[channel].magnitude:
                row, time = (int(i) for i in np.argwhere(in_channel == top)[0])
                column = channel * self._schema.n_timepoints + time
                self.largest[channel] = LargestValue(
                    top,
                    int(rows[row]),
                    self._schema.value_columns[column],
                    float(values[row, column]),
                )

    def _channels(self, values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        return values.reshape(len(values), self._schema.n_channels, self._schema.n_timepoints)


def _hashes(values: FloatArray) -> bytes:
    """The hashes of all series, one after the other; -0 counts as 0, and all nan as equal."""
    plain = values + np.float32(0)
    plain[np.isnan(plain)] = np.nan
    return b"".join([hashlib.blake2b(series, digest_size=_HASH_BYTES).digest() for series in plain])
