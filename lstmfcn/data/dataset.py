"""Rows that have been read: whole in memory if they fit, otherwise in blocks, read when needed.

Shapes: N rows, V values, of all channels, K rows of a block.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from lstmfcn.console import format_bytes
from lstmfcn.data.scaler import Moments, Scaler
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.data.table import Array, FloatArray
from lstmfcn.errors import ResourceError
from lstmfcn.hyperparameters import ScalingName

PIECE_ROWS = 1 << 12
"""Rows that are processed at once, to save memory."""

FLOAT_BYTES = 4
UNSCALED = Scaler(kind="none")

BLOCK_BYTES = 4 << 20
"""Bytes of a block. The fingerprint of rows in blocks depends on it: after a change no interrupted
run could be resumed."""

_BLOCK_MARK = "blocks:"
"""The start of a fingerprint that is made of those of the blocks."""

_Integers = npt.NDArray[np.int64]


def rows_of_block(n_values: int) -> int:
    """K, the rows of every block but the last; it depends on the length of a row only."""
    return max(1, BLOCK_BYTES // (FLOAT_BYTES * n_values))


class ReadBlocks(Protocol):
    """Reads blocks from where they are."""

    def __call__(self, numbers: Sequence[int], /) -> Iterator[FloatArray]:
        """Yield the blocks of these numbers, in order: unscaled values, float32 (K, V)."""


@dataclass(frozen=True)
class BlockArray:
    """Values, float32 (N, V), in blocks of K rows, of which the last may have fewer.

    Args:
        read: reads blocks.
        scaler: scales the values as they are read.
    """

    read: ReadBlocks
    n_rows: int
    n_values: int
    block_rows: int
    scaler: Scaler = UNSCALED

    @property
    def shape(self) -> tuple[int, int]:
        """(N, V)."""
        return self.n_rows, self.n_values

    @property
    def n_blocks(self) -> int:
        """How many blocks there are."""
        return -(-self.n_rows // self.block_rows)

    def __len__(self) -> int:
        return self.n_rows

    def __getitem__(self, rows: slice) -> FloatArray:
        """Return a copy of consecutive rows."""
        start, stop, _ = rows.indices(self.n_rows)
        first, end = start // self.block_rows, -(-stop // self.block_rows)
        bounds = np.clip(np.arange(first, end + 1) * self.block_rows, start, max(start, stop))
        values = np.empty((max(0, stop - start), self.n_values), dtype=np.float32)
        for i, part in self.read_runs(bounds[:-1], bounds[1:]):
            values[bounds[i] - start : bounds[i + 1] - start] = part
        return values

    def read_runs(self, starts: _Integers, stops: _Integers) -> Iterator[tuple[int, FloatArray]]:
        """Yield the index and the rows of each run, in the order of the blocks.

        Each block is read once. The rows may share the memory of the block, and be read-only.

        Args:
            starts: the first row of each run.
            stops: the row after the last of each run; no run goes beyond its block.
        """
        numbers = starts // self.block_rows
        wanted = np.unique(numbers).tolist()
        for number, block in zip(wanted, self.read(wanted), strict=True):
            before = number * self.block_rows
            for i in np.flatnonzero(numbers == number).tolist():
                yield i, self.scaler.transform(block[starts[i] - before : stops[i] - before])


Values = FloatArray | BlockArray


@dataclass(frozen=True)
class Dataset:
    """Values, float32 (N, V), and encoded labels, (N, ...), of the same rows."""

    values: Values
    labels: Array

    def __len__(self) -> int:
        return len(self.values)

    def scaled(self, scaler: Scaler) -> Dataset:
        """Scale the values: an array in place, values in blocks when they are read."""
        values = self.values
        if isinstance(values, BlockArray):
            return Dataset(replace(values, scaler=scaler), self.labels)
        for start in range(0, len(values), PIECE_ROWS):
            rows = slice(start, start + PIECE_ROWS)
            values[rows] = scaler.transform(values[rows])
        return self


class BlockStatistics(NamedTuple):
    """What is known of a block; small, apart from the labels.

    Attributes:
        labels: as they were read, encoded; for class names the numbers of ``names``.
        names: the class names of the block, if the schema has no classes yet.
        sha256: of the values.
        moments: of the values, if they are needed.
    """

    labels: Array
    names: list[str] | None
    sha256: bytes
    moments: Moments | None

    @classmethod
    def of(cls, values: FloatArray, labels: Array, with_moments: bool) -> BlockStatistics:
        """Compute them from unscaled values (n, V), and encoded labels or class names."""
        names = None
        if labels.dtype.kind == "U":
            found, codes = np.unique(labels, return_inverse=True)
            names, labels = found.tolist(), codes.astype(np.int32)
        moments = Moments.of(values) if with_moments else None
        return cls(labels, names, hashlib.sha256(values.data).digest(), moments)


class MergedStatistics(NamedTuple):
    """The statistics of all blocks, the same for any layout of shards.

    Attributes:
        fingerprint: of values and labels.
        moments: of the values, if they are needed.
    """

    fingerprint: str
    moments: Moments | None


class StatisticsSum:
    """Merges the statistics of blocks, in their order."""

    def __init__(self) -> None:
        self._digest, self._labels = hashlib.sha256(), list[Array]()
        self._numbers: dict[str, int] = {}
        self._moments: Moments | None = None
        self.n_rows = 0

    def add(self, block: BlockStatistics) -> None:
        """Add the next block."""
        self._digest.update(block.sha256)
        if block.moments:
            self._moments = self._moments.merge(block.moments) if self._moments else block.moments
        labels = block.labels
        if block.names is not None:
            known = [self._numbers.setdefault(name, len(self._numbers)) for name in block.names]
            labels = np.array(known, dtype=np.int32)[labels]
        self._labels.append(labels)
        self.n_rows += len(labels)

    def finish(
        self, schema: SeriesSchema, data: str
    ) -> tuple[SeriesSchema, Array, MergedStatistics]:
        """Return the schema with its classes, the encoded labels of all rows, and the statistics.

        Args:
            data: the data arguments, for a message.

        Raises:
            DataError: there are fewer than two classes.
        """
        labels = np.concatenate(self._labels)
        if not schema.classes:
            schema = schema.with_classes(sorted(self._numbers), data)
            labels = schema.encode_names(list(self._numbers))[labels]
        fingerprint = _block_fingerprint(self._digest.digest(), labels)
        return schema, labels, MergedStatistics(fingerprint, self._moments)


@dataclass(frozen=True)
class LoadedData:
    """All rows of a data argument, unscaled, with the schema that they were read by.

    Attributes:
        statistics: those of the blocks, if the values are in blocks.
    """

    schema: SeriesSchema
    rows: Dataset
    n_shards: int
    statistics: MergedStatistics | None = None

    @property
    def n_bytes(self) -> int:
        """The size of all values, as float32."""
        return FLOAT_BYTES * len(self.rows) * self.schema.n_values

    def in_memory(self) -> LoadedData:
        """Copy the values of all blocks into one array."""
        rows = Dataset(self.rows.values[:], self.rows.labels)
        return LoadedData(self.schema, rows, self.n_shards)

    def fit_scaler(self, kind: ScalingName) -> Scaler:
        """Fit a scaler to these rows; for blocks from their merged moments."""
        n_channels = self.schema.n_channels
        if self.statistics is None:
            return Scaler.fit(kind, self.rows.values, n_channels)
        return Scaler.from_moments(kind, self.statistics.moments, n_channels)

    def fingerprint(self, like: str = "") -> str:
        """SHA-256 of values and labels in row order; it is the same in any shard layout.

        There are two kinds: of rows in memory it is that of all bytes; of rows in blocks it is made
        of those of the blocks, which are computed where the blocks are.

        Args:
            like: an earlier fingerprint, which decides the kind; by default the rows do.
        """
        of_blocks = like.startswith(_BLOCK_MARK) if like else self.statistics is not None
        if of_blocks and self.statistics:
            return self.statistics.fingerprint
        digest, values = hashlib.sha256(), self.rows.values
        n_rows = rows_of_block(self.schema.n_values) if of_blocks else PIECE_ROWS
        for start in range(0, len(values), n_rows):
            piece = np.ascontiguousarray(values[start : start + n_rows]).data
            digest.update(hashlib.sha256(piece).digest() if of_blocks else piece)
        if of_blocks:
            return _block_fingerprint(digest.digest(), self.rows.labels)
        digest.update(self.rows.labels.reshape(-1).data)
        return digest.hexdigest()


def _block_fingerprint(sha256_of_blocks: bytes, labels: Array) -> str:
    digest = hashlib.sha256(sha256_of_blocks)
    digest.update(labels.reshape(-1).data)
    return _BLOCK_MARK + digest.hexdigest()


class MemoryLimitError(ResourceError):
    """The rows take more memory than they may, so they have to be read in blocks."""


class RowBuffer:
    """Collects values as they are read, and refuses more than fit into memory.

    Args:
        memory_bytes: the memory that the values may use.
    """

    def __init__(self, n_values: int, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._memory_rows = memory_bytes // (n_values * FLOAT_BYTES)
        self._values: FloatArray = np.empty((0, n_values), dtype=np.float32)
        self._n_rows = 0

    def add(self, values: FloatArray) -> None:
        """Add the next rows, (n, V).

        Raises:
            MemoryLimitError: they are too many.
        """
        n_rows = self._n_rows + len(values)
        if n_rows > self._memory_rows:
            limit = format_bytes(self._memory_bytes)
            raise MemoryLimitError(f"the rows take more than the memory limit of {limit}")
        if n_rows > len(self._values):  # half as many again, which the system does without copying
            capacity = max(n_rows, min(self._memory_rows, n_rows + n_rows // 2))
            self._values.resize((capacity, self._values.shape[1]), refcheck=False)
        self._values[self._n_rows : n_rows] = values
        self._n_rows = n_rows

    def values(self) -> FloatArray:
        """Return all rows that were added."""
        self._values.resize((self._n_rows, self._values.shape[1]), refcheck=False)
        return self._values
