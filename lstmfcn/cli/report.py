"""``lstmfcn report``."""

from __future__ import annotations

from typing import Annotated

from lstmfcn.cli.app import USE_COMMANDS, page
from lstmfcn.cli.flags import DATA, FIRST_DATA, OUTPUT, Overwrite, Place, Places, Seed
from lstmfcn.console import print_result, print_status
from lstmfcn.data.listing import join_arguments
from lstmfcn.storage.places import absolute, shown_place


@page(
    USE_COMMANDS,
    "DATA... --model MODEL --output FOLDER [OPTIONS]",
    "lstmfcn report data/test --model runs/first --output report",
)
def report(
    data: Annotated[Places, FIRST_DATA, DATA],
    *,
    model: Annotated[Place, DATA],
    output: Annotated[Place, OUTPUT],
    overwrite: Annotated[Overwrite, OUTPUT] = False,
    seed: Annotated[Seed, OUTPUT] = 0,
) -> None:
    """Write a report on a model as one HTML page: how good it is, where it is wrong, and why.

    OUTPUT/report.html is complete in itself; its figures are also written beside it as PNG files.
    The report is made in this process, without Ray.

    Parameters
    ----------
    data
        Labelled shards: files, folders, globs or URIs of CSV or Parquet.
    model
        Model directory or folder of a run, or its URI. With a run, the learning curves are drawn
        too.
    output
        Folder of the report, or its URI, such as s3://bucket/report.
    overwrite
        Replace an earlier report.
    seed
        Random seed of the confidence intervals, and of the rows that class medians are taken from.
    """
    from lstmfcn.report.build import write_report

    with print_status(f"reading {join_arguments(data)} and drawing"):
        written = write_report(model, data, output, seed, overwrite=overwrite)
    print_result(shown_place(written), report=str(absolute(written)))
