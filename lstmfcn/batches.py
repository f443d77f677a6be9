"""Shuffled batches: of rows in memory, and of rows streamed from a file.

The order of an epoch depends on the seed, the epoch and the number of rows, not on shards; that of
rows in memory not on the number of workers either. Each worker takes its share of every global
batch, so that the batch size means the same at any number of workers and no row is dropped or seen
twice.

Shapes: N rows, V values of all channels, B rows of one global batch, W workers.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lstmfcn.bounds import batch_bounds
from lstmfcn.cells import Array, FloatArray
from lstmfcn.rows import FLOAT_BYTES, Rows, StoredValues

_EVALUATION_ROWS = 1024
_RUN_BYTES = 256 << 10
"""Bytes of consecutive rows that are read at once: large enough for any disk or network share."""
_WINDOW_BYTES = 32 << 20
"""Bytes of the runs, from all over the file, whose rows are shuffled together."""
_RUNS_PER_WORKER = 64
"""Runs that each worker has at least, so that all workers have nearly the same number of rows."""


class Batch(NamedTuple):
    """One worker's share of a batch: scaled series (n, V), targets (n, ...), B over all workers."""

    x: Tensor
    targets: Tensor
    n_rows_global: int


class Share(NamedTuple):
    """What of every batch one worker takes: each ``world_size``-th row, from ``rank`` on."""

    rank: int = 0
    world_size: int = 1
    device: torch.device | str = "cpu"

    @property
    def rows(self) -> slice:
        """The share as a slice of any sequence of rows."""
        return slice(self.rank, None, self.world_size)


