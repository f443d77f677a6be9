"""Centre and scale series by statistics of the training rows only.

Shapes: N rows, C channels, V values of a row, of all channels.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from lstmfcn.hyperparameters import ScalingName
from lstmfcn.schema import FloatArray

_CHUNK_ROWS = 1 << 12
"""Rows summed at a time: fixed, so that statistics do not depend on how rows lie in shards."""

SMALLEST_STD = 1e-8
"""Added to each series' own deviation, as in the authors' code (titu1994/LSTM-FCN, utils)."""


class Values(Protocol):
    """Values, float32 (N, V), of which a slice of rows is an array."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Any: ...


class Moments(NamedTuple):
    """Count, mean (V,) and summed squared deviation (V,) of rows, per value, in float64."""

    n_rows: int
    mean: npt.NDArray[np.float64]
    squares: npt.NDArray[np.float64]

    @classmethod
    def of(cls, values: Values) -> Moments:
        """Moments of values (N, V), N at least 1."""
        total = cls._of_chunk(values[:_CHUNK_ROWS])
        for start in range(_CHUNK_ROWS, len(values), _CHUNK_ROWS):
            total = total.merge(cls._of_chunk(values[start : start + _CHUNK_ROWS]))
        return total

    @classmethod
    def _of_chunk(cls, values: FloatArray) -> Moments:
        exact = values.astype(np.float64, order="C")
        mean = exact.mean(axis=0)
        return cls(len(values), mean, ((exact - mean) ** 2).sum(axis=0))

    def merge(self, other: Moments) -> Moments:
        """Moments of both sets of rows together (Chan, Golub and LeVeque 1983)."""
        n_rows = self.n_rows + other.n_rows
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.n_rows / n_rows)
        squares = self.squares + other.squares + delta**2 * (self.n_rows * other.n_rows / n_rows)
        return Moments(n_rows, mean, squares)


class Scaler(BaseModel):
    """``(x - mean) / std``, fitted once on training rows and kept with the model.

    Channels are scaled each for itself, as they have units of their own. ``mean`` and ``std`` hold
    a number a channel for ``global``, V for ``timestep``, and nothing for ``series`` (each row's
    channel has its own) and ``none``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ScalingName
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    n_channels: int = Field(1, ge=1)

    @classmethod
    def fit(cls, kind: ScalingName, values: Values, n_channels: int = 1) -> Scaler:
        """The scaler of training values (N, V). A constant is centred and left unscaled."""
        if kind in ("series", "none"):
            return cls(kind=kind, n_channels=n_channels)
        moments = Moments.of(values)
        mean, variance = moments.mean, moments.squares / moments.n_rows
        if kind == "global":
            of_channels = mean.reshape(n_channels, -1)
            mean = of_channels.mean(axis=1)
            variance = variance.reshape(n_channels, -1).mean(axis=1) + of_channels.var(axis=1)
        std = np.sqrt(variance)
        std[std <= SMALLEST_STD * np.abs(mean)] = 1.0
        return cls(
            kind=kind, mean=tuple(mean.tolist()), std=tuple(std.tolist()), n_channels=n_channels
        )

    def transform(self, values: FloatArray) -> FloatArray:
        """Scaled values, float32 (N, V); a new array unless the kind is ``none``.

        What is too large for 32 bits becomes infinite or nan, which the classifier refuses.
        """
        if self.kind == "none":
            return values
        with np.errstate(over="ignore", invalid="ignore"):
            return self._transform(values)

    def _transform(self, values: FloatArray) -> FloatArray:
        if self.kind == "timestep":
            return (values - _float32(self.mean)) / _float32(self.std)
        n_rows, n_values = values.shape
        channels = values.reshape(n_rows, self.n_channels, n_values // self.n_channels)
        if self.kind == "series":
            mean = channels.mean(axis=2, keepdims=True, dtype=np.float64).astype(np.float32)
            std = channels.std(axis=2, keepdims=True, dtype=np.float64).astype(np.float32)
            std += np.float32(SMALLEST_STD)
        else:
            mean, std = _float32(self.mean)[:, None], _float32(self.std)[:, None]
        scaled: FloatArray = (channels - mean) / std
        return scaled.reshape(n_rows, n_values)


def _float32(numbers: tuple[float, ...]) -> FloatArray:
    return np.array(numbers, dtype=np.float32)
