"""Times of values. Shards have no times, so the values must be equally spaced."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lstmfcn.data.columns import abbreviate
from lstmfcn.errors import DataError

Times = npt.NDArray[np.float64]

JITTER = 0.01
"""Steps may differ by this fraction, because clocks have jitter."""


def parse_times(texts: Sequence[str], file: str, row: int | None = None) -> Times:
    """Read times as float64: numbers, ISO dates (in seconds), or numbers after a word, ``x_1``.

    Raises:
        DataError: the texts are none of these.
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
        f"the times {abbreviate(texts)}",
        "write numbers, dates such as 2026-01-31 13:00:00, or one word followed by numbers (t1, "
        "t2)",
        file=file,
        row=row,
    )


def find_step(times: Times) -> float | None:
    """The step between all times; 0 for fewer than two, None if there is no single step."""
    if not np.isfinite(times).all():
        return None
    steps = np.diff(times)
    if not len(steps):
        return 0.0
    step = float(np.median(steps))
    return step if step > 0 and are_equal(steps, step) else None


def are_equal(steps: Times | float, step: float) -> bool:
    """Whether all steps are equal to ``step``, except for jitter."""
    return bool((np.abs(np.asarray(steps) - step) <= JITTER * step).all())
