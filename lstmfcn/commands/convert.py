"""``lstmfcn convert``."""

from __future__ import annotations

from typing import Annotated

from lstmfcn.commands.flag_types import Count, Place
from lstmfcn.commands.pages import DATA_COMMANDS, page
from lstmfcn.commands.written import tell_written
from lstmfcn.flag_groups import DATA, OUTPUT
from lstmfcn.hyperparameters import MissingName
from lstmfcn.terminal import stage


@page(DATA_COMMANDS, "lstmfcn convert --input Coffee_TRAIN.tsv --output coffee/train --shards 3")
def convert(
    *,
    input: Annotated[Place, DATA],  # noqa: A002 - the flag's name
    output: Annotated[Place, OUTPUT],
    shards: Annotated[Count, OUTPUT] = 1,
    missing: Annotated[MissingName, DATA] = "refuse",
) -> None:
    """Convert a .tsv or .ts file of the UCR/UEA archive to CSV shards.

    Parameters
    ----------
    input
        Archive file.
    output
        New folder for part-000.csv, ...
    shards
        Number of files.
    missing
        mask makes empty cells of gaps, and of what shorter series lack at their end; train then
        with --missing mask.
    """
    from lstmfcn.convert import convert as convert_archive_file

    with stage(f"converting {input}"):
        rows = convert_archive_file(input, output, shards, missing)
    tell_written(rows, shards, output)
