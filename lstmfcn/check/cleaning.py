"""Write shards without what is at fault in them: nothing is mended, nothing guessed.

Left out are rows that break the format, and shards that can only be left out as a whole. What is
left is checked again before it appears, as a whole or not at all.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from lstmfcn.check.check import check
from lstmfcn.check.copying import copy_shard
from lstmfcn.check.duplicates import Dropped
from lstmfcn.check.examination import Examined, ShardFindings
from lstmfcn.check.parts import parts_of
from lstmfcn.check.report import Findings
from lstmfcn.errors import DataError, OutputError
from lstmfcn.files import new_folder, whole_folder
from lstmfcn.schema import SeriesSchema

SET_ASIDE = "set_aside.csv"
FOLDERS = {"training": "train", "validation": "validation"}


class Cleaned(NamedTuple):
    """What was written, and what was left out."""

    n_shards: int
    n_rows: int
    n_shards_left_out: int
    n_rows_left_out: int


def write_clean(findings: Findings, output: Path, dropped: Dropped) -> Cleaned:
    """Write ``train``, ``validation`` and ``set_aside.csv``, the list of what is not in them.

    Args:
        findings: of the data.
        output: a new folder.
        dropped: further rows to leave out.

    Raises:
        OutputError: the folder cannot be used.
        DataError: what is left could not be trained on; nothing is written then.
    """
    for examined in findings.parts.values():
        if output.resolve().is_relative_to(Path(examined.data).resolve()):
            raise OutputError(f"{output}: lies in the data {examined.data}; name another --output")
    with whole_folder(new_folder(output)) as unfinished:
        left_out = [
            fault
            for which, examined in findings.parts.items()
            for fault in _write_shards(examined, dropped, unfinished / FOLDERS[which])
        ]
        again = _checked_again(findings, unfinished)
