"""What is known of the rows of one shard that are without fault, gathered part by part.

Shapes: N rows of a part, V values of a row, C channels, T timepoints.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lstmfcn.cells import FloatArray
from lstmfcn.check.parts import Classes, Part
from lstmfcn.schema import SeriesSchema

_HASH_BYTES = 16
"""Of 10^9 different series, two have the same 128-bit hash with a probability of 10^-21."""

_EXAMPLES = 3

N_MAGNITUDES = 256
"""Exponents of a 32-bit number: its bits 23 to 30."""

_ZEROS, _NO_NUMBERS = 0, N_MAGNITUDES - 1


class Largest(NamedTuple):
    """A channel's value of the largest magnitude: its exponent, where it stands, and itself."""

    magnitude: int = 0
    row: int = 0
    column: str = ""
    value: float = 0.0


class RowStatistics:
    """Statistics of whole rows; 20 bytes a row, besides what does not grow with them.

    Attributes:
        n_rows: whole rows so far.
        n_constant: those of them whose values are all the same in each channel.
        constant: the first of these, counted from 0.
        low: the least value of each column, (V,); nan while it has none.
        high: the greatest.
        magnitudes: how many values of each channel have each exponent, (C, 256).
        largest: the largest magnitude of each channel.
        lengths: how many series have each length, where values may be missing.
        n_missing: missing values before the end of their series.
    """

    def __init__(self, schema: SeriesSchema) -> None:
        self._schema = schema
        self._hashes: list[bytes] = []
        self._codes: list[npt.NDArray[np.int32]] = []
        self._code_of: dict[Classes, int] = {}
        self.n_rows = self.n_constant = self.n_missing = 0
        self.constant: list[int] = []
        self.low = self.high = np.full(schema.n_values, np.nan, dtype=np.float32)
        self.magnitudes = np.zeros((schema.n_channels, N_MAGNITUDES), dtype=np.int64)
        self.largest = [Largest()] * schema.n_channels
        self.lengths: Counter[int] = Counter()

    def add(self, part: Part, rows_before: int) -> None:
        """Take the whole rows of a part, before which the shard has so many rows in all."""
        values = part.values if part.whole.all() else part.values[part.whole]
        if not len(values):
            return
        self._hashes.append(_hashes(values))
        codes = (self._code_of.setdefault(row, len(self._code_of)) for row in part.classes)
        self._codes.append(np.fromiter(codes, np.int32, len(values)))
        rows = rows_before + 1 + np.flatnonzero(part.whole)
        self._add_ranges(values)
        self._add_magnitudes(values, rows)
        if self._schema.missing == "mask":
            self._add_lengths(values)
        self.n_rows += len(values)

    @property
    def hashes(self) -> npt.NDArray[np.bytes_]:
        """Of each series, (n_rows,)."""
        return np.frombuffer(b"".join(self._hashes), dtype=f"S{_HASH_BYTES}")

    @property
    def classes(self) -> list[Classes]:
        """The classes that rows have, in order of their codes."""
        return list(self._code_of)

    @property
    def codes(self) -> npt.NDArray[np.int32]:
        """Which of the classes each row has, (n_rows,)."""
        return np.concatenate([np.empty(0, np.int32), *self._codes])

    def _add_ranges(self, values: FloatArray) -> None:
        """Take ranges; numpy's fmin and fmax pass over what is missing."""
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
            own = exponents[:, channel]
            counts = np.bincount(own.ravel(), minlength=N_MAGNITUDES)
            counts[[_ZEROS, _NO_NUMBERS]] = 0
            self.magnitudes[channel] += counts
            top = int(np.flatnonzero(counts)[-1]) if counts.any() else 0
            if top > self.largest[channel].magnitude:
                row, time = (int(i) for i in np.argwhere(own == top)[0])
                place = channel * self._schema.n_timepoints + time
                self.largest[channel] = Largest(
                    top,
                    int(rows[row]),
                    self._schema.value_columns[place],
                    float(values[row, place]),
                )

    def _add_lengths(self, values: FloatArray) -> None:
        there = ~np.isnan(self._channels(values))
        filled = there.any(axis=1)
        lengths = self._schema.n_timepoints - filled[:, ::-1].argmax(axis=1)
        self.lengths.update(lengths.tolist())
        in_series = int(lengths.sum()) * self._schema.n_channels
        self.n_missing += in_series - int(there.sum())

    def _channels(self, values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        return values.reshape(len(values), self._schema.n_channels, self._schema.n_timepoints)


def _hashes(values: FloatArray) -> bytes:
    """A hash of each series, one after the other; -0 is 0, and any nan is missing."""
    plain = values + np.float32(0)
    plain[np.isnan(plain)] = np.nan
    return b"".join([hashlib.blake2b(series, digest_size=_HASH_BYTES).digest() for series in plain])
