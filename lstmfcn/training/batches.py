"""Load shuffled batches, of rows in memory or of rows streamed from a file.

The order of rows depends on the seed, the epoch and the number of rows, not on shards. For streamed
rows it also depends on the number of workers with which the epoch began. Each worker takes its
share of every global batch, so the batch size means the same with any number of workers. An epoch
uses each row once (or several times, if small data is repeated), also if it resumes with another
number of workers or another batch size: it continues after the rows that were taken.

Only the gradient is that of the whole batch: batch norm normalises each worker's B / W rows by
their own mean and variance.

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

from lstmfcn.data.batch_plan import bounds_after
from lstmfcn.data.dataset import FLOAT_BYTES, Dataset, FileBackedArray
from lstmfcn.data.table import Array, FloatArray

_Integers = npt.NDArray[np.int64]
_Window = tuple[Tensor, Tensor]
"""Series (n, V) and their targets (n, ...)."""

_EVALUATION_ROWS = 1024
_RUN_BYTES = 256 << 10
"""Bytes per run, the consecutive rows of one read: large enough for any disk or network share."""
_WINDOW_BYTES = 32 << 20
"""Bytes per window, the runs from all over the file whose rows are shuffled together."""
_RUNS_PER_WORKER = 64
"""Minimum runs per worker, so that all workers have nearly the same number of rows."""


class RowsTaken(NamedTuple):
    """The rows of an epoch that have been trained on.

    Attributes:
        rows: number of rows over all workers, from the start of the epoch.
        workers: number of workers with which the epoch began; 0 means the current number.
    """

    rows: int = 0
    workers: int = 0


class Batch(NamedTuple):
    """One worker's share of a batch.

    Attributes:
        x: scaled series, float32 (n, V).
        targets: targets, (n, ...).
        n_rows_global: rows over all workers, B.
        taken: rows of the epoch that have been trained on after this batch.
    """

    x: Tensor
    targets: Tensor
    n_rows_global: int
    taken: RowsTaken = RowsTaken()


class WorkerContext(NamedTuple):
    """One worker's share of a batch (each ``world_size``-th row from ``rank``), and its device."""

    rank: int = 0
    world_size: int = 1
    device: torch.device | str = "cpu"

    @property
    def rows(self) -> slice:
        """The share, as a slice of any sequence of rows."""
        return slice(self.rank, None, self.world_size)


class BatchLoader(Protocol):
    """The interface from which the training loop gets its batches."""

    def __call__(self, epoch: int, taken: RowsTaken = RowsTaken()) -> Iterator[Batch]:
        """Yield this worker's batches of an epoch (from 1), after the rows already taken."""


def make_loader(
    rows: Dataset,
    batch_size: int,
    seed: int,
    share: WorkerContext = WorkerContext(),
    rows_per_epoch: int = 0,
) -> BatchLoader:
    """Make the loader of shuffled batches that fits the rows: in memory or streamed.

    Rows in memory are repeated until an epoch has at least ``rows_per_epoch`` rows.
    """
    if isinstance(rows.values, FileBackedArray):
        return StreamingLoader(rows.values, rows.labels, batch_size, seed, share)
    passes = max(1, math.ceil(rows_per_epoch / len(rows.values)))
    return InMemoryLoader(rows.values, rows.labels, batch_size, seed, share, passes)


class InMemoryLoader:
    """Loads batches of rows in memory, fully shuffled.

    Args:
        values: all scaled values, float32 (N, V), the same on every worker.
        labels: all targets, (N, ...).
        share: this worker's share of each batch, and the device that holds the rows.
        passes: passes over the rows per epoch, each in a new order.
    """

    def __init__(
        self,
        values: FloatArray,
        labels: Array,
        batch_size: int,
        seed: int,
        share: WorkerContext = WorkerContext(),
        passes: int = 1,
    ) -> None:
        self._x = to_tensor(values).to(share.device)
        self._targets = to_tensor(labels).to(share.device)
        self._seed, self._share, self._passes = seed, share, passes
        self._batch_size = batch_size

    def __call__(self, epoch: int, taken: RowsTaken = RowsTaken()) -> Iterator[Batch]:
        """This worker's batches of an epoch, in order, after the rows that have been taken."""
        world_size = self._share.world_size
        random = np.random.default_rng([self._seed, epoch])
        order = np.concatenate([random.permutation(len(self._x)) for _ in range(self._passes)])
        device_order = torch.from_numpy(order).to(self._x.device)
        for start, stop in bounds_after(taken.rows, len(order), self._batch_size, world_size):
            mine = device_order[start:stop][self._share.rows]
            x, targets = self._x.index_select(0, mine), self._targets.index_select(0, mine)
            yield Batch(x, targets, stop - start, RowsTaken(stop, world_size))


