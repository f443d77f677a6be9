"""``lstmfcn convert``."""

from __future__ import annotations

from lstmfcn.commands.flag_types import Count
from lstmfcn.commands.written import tell_written
from lstmfcn.hyperparameters import MissingName


def convert(
    *,
    input: str,  # noqa: A002 - the flag's name
    output: str,
    shards: Count = 1,
    missing: MissingName = "refuse",
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

    rows = convert_archive_file(input, output, shards, missing)
    tell_written(rows, shards, output)
