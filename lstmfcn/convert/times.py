"""Times of values: shards have none, so what they say must be said by the order alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lstmfcn.column_names import some_of
from lstmfcn.errors import DataError

Times = npt.NDArray[np.float64]

JITTER = 0.01
"""A step may differ from the others by so much of it: clocks are read with jitter."""


def times_of(texts: Sequence[str], file: str, row: int | None = None) -> Times:
    """Times as numbers: numbers, ISO dates (in seconds), or one word before numbers, ``x_1``.

    Raises:
        DataError: they are none of these.
    """
    if not texts:
        return np.empty(0)
    first, last = min(texts), max(texts)
    equal = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    prefix = first[: sum(1 for _ in equal)].rstrip("+-.0123456789")
    as_numbers = [text[len(prefix) :] for text in texts]
    for cells, kind in (
        (as_numbers, pa.float64()),
        (texts, pa.timestamp("us")),
        (texts, pa.timestamp("us", "UTC")),
    ):
        try:
            times = pa.array(cells, pa.string()).cast(kind)
        except pa.ArrowInvalid:
            continue
        if pa.types.is_timestamp(kind):
            times = times.cast(pa.int64())
        seconds = 1e6 if pa.types.is_timestamp(kind) else 1.0
        return np.asarray(times.to_numpy() / seconds, dtype=np.float64)
    raise DataError(
        f"the times {some_of(texts)}",
        "write numbers, dates such as 2026-01-31 13:00:00, or one word before numbers (t1, t2)",
        file=file,
        row=row,
    )


def step_of(times: Times) -> float | None:
    """The step that all times have; 0 of less than two, None where steps differ or do not rise."""
    if not np.isfinite(times).all():
        return None
    steps = np.diff(times)
    if not len(steps):
        return 0.0
    step = float(np.median(steps))
    return step if step > 0 and are_equal(steps, step) else None


def are_equal(steps: Times | float, step: float) -> bool:
    """Whether all steps are this one, but for jitter."""
    return bool((np.abs(np.asarray(steps) - step) <= JITTER * step).all())
