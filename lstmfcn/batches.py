"""Shuffled batches: of rows in memory, and of rows streamed from a file.

The order of an epoch depends on the seed, the epoch and the number of rows, not on shards; that of
rows in memory not on the number of workers either, that of streamed rows on the number of workers
that the epoch began with. Each worker takes its share of every global batch, so that the batch size
means the same at any number of workers. An epoch sees each row once (or as often as the epoch goes
over rows in memory that are few), also where it goes on with another number of workers than it
began with, or with another batch size: it goes on after the rows that were taken.

Only the gradient is that of the whole batch: batch norm normalises each worker's rows by the mean
and variance of these rows, B / W of them.

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

from lstmfcn.bounds import bounds_after
from lstmfcn.cells import Array, FloatArray
from lstmfcn.rows import FLOAT_BYTES, Rows, StoredValues

_Integers = npt.NDArray[np.int64]
_Window = tuple[Tensor, Tensor]
"""Series (n, V) and their targets (n, ...)."""

_EVALUATION_ROWS = 1024
_RUN_BYTES = 256 << 10
"""Bytes of consecutive rows that are read at once: large enough for any disk or network share."""
_WINDOW_BYTES = 32 << 20
"""Bytes of the runs, from all over the file, whose rows are shuffled together."""
_RUNS_PER_WORKER = 64
"""Runs that each worker has at least, so that all workers have nearly the same number of rows."""


class Taken(NamedTuple):
    """What of an epoch has been trained on.

    Attributes:
        rows: over all workers, in the order of the epoch.
        workers: with which the epoch began; 0 for those that there are.
    """

    rows: int = 0
    workers: int = 0


class Batch(NamedTuple):
    """One worker's share of a batch: scaled series (n, V), targets (n, ...), B over all workers.

    ``taken`` is what of the epoch has been trained on once this batch has.
    """

    x: Tensor
    targets: Tensor
    n_rows_global: int
    taken: Taken = Taken()


class Share(NamedTuple):
    """What of every batch one worker takes: each ``world_size``-th row, from ``rank`` on."""

    rank: int = 0
    world_size: int = 1
    device: torch.device | str = "cpu"

    @property
    def rows(self) -> slice:
        """The share as a slice of any sequence."""
        return slice(self.rank, None, self.world_size)


class BatchSource(Protocol):
    """What the training loop consumes."""

    def __call__(self, epoch: int, taken: Taken = Taken()) -> Iterator[Batch]:
        """This worker's batches of an epoch, counted from 1, after what has been taken."""


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
        self._batch_size = batch_size

    def __call__(self, epoch: int, taken: Taken = Taken()) -> Iterator[Batch]:
        """This worker's batches of an epoch, in order, after the rows that have been taken."""
        world_size = self._share.world_size
        random = np.random.default_rng([self._seed, epoch])
        order = np.concatenate([random.permutation(len(self._x)) for _ in range(self._passes)])
        device_order = torch.from_numpy(order).to(self._x.device)
        for start, stop in bounds_after(taken.rows, len(order), self._batch_size, world_size):
            mine = device_order[start:stop][self._share.rows]
            x, targets = self._x.index_select(0, mine), self._targets.index_select(0, mine)
            yield Batch(x, targets, stop - start, Taken(stop, world_size))


