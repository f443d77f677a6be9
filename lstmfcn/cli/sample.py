"""``lstmfcn sample``."""

from __future__ import annotations

from typing import Annotated

from lstmfcn.cli.app import DATA_COMMANDS, page
from lstmfcn.cli.flags import DATA, OUTPUT, Count, Overwrite, Place, Seed
from lstmfcn.console import print_written
from lstmfcn.storage.outputs import output_folder
from lstmfcn.storage.places import absolute, shown_place


@page(
    DATA_COMMANDS,
    "--output FOLDER [OPTIONS]",
    "lstmfcn sample --output data/train --rows 300 --seed 1",
)
def sample(
    *,
    output: Annotated[Place, OUTPUT],
    rows: Annotated[Count, DATA] = 600,
    shards: Annotated[Count, OUTPUT] = 3,
    seed: Annotated[Seed, DATA] = 0,
    overwrite: Annotated[Overwrite, OUTPUT] = False,
) -> None:
    """Write demo data: CSV shards of the synthetic Cylinder-Bell-Funnel problem.

    Parameters
    ----------
    output
        New folder for part-000.csv, ..., or its URI.
    rows
        Number of series.
    shards
        Number of files.
    seed
        Random seed of the series.
    overwrite
        Replace the shards in OUTPUT.
    """
    from lstmfcn.data.synthetic import cylinder_bell_funnel
    from lstmfcn.data.writer import write_shards

    with output_folder(output) as folder:
        values, names = cylinder_bell_funnel(rows, seed)
        write_shards(folder, names.tolist(), values.round(6).tolist(), shards, overwrite=overwrite)
    print_written(rows, shards, shown_place(output), absolute(output))
