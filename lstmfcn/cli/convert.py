"""``lstmfcn convert``."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from lstmfcn.cli.app import DATA_COMMANDS, page
from lstmfcn.cli.flags import DATA, INPUT_DATA, OUTPUT, Count, Overwrite, Place
from lstmfcn.console import print_status, print_written
from lstmfcn.hyperparameters import MissingName
from lstmfcn.storage.places import absolute, shown_place


@page(
    DATA_COMMANDS,
    "DATA --output FOLDER [OPTIONS]",
    "lstmfcn convert Coffee_TRAIN.tsv --output coffee/train --shards 3",
    "lstmfcn convert beats.csv --output beats --no-header --label last",
)
def convert(
    data: Annotated[Place, INPUT_DATA, DATA],
    *,
    output: Annotated[Place, OUTPUT],
    shards: Annotated[Count, OUTPUT] = 1,
    missing: Annotated[MissingName, DATA] = "refuse",
    label: Annotated[Literal["first", "last", "none"] | None, DATA] = None,
    no_header: Annotated[bool, Parameter(negative=""), DATA] = False,
    channels: Annotated[Count | None, DATA] = None,
    overwrite: Annotated[Overwrite, OUTPUT] = False,
) -> None:
    """Convert a file of another format to CSV shards. The file name's ending tells the format.

    .ts, .arff, .tsv, .txt or no ending: files of the UCR/UEA archive. .npz, .npy: NumPy arrays x
    and y. .csv: a long table (id, time, value, label), or rows without a header. The file may be
    compressed.

    Parameters
    ----------
    data
        File to convert.
    output
        New folder for part-000.csv, ..., or its URI.
    shards
        Number of files to write.
    missing
        mask writes missing values, and the missing ends of shorter series, as empty cells; then
        train with --missing mask.
    label
        Which column is the class, if the file does not say so; none converts without labels,
        which is enough for predict.
    no_header
        The .csv file has no header: each line is one series.
    channels
        Channels per row of .tsv, .txt and headerless .csv files, one after the other.
    overwrite
        Replace the shards in OUTPUT.
    """
    from lstmfcn.convert.run import convert as convert_file

    with print_status(f"converting {data}"):
        rows = convert_file(
            data, output, shards, missing, label, not no_header, channels, overwrite=overwrite
        )
    print_written(rows, shards, shown_place(output), absolute(output))
