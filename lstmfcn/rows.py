"""Rows that have been read once: in memory where they fit, else packed in a file and streamed.

Shapes: N rows, V values, of all channels.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lstmfcn.cells import Array, FloatArray
from lstmfcn.errors import OutputError
from lstmfcn.scaling import Scaler

PIECE_ROWS = 1 << 12
"""Rows looked at together where the order does not matter but memory does."""

FLOAT_BYTES = 4
UNSCALED = Scaler(kind="none")


@dataclass(frozen=True)
class StoredValues:
    """Values, float32 (N, V), packed in a file row after row; a slice of rows reads just those."""

    path: Path
    n_rows: int
    n_values: int
    scaler: Scaler = UNSCALED

    @property
    def shape(self) -> tuple[int, int]:
        """(N, V)."""
        return self.n_rows, self.n_values

    def __len__(self) -> int:
        return self.n_rows

    def __getitem__(self, rows: slice) -> FloatArray:
        start, stop, _ = rows.indices(self.n_rows)
        values: FloatArray = np.fromfile(
            self.path,
            dtype=np.float32,
            count=(stop - start) * self.n_values,
            offset=start * self.n_values * FLOAT_BYTES,
        )
        return self.scaler.transform(values.reshape(stop - start, self.n_values))


Values = FloatArray | StoredValues


@dataclass(frozen=True)
class Rows:
    """Values, float32 (N, V), and encoded labels, (N, ...), of the same rows."""

    values: Values
    labels: Array

    def __len__(self) -> int:
        return len(self.values)

    def scaled(self, scaler: Scaler) -> Rows:
        """These rows with scaled values; an array is scaled in place."""
        values = self.values
        if isinstance(values, StoredValues):
            return Rows(replace(values, scaler=scaler), self.labels)
        for start in range(0, len(values), PIECE_ROWS):
            values[start : start + PIECE_ROWS] = scaler.transform(
                values[start : start + PIECE_ROWS]
            )
        return self


class ValuesCollector:
    """Takes values as they are read. What exceeds the memory granted goes to a file, all of it.

    Args:
        n_values: V.
        memory_bytes: the most that the values may take in memory.
        path: the file, made only where it is needed.
    """

    def __init__(self, n_values: int, memory_bytes: int, path: Path) -> None:
        self._memory_rows = memory_bytes // (n_values * FLOAT_BYTES)
        self._path, self._n_values = path, n_values
        self._kept: FloatArray = np.empty((0, n_values), dtype=np.float32)
        self._file: BinaryIO | None = None
        self._n_rows = 0

    def add(self, values: FloatArray) -> None:
        """Take the next rows, (n, V).

        Raises:
            OutputError: the file cannot be written.
        """
        n_rows = self._n_rows + len(values)
        try:
            if self._file is None and n_rows > self._memory_rows:
                self._move_to_file()
            if self._file is not None:
                self._file.write(np.ascontiguousarray(values).data)
            else:
                self._make_room(n_rows)
                self._kept[self._n_rows : n_rows] = values
        except OSError as error:
            raise OutputError(
                f"{self._path}: rows cannot be stored ({error.strerror or error}); "
                "make room there, or grant more memory with --memory-gb"
            ) from error
        self._n_rows = n_rows

    def values(self) -> Values:
        """All rows taken."""
        if self._file is None:
            self._kept.resize((self._n_rows, self._n_values), refcheck=False)
            return self._kept
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return StoredValues(self._path, self._n_rows, self._n_values)

    def _make_room(self, n_rows: int) -> None:
        """Grow by a half at a time, which the system does without copying large arrays."""
        if n_rows > len(self._kept):
            most = max(n_rows, min(self._memory_rows, n_rows + n_rows // 2))
            self._kept.resize((most, self._n_values), refcheck=False)

    def _move_to_file(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("wb")
        self._file.write(self._kept[: self._n_rows].data)
        self._kept = np.empty((0, self._n_values), dtype=np.float32)
