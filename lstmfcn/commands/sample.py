"""``lstmfcn sample``."""

from __future__ import annotations

from pathlib import Path

from lstmfcn.commands.flag_types import Count, Seed
from lstmfcn.commands.written import tell_written


def sample(*, output: str, rows: Count = 600, shards: Count = 3, seed: Seed = 0) -> None:
    """Write CSV shards of the synthetic Cylinder-Bell-Funnel problem, to try things with.

    Parameters
    ----------
    output
        New folder for part-000.csv, ...
    rows
        Number of series.
    shards
        Number of files.
    seed
        Seed of the series.
    """
    from lstmfcn.cylinder_bell_funnel import cylinder_bell_funnel
    from lstmfcn.shard_writing import write_shards

    values, names = cylinder_bell_funnel(rows, seed)
    write_shards(Path(output), names.tolist(), values.round(6).tolist(), shards)
    tell_written(rows, shards, output)
