"""``lstmfcn report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from lstmfcn.commands.flag_types import Overwrite, Place, Places, Seed
from lstmfcn.commands.pages import USE_COMMANDS, page
from lstmfcn.data_arguments import told
from lstmfcn.flag_groups import DATA, OUTPUT
from lstmfcn.terminal import stage, tell_result


@page(USE_COMMANDS, "lstmfcn report --model runs/first/model --data data/test --output report")
def report(
    *,
    model: Annotated[Place, DATA],
    data: Annotated[Places, DATA],
    output: Annotated[Place, OUTPUT],
    overwrite: Annotated[Overwrite, OUTPUT] = False,
    seed: Annotated[Seed, OUTPUT] = 0,
) -> None:
    """Write a page on a model: how good it is on labelled shards, where it errs, and why.

    OUTPUT/report.html is one file that needs no other; its drawings lie beside it as PNGs. Rows are
    read and predicted in this process, without Ray.

    Parameters
    ----------
    model
        Model directory. In the folder of its run, the learning curves are drawn too.
    data
        Labelled shards: files, folders, globs or URIs.
    output
        New folder.
    overwrite
        Put the report in place of an earlier one.
    seed
        Seed of the rows that class medians are drawn from, and of the intervals.
    """
    from lstmfcn.report.write import write_report

    with stage(f"reading {told(data)} and drawing"):
        written = write_report(model, data, output, seed, overwrite=overwrite)
    tell_result(str(written), report=str(Path(written).absolute()))
