"""Centre and scale series, by statistics of the training rows only.

Shapes: N rows, C channels, V values of a row, of all channels.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from lstmfcn.data.table import FloatArray
from lstmfcn.hyperparameters import ScalingName

_CHUNK_ROWS = 1 << 12
"""Rows that are summed at once; fixed, so that statistics do not depend on the shards."""

SMALLEST_STD = 1e-8
"""Added to the standard deviation of each series, as in the authors' code (titu1994/LSTM-FCN)."""


class Values(Protocol):
    """Values, float32 (N, V), in memory or in blocks; a slice of rows is an array."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Any: ...


class Moments(NamedTuple):
    """Count, mean and sum of squared deviations, missing values left out: float64 (V,)."""

    counts: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    squares: npt.NDArray[np.float64]

    @classmethod
    def of(cls, values: Values) -> Moments:
        """Compute the moments of values (N, V), N at least 1."""
        total = cls._of_chunk(values[:_CHUNK_ROWS])
        for start in range(_CHUNK_ROWS, len(values), _CHUNK_ROWS):
            total = total.merge(cls._of_chunk(values[start : start + _CHUNK_ROWS]))
        return total

    @classmethod
    def _of_chunk(cls, values: FloatArray) -> Moments:
        return cls(*(part[0] for part in cls.along(values, axis=0)))

    @classmethod
    def along(cls, values: FloatArray, axis: int) -> Moments:
        """Compute the moments along an axis, which keeps a length of 1."""
        exact = values.astype(np.float64, order="C")
        missing = np.isnan(exact)
        counts = exact.shape[axis] - missing.sum(axis=axis, keepdims=True, dtype=np.float64)
        exact[missing] = 0.0
        mean = exact.sum(axis=axis, keepdims=True) / np.maximum(counts, 1)
        centred = exact - mean
        centred[missing] = 0.0
        return cls(counts, mean, (centred**2).sum(axis=axis, keepdims=True))

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both sets of rows together (Chan, Golub and LeVeque 1983)."""
        counts = self.counts + other.counts
        at_least_1 = np.maximum(counts, 1)
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.counts / at_least_1)
        between = delta**2 * (self.counts * other.counts / at_least_1)
        return Moments(counts, mean, self.squares + other.squares + between)

    @property
    def variance(self) -> npt.NDArray[np.float64]:
        """The variance, (V,)."""
        variance: npt.NDArray[np.float64] = self.squares / np.maximum(self.counts, 1)
        return variance

    def of_channels(self, n_channels: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """The mean and variance of all values of each channel, (C,)."""
        mean, variance, counts = (
            part.reshape(n_channels, -1) for part in (self.mean, self.variance, self.counts)
        )
        if (counts == counts[0, 0]).all():
            return mean.mean(axis=1), variance.mean(axis=1) + mean.var(axis=1)
        weights = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        means = (mean * weights).sum(axis=1)
        between = (mean - means[:, None]) ** 2
        return means, ((variance + between) * weights).sum(axis=1)


class Scaler(BaseModel):
    """``(x - mean) / std``, fitted on the training rows and saved with the model.

    Each channel is scaled separately, because channels may have different units.

    Attributes:
        mean: one number for each channel for ``global``, V numbers for ``timestep``; empty for
            ``series``, where each series is scaled by its own, and for ``none``.
        std: as ``mean``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: ScalingName
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    n_channels: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _scales(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError("mean and std must have the same length")
        if self.kind == "global" and len(self.mean) != self.n_channels:
            raise ValueError("global scaling needs one mean and one std for each channel")
        if (self.kind == "timestep") != bool(self.mean) and self.kind != "global":
            raise ValueError("only global and timestep scaling have a mean and a std")
        with np.errstate(over="ignore"):
            mean, std = _float32(self.mean), _float32(self.std)
        if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
            raise ValueError("mean and std must be finite 32-bit numbers, and std above 0")
        return self

    @classmethod
    def fit(cls, kind: ScalingName, values: Values, n_channels: int = 1) -> Scaler:
        """Fit a scaler to training values (N, V). Constant values are centred but not scaled."""
        moments = Moments.of(values) if cls.needs_moments(kind) else None
        return cls.from_moments(kind, moments, n_channels)

    @staticmethod
    def needs_moments(kind: ScalingName) -> bool:
        """Whether fitting needs the moments of the training values."""
        return kind in ("global", "timestep")

    @classmethod
    def from_moments(
        cls, kind: ScalingName, moments: Moments | None, n_channels: int = 1
    ) -> Scaler:
        """Make a scaler of the moments of the training values; None where they are not needed."""
        if not cls.needs_moments(kind):
            return cls(kind=kind, n_channels=n_channels)
        if moments is None:
            raise ValueError(f"{kind} scaling needs moments")
        mean, variance = moments.mean, moments.variance
        if kind == "global":
            mean, variance = moments.of_channels(n_channels)
        std = np.sqrt(variance)
        tiny = np.finfo(np.float32).tiny  # smaller numbers are 0, or nearly, as float32
        std[std <= np.maximum(SMALLEST_STD * np.abs(mean), tiny)] = 1.0
        return cls(
            kind=kind, mean=tuple(mean.tolist()), std=tuple(std.tolist()), n_channels=n_channels
        )

    @np.errstate(over="ignore", invalid="ignore")
    def transform(self, values: FloatArray) -> FloatArray:
        """Return scaled values, float32 (N, V), row after row; for ``none`` perhaps the same array.

        Results that are too large for float32 become infinite or nan, which the classifier refuses.
        """
        values = np.ascontiguousarray(values)  # sums, here and in the network, add in memory order
        if self.kind == "none":
            return values
        if self.kind == "timestep":
            return (values - _float32(self.mean)) / _float32(self.std)
        n_rows, n_values = values.shape
        channels = values.reshape(n_rows, self.n_channels, n_values // self.n_channels)
        if self.kind == "series":
            mean, std = _series_moments(channels)
        else:
            mean, std = _float32(self.mean)[:, None], _float32(self.std)[:, None]
        scaled: FloatArray = (channels - mean) / std
        return scaled.reshape(n_rows, n_values)


def _series_moments(channels: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of each series, without missing values: (N, C, 1)."""
    mean = channels.mean(axis=2, keepdims=True, dtype=np.float64)
    if np.isnan(mean).any():
        moments = Moments.along(channels, axis=2)
        mean, std = moments.mean, np.sqrt(moments.variance)
    else:
        std = channels.std(axis=2, keepdims=True, dtype=np.float64)
    return mean.astype(np.float32), std.astype(np.float32) + np.float32(SMALLEST_STD)


def _float32(numbers: tuple[float, ...]) -> FloatArray:
    return np.array(numbers, dtype=np.float32)
