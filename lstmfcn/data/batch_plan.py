"""The rows of each batch of an epoch."""

from __future__ import annotations

from typing import Literal

from lstmfcn.console import pluralize
from lstmfcn.errors import DataError, HyperparameterError

FEWEST_ROWS = 2
"""Batch norm needs so many rows on each worker."""

_MIN_AUTO, _MAX_AUTO, _AUTO_BATCHES = 8, 128, 32


def batch_size_for(setting: int | Literal["auto"], n_rows: int, world_size: int = 1) -> int:
    """The number of rows of a batch.

    ``auto`` is a power of two from 8 to 128 that gives about 32 batches: small data sets need many
    steps (docs/accuracy.md), large ones need speed. Each worker gets at least two rows.
    """
    if setting != "auto":
        return setting
    rows_per_batch = max(1, n_rows // _AUTO_BATCHES)
    power_of_two = min(_MAX_AUTO, 1 << (rows_per_batch.bit_length() - 1))
    return max(_MIN_AUTO, FEWEST_ROWS * world_size, power_of_two)


def batch_bounds(n_rows: int, batch_size: int, world_size: int) -> list[tuple[int, int]]:
    """The first row, and the row after the last, of each batch.

    All batches but the last are full. A last batch with fewer than two rows for each worker is
    joined to the one before, because batch norm needs two.
    """
    starts = list(range(0, n_rows, batch_size))
    if len(starts) > 1 and n_rows - starts[-1] < FEWEST_ROWS * world_size:
        starts.pop()
    return list(zip(starts, [*starts[1:], n_rows], strict=True))


def bounds_after(
    taken: int, n_rows: int, batch_size: int, world_size: int
) -> list[tuple[int, int]]:
    """Like `batch_bounds`, for the rows that are left after the first ``taken`` rows.

    If whole batches were taken, these are the other batches of `batch_bounds`.
    """
    if taken == n_rows:
        return []
    left = batch_bounds(n_rows - taken, batch_size, world_size)
    return [(taken + start, taken + stop) for start, stop in left]


def refuse_small_batches(batch_size: int, world_size: int) -> None:
    """Refuse (`HyperparameterError`) a batch size below two rows for each worker."""
    if batch_size < FEWEST_ROWS * world_size:
        raise HyperparameterError(
            f"batch-size: found {batch_size}; it must be at least {FEWEST_ROWS * world_size}, "
            "two rows for each worker, because batch norm needs them"
        )


def refuse_few_rows(n_rows: int, world_size: int, file: str) -> None:
    """Refuse (`DataError`) training data with fewer than two rows for each worker."""
    if n_rows < FEWEST_ROWS * world_size:
        raise DataError(
            f"{pluralize(n_rows, 'row')} for {pluralize(world_size, 'worker')}",
            "training needs at least two rows for each worker",
            file=file,
        )