class BatchSource(Protocol):
    """What the training loop consumes."""

    def __call__(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """This worker's batches of an epoch, counted from 1, leaving out those before ``first``."""


def training_batches(
    rows: Rows, batch_size: int, seed: int, share: Share = Share(), rows_per_epoch: int = 0
) -> BatchSource:
    """Shuffled batches of rows, wherever they lie.

    Rows in memory that are fewer than ``rows_per_epoch`` are gone over several times an epoch.
    """
    if isinstance(rows.values, StoredValues):
        return StreamedBatches(rows.values, rows.labels, batch_size, seed, share)
    passes = max(1, math.ceil(rows_per_epoch / len(rows.values)))
    return MemoryBatches(rows.values, rows.labels, batch_size, seed, share, passes)


class MemoryBatches:
    """Batches of rows that lie in memory, in an entirely random order.

    Args:
        values: all scaled values, float32 (N, V), the same on every worker.
        labels: all targets, (N, ...).
        batch_size: rows of a global batch.
        seed: decides the order, together with the epoch.
        share: what of each batch this worker takes, and where it keeps the rows.
        passes: over the rows in an epoch, each in an order of its own.
    """

    def __init__(
        self,
        values: FloatArray,
        labels: Array,
        batch_size: int,
        seed: int,
        share: Share = Share(),
        passes: int = 1,
    ) -> None:
        self._x = as_tensor(values).to(share.device)
        self._targets = as_tensor(labels).to(share.device)
        self._seed, self._share, self._passes = seed, share, passes
        self._bounds = batch_bounds(len(values) * passes, batch_size, share.world_size)

    def __call__(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """This worker's batches of an epoch, in order, from batch ``first`` on."""
        random = np.random.default_rng([self._seed, epoch])
        order = np.concatenate([random.permutation(len(self._x)) for _ in range(self._passes)])
        device_order = torch.from_numpy(order).to(self._x.device)
        for start, stop in self._bounds[first:]:
            taken = device_order[start:stop][self._share.rows]
            x, targets = self._x.index_select(0, taken), self._targets.index_select(0, taken)
            yield Batch(x, targets, stop - start)


class StreamedBatches:
    """Batches of rows that lie in a file, in bounded memory.

    An epoch visits short runs of consecutive rows in random order. Each worker reads a W-th of the
    runs, window by window, the next one while it trains, and shuffles the rows of each window.
    Its share of a batch is in proportion to its rows, which differ by a run at most.

    Args:
        values: all values, in the file.
        labels: all targets, (N, ...), in memory.
        batch_size: rows of a global batch.
        seed: decides the order, together with the epoch.
        share: which runs this worker reads.
    """

    def __init__(
        self,
        values: StoredValues,
        labels: Array,
        batch_size: int,
        seed: int,
        share: Share = Share(),
    ) -> None:
        self._values, self._labels, self._seed, self._share = values, labels, seed, share
        row_bytes = FLOAT_BYTES * values.n_values
        most = max(1, len(values) // (_RUNS_PER_WORKER * share.world_size))
        self._run_rows = min(most, max(1, _RUN_BYTES // row_bytes))
        self._window_runs = max(1, _WINDOW_BYTES // (row_bytes * self._run_rows))
        self._bounds = batch_bounds(len(values), batch_size, share.world_size)

    def __call__(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """This worker's batches of an epoch, in order, from batch ``first`` on."""
        n_runs = -(-len(self._values) // self._run_rows)
        runs = np.random.default_rng([self._seed, epoch]).permutation(n_runs)
        steps = self._rows_of_steps(runs)
        mine = steps[self._share.rank]
        stream = _Stream(self._windows(epoch, runs[self._share.rows], int(mine[:first].sum())))
        for step in range(first, len(self._bounds)):
            x, targets = stream.take(int(mine[step]))
            device = self._share.device
            yield Batch(x.to(device), targets.to(device), int(steps[:, step].sum()))

    def _rows_of_steps(self, runs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """How many rows each worker has in each batch, (W, batches)."""
        world_size, n_rows = self._share.world_size, len(self._values)
        lengths = self._lengths(runs)
        totals = np.array([lengths[rank::world_size].sum() for rank in range(world_size)])
        stops = np.array([0, *(stop for _, stop in self._bounds)])
        steps: npt.NDArray[np.int64] = np.diff(totals[:, None] * stops[None, :] // n_rows, axis=1)
        return steps

    def _lengths(self, runs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Rows of each run: all alike but that at the end of the file."""
        lengths: npt.NDArray[np.int64] = np.minimum(
            self._run_rows, len(self._values) - runs * self._run_rows
        )
        return lengths

    def _windows(
        self, epoch: int, runs: npt.NDArray[np.int64], skipped_rows: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Shuffled windows, from the first row that is not skipped on; one is read ahead."""
        with ThreadPoolExecutor(1) as reader:
            ahead = None
            for number, start in enumerate(range(0, len(runs), self._window_runs)):
                part = runs[start : start + self._window_runs]
                n_rows = int(self._lengths(part).sum())
                if skipped_rows >= n_rows:
                    skipped_rows -= n_rows
                    continue
                random = np.random.default_rng([self._seed, epoch, self._share.rank, number])
                places = random.permutation(n_rows)
                coming = reader.submit(self._read, part, places, skipped_rows)
                skipped_rows = 0
                if ahead:
                    yield ahead.result()
                ahead = coming
            if ahead:
                yield ahead.result()

    def _read(
        self, runs: npt.NDArray[np.int64], places: npt.NDArray[np.int64], skipped_rows: int
    ) -> tuple[Tensor, Tensor]:
        """The rows of some runs, each at its place, without the first ones."""
        values = np.empty((len(places), self._values.n_values), dtype=np.float32)
        labels = np.empty((len(places), *self._labels.shape[1:]), dtype=self._labels.dtype)
        done = 0
        for run in runs:
            rows = slice(run * self._run_rows, (run + 1) * self._run_rows)
            found = self._values[rows]
            here = places[done : done + len(found)]
            values[here], labels[here] = found, self._labels[rows]
            done += len(found)
        return torch.from_numpy(values[skipped_rows:]), torch.from_numpy(labels[skipped_rows:])


class _Stream:
    """Windows as one sequence of rows, taken piece by piece."""

    def __init__(self, windows: Iterator[tuple[Tensor, Tensor]]) -> None:
        self._windows = windows
        self._x, self._targets = torch.empty(0), torch.empty(0)

    def take(self, n_rows: int) -> tuple[Tensor, Tensor]:
        """The next rows."""
        while len(self._x) < n_rows:
            x, targets = next(self._windows)
            self._x = torch.cat([self._x, x]) if len(self._x) else x
            self._targets = torch.cat([self._targets, targets]) if len(self._targets) else targets
        taken = self._x[:n_rows], self._targets[:n_rows]
        self._x, self._targets = self._x[n_rows:], self._targets[n_rows:]
        return taken


class EvaluationBatches:
    """This worker's share of the rows, unshuffled, in batches of up to 1,024.

    Rows in memory are sliced; those in a file are read again in each pass.
    """

    def __init__(self, rows: Rows, share: Share = Share()) -> None:
        self._share = share
        self._targets = as_tensor(rows.labels).to(share.device)
        values = rows.values
        self._x: Callable[[slice], Tensor]
        if isinstance(values, StoredValues):
            self._x = lambda part: torch.from_numpy(values[part]).to(share.device)
        else:
            self._x = as_tensor(values).to(share.device).__getitem__

    def __iter__(self) -> Iterator[Batch]:
        starts = range(0, len(self._targets), _EVALUATION_ROWS)[self._share.rows]
        for start in starts:
            part = slice(start, start + _EVALUATION_ROWS)
            x = self._x(part)
            yield Batch(x, self._targets[part], len(x))


def as_tensor(array: Array) -> Tensor:
    """A tensor over the array's own memory, which must not be written to.

    Arrays out of a shared object store are read-only; PyTorch has no read-only tensors and warns.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
