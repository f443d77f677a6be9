"""Where each batch of an epoch starts and stops."""

from __future__ import annotations

from typing import Literal

from lstmfcn.counts import number
from lstmfcn.errors import DataError, HyperparameterError

FEWEST_ROWS = 2
"""What batch norm needs on every worker."""


_LEAST_AUTO, _MOST_AUTO, _AUTO_SHARE = 8, 128, 32


def batch_size_for(wanted: int | Literal["auto"], n_rows: int, world_size: int = 1) -> int:
    """Rows of a batch; ``auto`` is a 32nd of all rows as a power of two, from 8 to 128.

    Small sets need steps (docs/accuracy.md), large ones speed. More than four workers get two rows
    each at least.
    """
    if wanted != "auto":
        return wanted
    share = max(1, n_rows // _AUTO_SHARE)
    fitting = min(_MOST_AUTO, 1 << (share.bit_length() - 1))
    return max(_LEAST_AUTO, FEWEST_ROWS * world_size, fitting)


def batch_bounds(n_rows: int, batch_size: int, world_size: int) -> list[tuple[int, int]]:
    """Where each batch starts and stops.

    All batches are full but the last. A last batch that does not have two rows for each worker
    joins the one before it, because batch norm needs them.
    """
    starts = list(range(0, n_rows, batch_size))
    if len(starts) > 1 and n_rows - starts[-1] < FEWEST_ROWS * world_size:
        starts.pop()
    return list(zip(starts, [*starts[1:], n_rows], strict=True))


def bounds_after(
    taken: int, n_rows: int, batch_size: int, world_size: int
) -> list[tuple[int, int]]:
    """Where each batch of the rows that are left starts and stops, after so many have been taken.

    The same as those of all rows, where as many were taken as some of these batches have.
    """
    if taken == n_rows:
        return []
    left = batch_bounds(n_rows - taken, batch_size, world_size)
    return [(taken + start, taken + stop) for start, stop in left]


def refuse_small_batches(batch_size: int, world_size: int) -> None:
    """Refuse a batch that does not have two rows for each worker.

    Raises:
        HyperparameterError: names the least batch size.
    """
    if batch_size < FEWEST_ROWS * world_size:
        raise HyperparameterError(
            f"batch-size: found {batch_size}; it must be at least {FEWEST_ROWS * world_size}, "
            "two rows for each worker, because batch norm needs them"
        )


def refuse_few_rows(n_rows: int, world_size: int, file: str) -> None:
    """Refuse training data that does not have two rows for each worker.

    Raises:
        DataError: names the data.
    """
    if n_rows < FEWEST_ROWS * world_size:
        raise DataError(
            f"{number(n_rows, 'row')} for {number(world_size, 'worker')}",
            "give each worker at least two rows",
            file=file,
        )
