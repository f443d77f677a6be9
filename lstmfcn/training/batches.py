"""Load shuffled batches, of rows in memory or of rows streamed from blocks.

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
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lstmfcn.data.batch_plan import bounds_after
from lstmfcn.data.dataset import FLOAT_BYTES, BlockArray, Dataset
from lstmfcn.data.table import Array, FloatArray

T = TypeVar("T")

_Integers = npt.NDArray[np.int64]
_Window = tuple[Tensor, Tensor]
"""Series (n, V) and their targets (n, ...)."""

_EVALUATION_ROWS = 1024
_WINDOW_BYTES = 64 << 20
"""Bytes per window, the runs from all over the data whose rows are shuffled together."""
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
    if isinstance(rows.values, BlockArray):
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
    """Loads batches of rows in blocks, with bounded memory.

    An epoch visits runs of consecutive rows (blocks, or parts of blocks where there are few) in
    random order, which are dealt out to as many lanes as there are workers. A lane is read window
    by window, one ahead of training, and the rows of each window are shuffled. Each lane's share of
    a batch is proportional to its number of rows; lanes differ by about one run at most.

    Each worker takes a lane. An epoch that resumes with another number of workers keeps its lanes:
    with fewer workers, some take several lanes; with more, several workers share a lane's rows.

    Args:
        labels: all targets, (N, ...), in memory.
        share: this worker's rank, which selects its lanes, and its device.
    """

    def __init__(
        self,
        values: BlockArray,
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
        lanes = _Lanes(self._values, n_lanes, [self._seed, epoch])
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

        def reads() -> Iterator[Callable[[], _Window]]:
            to_skip = skipped_rows
            for runs, places in lanes.windows(lane):
                if to_skip < len(places):
                    yield partial(self._read, runs, places, to_skip)
                to_skip = max(0, to_skip - len(places))

        return _read_ahead(reads())

    def _read(self, runs: _Runs, places: _Integers, skipped_rows: int) -> _Window:
        """Read the rows of some runs into their shuffled places, without the skipped rows."""
        values = np.empty((len(places), self._values.n_values), dtype=np.float32)
        labels = np.empty((len(places), *self._labels.shape[1:]), dtype=self._labels.dtype)
        ends = np.cumsum(runs.lengths)
        for i, run_values in self._values.read_runs(runs.starts, runs.stops):
            run_places = places[ends[i] - len(run_values) : ends[i]]
            values[run_places] = run_values
            labels[run_places] = self._labels[runs.starts[i] : runs.stops[i]]
        return torch.from_numpy(values[skipped_rows:]), torch.from_numpy(labels[skipped_rows:])


def _read_ahead(reads: Iterator[Callable[[], T]]) -> Iterator[T]:
    """Call each function in a thread, one ahead of whoever takes the results."""
    with ThreadPoolExecutor(1) as reader:
        ahead = None
        for read in reads:
            coming = reader.submit(read)
            if ahead:
                yield ahead.result()
            ahead = coming
        if ahead:
            yield ahead.result()


class _Runs(NamedTuple):
    """Runs of consecutive rows: the first row of each, and the row after its last."""

    starts: _Integers
    stops: _Integers

    @property
    def lengths(self) -> _Integers:
        """The number of rows of each."""
        return self.stops - self.starts

    def select(self, which: _Integers | slice) -> _Runs:
        """Return some of the runs."""
        return _Runs(self.starts[which], self.stops[which])


class _Lanes:
    """Deals out the runs of an epoch to lanes, in random order."""

    def __init__(self, values: BlockArray, n_lanes: int, seeds: list[int]) -> None:
        self._n_rows, self._seeds = len(values), seeds
        max_run_rows = max(1, len(values) // (_RUNS_PER_WORKER * n_lanes))
        parts = -(-values.block_rows // max_run_rows)
        runs = _cut_blocks(values, parts)
        runs = runs.select(np.random.default_rng(seeds).permutation(len(runs.starts)))
        run_bytes = FLOAT_BYTES * values.n_values * -(-values.block_rows // parts)
        self._window_runs = max(1, _WINDOW_BYTES // run_bytes)
        self._lanes = [runs.select(slice(lane, None, n_lanes)) for lane in range(n_lanes)]
        self._totals = np.array([lane.lengths.sum() for lane in self._lanes])

    def count_rows_before(self, taken: _Integers) -> _Integers:
        """Count each lane's rows among the first ``taken`` rows of the epoch, (lanes, n)."""
        before: _Integers = self._totals[:, None] * taken[None, :] // self._n_rows
        return before

    def windows(self, lane: int) -> Iterator[tuple[_Runs, _Integers]]:
        """Yield the runs of each window of a lane, and the shuffled places of their rows."""
        runs = self._lanes[lane]
        for number, start in enumerate(range(0, len(runs.starts), self._window_runs)):
            part = runs.select(slice(start, start + self._window_runs))
            random = np.random.default_rng([*self._seeds, lane, number])
            yield part, random.permutation(int(part.lengths.sum()))


def _cut_blocks(values: BlockArray, parts: int) -> _Runs:
    """Cut each block into this many runs of nearly the same length, at most."""
    block_starts = np.arange(values.n_blocks)[:, None] * values.block_rows
    bounds = block_starts + np.arange(parts + 1) * values.block_rows // parts
    bounds = np.minimum(bounds, len(values))
    runs = _Runs(bounds[:, :-1].ravel(), bounds[:, 1:].ravel())
    return runs.select(np.flatnonzero(runs.lengths))


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

    Rows in blocks are read again in each pass, one batch ahead.
    """

    def __init__(self, rows: Dataset, share: WorkerContext = WorkerContext()) -> None:
        self._share = share
        self._targets = to_tensor(rows.labels).to(share.device)
        values = rows.values
        self._values = (
            values if isinstance(values, BlockArray) else to_tensor(values).to(share.device)
        )

    def __iter__(self) -> Iterator[Batch]:
        starts = range(0, len(self._targets), _EVALUATION_ROWS)[self._share.rows]
        parts = [slice(start, start + _EVALUATION_ROWS) for start in starts]
        for part, x in zip(parts, self._series(parts), strict=True):
            yield Batch(x, self._targets[part], len(x))

    def _series(self, parts: list[slice]) -> Iterator[Tensor]:
        values, device = self._values, self._share.device
        if isinstance(values, Tensor):
            yield from (values[part] for part in parts)
        else:
            reads = (partial(values.__getitem__, part) for part in parts)
            yield from (torch.from_numpy(x).to(device) for x in _read_ahead(reads))


def to_tensor(array: Array) -> Tensor:
    """Wrap an array in a tensor that shares its memory; it must not be written to.

    Arrays from a shared object store are read-only; PyTorch has no read-only tensors and warns.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
