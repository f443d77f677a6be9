"""``lstmfcn convert``."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from lstmfcn.commands.flag_types import Count, Place
from lstmfcn.commands.pages import DATA_COMMANDS, page
from lstmfcn.commands.written import tell_written
from lstmfcn.flag_groups import DATA, OUTPUT
from lstmfcn.hyperparameters import MissingName
from lstmfcn.terminal import stage


@page(
    DATA_COMMANDS,
    "lstmfcn convert --input Coffee_TRAIN.tsv --output coffee/train --shards 3",
    "lstmfcn convert --input beats.csv --output beats --no-header --label last",
)
def convert(
    *,
    input: Annotated[Place, DATA],  # noqa: A002 - the flag's name
    output: Annotated[Place, OUTPUT],
    shards: Annotated[Count, OUTPUT] = 1,
    missing: Annotated[MissingName, DATA] = "refuse",
    label: Annotated[Literal["first", "last", "none"] | None, DATA] = None,
    no_header: Annotated[bool, Parameter(negative=""), DATA] = False,
    channels: Annotated[Count | None, DATA] = None,
) -> None:
    """Convert a file of another form to CSV shards, by the end of its name.

    .ts, .arff, .tsv, .txt or none: files of the UCR/UEA archive. .npz, .npy: NumPy's arrays x and
    y. .csv: a long table (id, time, value, label), or rows without a header. Packed or not.

    Parameters
    ----------
    input
        File to convert.
    output
        New folder for part-000.csv, ...
    shards
        Number of files.
    missing
        mask makes empty cells of gaps, and of what shorter series lack at their end; train then
        with --missing mask.
    label
        Where the class of a row stands, where the file does not say it; none converts without
        labels, as predict needs none.
    no_header
        A .csv has no header, but a series a row.
    channels
        So many channels follow each other in a row of .tsv, .txt and headerless .csv.
    """
    from lstmfcn.convert.convert import convert as convert_file

    with stage(f"converting {input}"):
        rows = convert_file(input, output, shards, missing, label, not no_header, channels)
    tell_written(rows, shards, output)