class StreamingLoader:
    """Loads batches of rows in a file, with bounded memory.

    An epoch visits short runs of consecutive rows in random order, which are dealt out to as many
    lanes as there are workers. A lane is read window by window, one ahead of training, and the rows
    of each window are shuffled. Each lane's share of a batch is proportional to its number of rows;
    lanes differ by one run at most.

    Each worker takes a lane. An epoch that resumes with another number of workers keeps its lanes:
    with fewer workers, some take several lanes; with more, several workers share a lane's rows.

    Args:
        labels: all targets, (N, ...), in memory.
        share: this worker's rank, which selects its lanes, and its device.
    """

    def __init__(
        self,
        values: FileBackedArray,
        labels: Array,
        batch_size: int,
        seed: int,
        share: WorkerContext = WorkerContext(),
    ) -> None:
        self._values, self._labels, self._seed, self._share = values, labels, seed, share
        self._batch_size = batch_size

    def __call__(self, epoch: int, taken: RowsTaken = RowsTaken()) -> Iterator[Batch]:
        """This worker's batches of an epoch, in order, after the rows that have been taken."""
        rank, world_size, device = self._share
        n_rows, n_lanes = len(self._values), taken.workers or world_size
        lanes = _Lanes(n_rows, FLOAT_BYTES * self._values.n_values, n_lanes, [self._seed, epoch])
        bounds = bounds_after(taken.rows, n_rows, self._batch_size, world_size)
        stops = [stop for _, stop in bounds]
        rows_before = lanes.count_rows_before(np.array([taken.rows, *stops]))
        my_lanes = _assign_lanes(rank, world_size, n_lanes)
        streams = {lane: self._stream(lanes, lane, int(rows_before[lane, 0])) for lane in my_lanes}
        for stop, n_rows_of in zip(stops, np.diff(rows_before, axis=1).T, strict=True):
            parts = [
                streams[lane].take(int(n_rows_of[lane]), part) for lane, part in my_lanes.items()
            ]
            x, targets = parts[0] if len(parts) == 1 else map(torch.cat, zip(*parts, strict=True))
            total = int(n_rows_of.sum())
            yield Batch(x.to(device), targets.to(device), total, RowsTaken(stop, n_lanes))

    def _stream(self, lanes: _Lanes, lane: int, skipped_rows: int) -> _Stream:
        no_rows = torch.empty(0, self._values.n_values), to_tensor(self._labels[:0])
        return _Stream(self._windows(lanes, lane, skipped_rows), no_rows)

    def _windows(self, lanes: _Lanes, lane: int, skipped_rows: int) -> Iterator[_Window]:
        """Yield the shuffled windows of a lane after the skipped rows; one is read ahead."""
        with ThreadPoolExecutor(1) as reader:
            ahead = None
            for runs, places in lanes.windows(lane):
                if skipped_rows >= len(places):
                    skipped_rows -= len(places)
                    continue
                coming = reader.submit(self._read, lanes.run_rows, runs, places, skipped_rows)
                skipped_rows = 0
                if ahead:
                    yield ahead.result()
                ahead = coming
            if ahead:
                yield ahead.result()

    def _read(
        self, run_rows: int, runs: _Integers, places: _Integers, skipped_rows: int
    ) -> _Window:
        """Read the rows of some runs into their shuffled places, without the skipped rows."""
        values = np.empty((len(places), self._values.n_values), dtype=np.float32)
        labels = np.empty((len(places), *self._labels.shape[1:]), dtype=self._labels.dtype)
        done = 0
        for run in runs:
            rows = slice(run * run_rows, (run + 1) * run_rows)
            run_values = self._values[rows]
            run_places = places[done : done + len(run_values)]
            values[run_places], labels[run_places] = run_values, self._labels[rows]
            done += len(run_values)
        return torch.from_numpy(values[skipped_rows:]), torch.from_numpy(labels[skipped_rows:])


