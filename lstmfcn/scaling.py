"""Centre and scale series by statistics of the training rows only.

Shapes: N rows, T timepoints.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from lstmfcn.hyperparameters import ScalingName
from lstmfcn.schema import FloatArray

_CHUNK_ROWS = 1 << 12
"""Rows summed at a time: fixed, so that statistics do not depend on how rows lie in shards."""

SMALLEST_STD = 1e-8
"""Added to each series' own deviation, as in the authors' code (titu1994/LSTM-FCN, utils)."""


class Values(Protocol):
    """Values, float32 (N, T), of which a slice of rows is an array."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Any: ...


class Moments(NamedTuple):
    """Count, mean (T,) and summed squared deviation (T,) of rows, per timestep, in float64."""

    n_rows: int
    mean: npt.NDArray[np.float64]
    squares: npt.NDArray[np.float64]

    @classmethod
    def of(cls, values: Values) -> Moments:
        """Moments of values (N, T), N at least 1."""
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

    ``mean`` and ``std`` hold one number for ``global``, T for ``timestep``, and nothing for
    ``series`` (each series has its own) and ``none``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ScalingName
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @classmethod
    def fit(cls, kind: ScalingName, values: Values) -> Scaler:
        """The scaler of training values (N, T). A constant is centred and left unscaled."""
        if kind in ("series", "none"):
            return cls(kind=kind)
        moments = Moments.of(values)
        mean, variance = moments.mean, moments.squares / moments.n_rows
        if kind == "global":
            variance = np.array([variance.mean() + mean.var()])
            mean = np.array([mean.mean()])
        std = np.sqrt(variance)
        std[std <= SMALLEST_STD * np.abs(mean)] = 1.0
        return cls(kind=kind, mean=tuple(mean.tolist()), std=tuple(std.tolist()))

    def transform(self, values: FloatArray) -> FloatArray:
        """Scaled values, float32 (N, T); a new array unless the kind is ``none``.

        What is too large for 32 bits becomes infinite or nan, which the classifier refuses.
        """
        if self.kind == "none":
            return values
        with np.errstate(over="ignore", invalid="ignore"):
            return self._transform(values)

    def _transform(self, values: FloatArray) -> FloatArray:
        if self.kind == "series":
            mean = values.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
            std = values.std(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
            scaled: FloatArray = (values - mean) / (std + np.float32(SMALLEST_STD))
            return scaled
        mean = np.array(self.mean, dtype=np.float32)
        std = np.array(self.std, dtype=np.float32)
        centred: FloatArray = (values - mean) / std
        return centred
