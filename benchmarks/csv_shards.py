"""CSV shards of random series, of any size, written quickly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

N_CLASSES = 3


def write_random_shards(
    folder: Path, n_rows: int, n_timepoints: int, n_shards: int, digits: int = 6
) -> int:
    """Write normally distributed series with random one-hot labels; returns the bytes written.

    Args:
        digits: significant digits of each value; 17 is what pandas writes of a float64.
    """
    folder.mkdir(parents=True)
    written = 0
    for shard, rows in enumerate(np.array_split(np.arange(n_rows), n_shards)):
        random = np.random.default_rng(shard)
        values = random.standard_normal((len(rows), n_timepoints))
        if digits < 17:
            values = values.round(digits - 1)
        labels = np.eye(N_CLASSES, dtype=np.int8)[random.integers(0, N_CLASSES, len(rows))]
        columns = {f"y_{i + 1}": labels[:, i] for i in range(N_CLASSES)}
        columns |= {f"x_{i + 1}": values[:, i] for i in range(n_timepoints)}
        path = folder / f"part-{shard:03d}.csv"
        pa.csv.write_csv(pa.table(columns), path)
        written += path.stat().st_size
    return written
