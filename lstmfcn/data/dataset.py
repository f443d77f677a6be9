"""Rows that have been read: in memory if they fit, otherwise in one file on disk.

Shapes: N rows, V values, of all channels.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np

from lstmfcn.data.scaler import Scaler
from lstmfcn.data.table import Array, FloatArray
from lstmfcn.errors import OutputError

PIECE_ROWS = 1 << 12
"""Rows that are processed at once, to save memory."""

FLOAT_BYTES = 4
UNSCALED = Scaler(kind="none")


@dataclass(frozen=True)
class FileBackedArray:
    """Values, float32 (N, V), in a file, row after row; a slice reads only its rows."""

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


Values = FloatArray | FileBackedArray


@dataclass(frozen=True)
class Dataset:
    """Values, float32 (N, V), and encoded labels, (N, ...), of the same rows."""

    values: Values
    labels: Array

    def __len__(self) -> int:
        return len(self.values)

    def scaled(self, scaler: Scaler) -> Dataset:
        """Scale the values: an array in place, values in a file when they are read."""
        values = self.values
        if isinstance(values, FileBackedArray):
            return Dataset(replace(values, scaler=scaler), self.labels)
        for start in range(0, len(values), PIECE_ROWS):
            rows = slice(start, start + PIECE_ROWS)
            values[rows] = scaler.transform(values[rows])
        return self


class SpillingBuffer:
    """Collects values as they are read; moves all of them to a file if they exceed the memory.

    As a context manager it closes the file.

    Args:
        memory_bytes: the memory that the values may use.
        path: the file, created only if it is needed.
    """

    def __init__(self, n_values: int, memory_bytes: int, path: Path) -> None:
        self._memory_rows = memory_bytes // (n_values * FLOAT_BYTES)
        self._path, self._n_values = path, n_values
        self._in_memory: FloatArray = np.empty((0, n_values), dtype=np.float32)
        self._file: BinaryIO | None = None
        self._n_rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def add(self, values: FloatArray) -> None:
        """Add the next rows, (n, V); raises `OutputError` if the file cannot be written."""
        n_rows = self._n_rows + len(values)
        try:
            if self._file is None and n_rows > self._memory_rows:
                self._move_to_file()
            if self._file is not None:
                self._file.write(np.ascontiguousarray(values).data)
            else:
                self._make_room(n_rows)
                self._in_memory[self._n_rows : n_rows] = values
        except OSError as error:
            raise OutputError(
                f"{self._path}: rows cannot be stored ({error.strerror or error}); "
                "free space there, or allow more memory with --memory-gb"
            ) from error
        self._n_rows = n_rows

    def values(self) -> Values:
        """Return all rows that were added."""
        if self._file is None:
            self._in_memory.resize((self._n_rows, self._n_values), refcheck=False)
            return self._in_memory
        self._file.flush()
        os.fsync(self._file.fileno())
        return FileBackedArray(self._path, self._n_rows, self._n_values)

    def _make_room(self, n_rows: int) -> None:
        """Make room for more rows: half as many again, which the system does without copying."""
        if n_rows > len(self._in_memory):
            capacity = max(n_rows, min(self._memory_rows, n_rows + n_rows // 2))
            self._in_memory.resize((capacity, self._n_values), refcheck=False)

    def _move_to_file(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("wb")
        self._file.write(self._in_memory[: self._n_rows].data)
        self._in_memory = np.empty((0, self._n_values), dtype=np.float32)
