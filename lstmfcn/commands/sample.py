"""``lstmfcn sample``."""

from __future__ import annotations

from typing import Annotated

from lstmfcn.commands.flag_types import Count, Place, Seed
from lstmfcn.commands.pages import DATA_COMMANDS, page
from lstmfcn.commands.written import tell_written
from lstmfcn.files import local_path
from lstmfcn.flag_groups import DATA, OUTPUT


@page(DATA_COMMANDS, "lstmfcn sample --output data/train --rows 300 --seed 1")
def sample(
    *,
    output: Annotated[Place, OUTPUT],
    rows: Annotated[Count, DATA] = 600,
    shards: Annotated[Count, OUTPUT] = 3,
    seed: Annotated[Seed, DATA] = 0,
) -> None:
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

    folder = local_path(output)
    values, names = cylinder_bell_funnel(rows, seed)
    write_shards(folder, names.tolist(), values.round(6).tolist(), shards)
    tell_written(rows, shards, output)
