"""``lstmfcn convert``."""

from __future__ import annotations

from lstmfcn.commands.flag_types import Count
from lstmfcn.commands.written import tell_written


def convert(*, input: str, output: str, shards: Count = 1) -> None:  # noqa: A002
    """Convert a .tsv or .ts file of the UCR/UEA archive to CSV shards.

    Parameters
    ----------
    input
        Archive file.
    output
        New folder for part-000.csv, ...
    shards
        Number of files.
    """
    from lstmfcn.convert import convert as convert_archive_file

    rows = convert_archive_file(input, output, shards)
    tell_written(rows, shards, output)