class StreamedBatches:
    """Batches of rows that lie in a file, in bounded memory.

    An epoch visits short runs of consecutive rows in random order, dealt out to as many lanes as
    there are workers. A lane is read window by window, the next one while the worker trains, and
    the rows of each window are shuffled. Its share of a batch is in proportion to its rows, which
    differ by a run at most.

    Each worker takes a lane. An epoch that goes on with another number of workers keeps its lanes:
    of fewer workers some take several, of more workers several read the same and share its rows.

    Args:
        values: all values, in the file.
        labels: all targets, (N, ...), in memory.
        batch_size: rows of a global batch.
        seed: decides the order, together with the epoch.
        share: which lanes this worker takes.
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
        self._batch_size = batch_size

    def __call__(self, epoch: int, taken: Taken = Taken()) -> Iterator[Batch]:
        """This worker's batches of an epoch, in order, after the rows that have been taken."""
        rank, world_size, device = self._share
        n_rows, n_lanes = len(self._values), taken.workers or world_size
        lanes = _Lanes(n_rows, FLOAT_BYTES * self._values.n_values, n_lanes, [self._seed, epoch])
        bounds = bounds_after(taken.rows, n_rows, self._batch_size, world_size)
        stops = [stop for _, stop in bounds]
        done = lanes.rows_before(np.array([taken.rows, *stops]))
        mine = _parts_of_lanes(rank, world_size, n_lanes)
        streams = {lane: self._stream(lanes, lane, int(done[lane, 0])) for lane in mine}
        for stop, taking in zip(stops, np.diff(done, axis=1).T, strict=True):
            parts = [streams[lane].take(int(taking[lane]), part) for lane, part in mine.items()]
            x, targets = parts[0] if len(parts) == 1 else map(torch.cat, zip(*parts, strict=True))
            total = int(taking.sum())
            yield Batch(x.to(device), targets.to(device), total, Taken(stop, n_lanes))

    def _stream(self, lanes: _Lanes, lane: int, skipped_rows: int) -> _Stream:
        no_rows = torch.empty(0, self._values.n_values), as_tensor(self._labels[:0])
        return _Stream(self._windows(lanes, lane, skipped_rows), no_rows)

    def _windows(self, lanes: _Lanes, lane: int, skipped_rows: int) -> Iterator[_Window]:
        """Shuffled windows, from the first row that is not skipped on; one is read ahead."""
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
        """The rows of some runs, each at its place, without the first ones."""
        values = np.empty((len(places), self._values.n_values), dtype=np.float32)
        labels = np.empty((len(places), *self._labels.shape[1:]), dtype=self._labels.dtype)
        done = 0
        for run in runs:
            rows = slice(run * run_rows, (run + 1) * run_rows)
            found = self._values[rows]
            here = places[done : done + len(found)]
            values[here], labels[here] = found, self._labels[rows]
            done += len(found)
        return torch.from_numpy(values[skipped_rows:]), torch.from_numpy(labels[skipped_rows:])


class _Lanes:
    """The runs of an epoch, in random order, dealt out to lanes.

    Args:
        n_rows: N.
        row_bytes: of a row's values.
        n_lanes: how many.
        seeds: decide the order.
    """

    def __init__(self, n_rows: int, row_bytes: int, n_lanes: int, seeds: list[int]) -> None:
        most = max(1, n_rows // (_RUNS_PER_WORKER * n_lanes))
        self.run_rows = min(most, max(1, _RUN_BYTES // row_bytes))
        self._window_runs = max(1, _WINDOW_BYTES // (row_bytes * self.run_rows))
        self._n_rows, self._seeds = n_rows, seeds
        runs = np.random.default_rng(seeds).permutation(-(-n_rows // self.run_rows))
        self._lanes = [runs[lane::n_lanes] for lane in range(n_lanes)]
        self._totals = np.array([self._lengths(lane).sum() for lane in self._lanes])

    def rows_before(self, taken: _Integers) -> _Integers:
        """How many rows of each lane are among the first so many of all, (lanes, n)."""
        before: _Integers = self._totals[:, None] * taken[None, :] // self._n_rows
        return before

    def windows(self, lane: int) -> Iterator[tuple[_Integers, _Integers]]:
        """The runs of each window of a lane, and the places that their rows are shuffled to."""
        runs = self._lanes[lane]
        for number, start in enumerate(range(0, len(runs), self._window_runs)):
            part = runs[start : start + self._window_runs]
            random = np.random.default_rng([*self._seeds, lane, number])
            yield part, random.permutation(int(self._lengths(part).sum()))

    def _lengths(self, runs: _Integers) -> _Integers:
        """Rows of each run: all alike but that at the end of the file."""
        lengths: _Integers = np.minimum(self.run_rows, self._n_rows - runs * self.run_rows)
        return lengths


def _parts_of_lanes(rank: int, world_size: int, n_lanes: int) -> dict[int, slice]:
    """The lanes that a worker takes, and of each which rows of every batch."""
    if world_size <= n_lanes:
        return dict.fromkeys(range(rank, n_lanes, world_size), slice(None))
    lane = rank % n_lanes
    sharing = len(range(lane, world_size, n_lanes))
    return {lane: slice(rank // n_lanes, None, sharing)}


class _Stream:
    """Windows as one sequence of rows, taken piece by piece.

    Args:
        windows: in order.
        no_rows: of the shapes and types that they have.
    """

    def __init__(self, windows: Iterator[_Window], no_rows: _Window) -> None:
        self._windows = windows
        self._x, self._targets = no_rows

    def take(self, n_rows: int, part: slice) -> _Window:
        """This part of the next rows."""
        while len(self._x) < n_rows:
            x, targets = next(self._windows)
            self._x = torch.cat([self._x, x]) if len(self._x) else x
            self._targets = torch.cat([self._targets, targets]) if len(self._targets) else targets
        taken = self._x[:n_rows][part], self._targets[:n_rows][part]
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