class _Lanes:
    """Deals out the runs of an epoch to lanes, in random order."""

    def __init__(self, n_rows: int, row_bytes: int, n_lanes: int, seeds: list[int]) -> None:
        max_run_rows = max(1, n_rows // (_RUNS_PER_WORKER * n_lanes))
        self.run_rows = min(max_run_rows, max(1, _RUN_BYTES // row_bytes))
        self._window_runs = max(1, _WINDOW_BYTES // (row_bytes * self.run_rows))
        self._n_rows, self._seeds = n_rows, seeds
        runs = np.random.default_rng(seeds).permutation(-(-n_rows // self.run_rows))
        self._lanes = [runs[lane::n_lanes] for lane in range(n_lanes)]
        self._totals = np.array([self._lengths(lane).sum() for lane in self._lanes])

    def count_rows_before(self, taken: _Integers) -> _Integers:
        """Count each lane's rows among the first ``taken`` rows of the epoch, (lanes, n)."""
        before: _Integers = self._totals[:, None] * taken[None, :] // self._n_rows
        return before

    def windows(self, lane: int) -> Iterator[tuple[_Integers, _Integers]]:
        """Yield the runs of each window of a lane, and the shuffled places of their rows."""
        runs = self._lanes[lane]
        for number, start in enumerate(range(0, len(runs), self._window_runs)):
            part = runs[start : start + self._window_runs]
            random = np.random.default_rng([*self._seeds, lane, number])
            yield part, random.permutation(int(self._lengths(part).sum()))

    def _lengths(self, runs: _Integers) -> _Integers:
        """Return the rows of each run; only the run at the end of the file is shorter."""
        lengths: _Integers = np.minimum(self.run_rows, self._n_rows - runs * self.run_rows)
        return lengths


def _assign_lanes(rank: int, world_size: int, n_lanes: int) -> dict[int, slice]:
    """Return a worker's lanes, and which of each lane's rows in a batch it takes."""
    if world_size <= n_lanes:
        return dict.fromkeys(range(rank, n_lanes, world_size), slice(None))
    lane = rank % n_lanes
    sharing = len(range(lane, world_size, n_lanes))
    return {lane: slice(rank // n_lanes, None, sharing)}


class _Stream:
    """A sequence of windows, from which rows are taken piece by piece."""

    def __init__(self, windows: Iterator[_Window], no_rows: _Window) -> None:
        self._windows = windows
        self._x, self._targets = no_rows

    def take(self, n_rows: int, part: slice) -> _Window:
        """Take the next ``n_rows`` rows, and return a part of them."""
        while len(self._x) < n_rows:
            x, targets = next(self._windows)
            self._x = torch.cat([self._x, x]) if len(self._x) else x
            self._targets = torch.cat([self._targets, targets]) if len(self._targets) else targets
        taken = self._x[:n_rows][part], self._targets[:n_rows][part]
        self._x, self._targets = self._x[n_rows:], self._targets[n_rows:]
        return taken


class EvaluationLoader:
    """Loads this worker's share of the rows, unshuffled, in batches of up to 1,024 rows.

    Rows in a file are read again in each pass.
    """

    def __init__(self, rows: Dataset, share: WorkerContext = WorkerContext()) -> None:
        self._share = share
        self._targets = to_tensor(rows.labels).to(share.device)
        values = rows.values
        self._x: Callable[[slice], Tensor]
        if isinstance(values, FileBackedArray):
            self._x = lambda part: torch.from_numpy(values[part]).to(share.device)
        else:
            self._x = to_tensor(values).to(share.device).__getitem__

    def __iter__(self) -> Iterator[Batch]:
        starts = range(0, len(self._targets), _EVALUATION_ROWS)[self._share.rows]
        for start in starts:
            part = slice(start, start + _EVALUATION_ROWS)
            x = self._x(part)
            yield Batch(x, self._targets[part], len(x))


def to_tensor(array: Array) -> Tensor:
    """Wrap an array in a tensor that shares its memory; it must not be written to.

    Arrays from a shared object store are read-only; PyTorch has no read-only tensors and warns.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
