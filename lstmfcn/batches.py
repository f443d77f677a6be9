"""Shuffled batches over rows in memory.

The order of an epoch depends on the seed, the epoch and the number of rows, and on nothing else:
not on shards, not on workers. Each worker takes its share of every global batch, so that the batch
size means the same at any number of workers and no row is dropped or seen twice.

Shapes: N rows, T timepoints, B rows of one global batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lstmfcn.errors import HyperparameterError
from lstmfcn.schema import Array, FloatArray

_EVALUATION_ROWS = 1024


class Rows(NamedTuple):
    """Scaled values, float32 (N, T), and encoded labels, (N, ...), of the same rows."""

    values: FloatArray
    labels: Array

    def __len__(self) -> int:
        return len(self.values)


class Batch(NamedTuple):
    """One worker's share of a batch: scaled series (n, T), targets (n, ...), B over all workers."""

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


BatchSource = Callable[[int], Iterator[Batch]]
"""What the training loop consumes: epoch, counted from 1, to this worker's batches."""


class MemoryBatches:
    """Batches of rows that lie in memory.

    Args:
        rows: all training rows, the same on every worker.
        batch_size: rows of a global batch.
        seed: decides the order, together with the epoch.
        share: what of each batch this worker takes, and where it keeps the rows.
    """

    def __init__(
        self,
        rows: Rows,
        batch_size: int,
        seed: int,
        share: Share = Share(),
    ) -> None:
        self._x = as_tensor(rows.values).to(share.device)
        self._targets = as_tensor(rows.labels).to(share.device)
        self._seed, self._share = seed, share
        self._bounds = batch_bounds(len(rows), batch_size, 2 * share.world_size)

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """This worker's batches of an epoch, in order."""
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._x))
        device_order = torch.from_numpy(order).to(self._x.device)
        for start, stop in self._bounds:
            taken = device_order[start:stop][self._share.rows]
            yield Batch(self._x[taken], self._targets[taken], stop - start)


def batch_bounds(n_rows: int, batch_size: int, fewest: int) -> list[tuple[int, int]]:
    """Where each batch starts and stops.

    All batches are full but the last. A last batch of fewer than ``fewest`` rows joins the one
    before it, because batch norm needs at least two rows on every worker.

    Raises:
        HyperparameterError: the batch size itself is below ``fewest``.
    """
    if batch_size < fewest:
        raise HyperparameterError(
            f"batch-size: found {batch_size}; it must be at least {fewest}, "
            "two rows for each worker, because batch norm needs them"
        )
    starts = list(range(0, n_rows, batch_size))
    if len(starts) > 1 and n_rows - starts[-1] < fewest:
        starts.pop()
    return list(zip(starts, [*starts[1:], n_rows], strict=True))


def evaluation_batches(rows: Rows, share: Share = Share()) -> list[Batch]:
    """This worker's share of the rows, unshuffled, in batches of up to 1,024."""
    x = as_tensor(rows.values)[share.rows].to(share.device)
    targets = as_tensor(rows.labels)[share.rows].to(share.device)
    pairs = zip(
        torch.split(x, _EVALUATION_ROWS), torch.split(targets, _EVALUATION_ROWS), strict=True
    )
    return [Batch(part, goal, len(part)) for part, goal in pairs if len(part)]


def as_tensor(array: Array) -> Tensor:
    """A tensor over the array's own memory, which must not be written to.

    Arrays out of a shared object store are read-only; PyTorch has no read-only tensors and warns.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
