"""Write shards without what is at fault in them: nothing is mended, nothing guessed.

Left out are rows that break the format, and shards that can only be left out as a whole. What is
left is checked again before it appears, as a whole or not at all.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple, TextIO

from lstmfcn.check.check import check
from lstmfcn.check.copying import copy_shard
from lstmfcn.check.duplicates import Dropped
from lstmfcn.check.examination import ShardFindings
from lstmfcn.check.parts import parts_of
from lstmfcn.check.report import Findings
from lstmfcn.data_arguments import arguments_of
from lstmfcn.errors import DataError, OutputError
from lstmfcn.files import new_folder, resolved, whole_folder
from lstmfcn.schema import SeriesSchema

SET_ASIDE = "set_aside.csv"
_FOLDERS = {"training": "train", "validation": "validation"}


class Cleaned(NamedTuple):
    """What was written, and what was left out of it."""

    n_rows: int
    n_rows_left_out: int
    n_shards_left_out: int


class _SetAside:
    """A line for each row and each shard that is left out."""

    def __init__(self, file: TextIO) -> None:
        self._lines = csv.writer(file, lineterminator="\n")
        self._lines.writerow(["file", "row", "column", "found", "fix"])
        self.n_rows = self.n_shards = 0

    def add(self, fault: DataError) -> None:
        """Take note of a row, or of a shard where the fault has no row."""
        self.add_lines(fault)
        if fault.row is None:
            self.n_shards += 1
        else:
            self.n_rows += 1

    def add_lines(self, fault: DataError) -> None:
        """Take note of lines that are no rows."""
        self._lines.writerow([fault.file, fault.row, fault.column, fault.found, fault.fix])


def write_clean(findings: Findings, output: Path, dropped: Dropped) -> Cleaned:
    """Write ``train``, ``validation`` and ``set_aside.csv``, the list of what is not in them.

    Args:
        findings: of the data.
        output: a new folder.
        dropped: further training rows to leave out.

    Raises:
        OutputError: the folder cannot be used.
        DataError: what is left could not be trained on; nothing is written then.
    """
    schema = findings.training.schema
    for examined in findings.parts.values():
        for data in arguments_of(examined.arguments):
            if resolved(output).is_relative_to(Path(data).resolve()):
                raise OutputError(f"{output}: lies in the data {data}; name another --output")
    if schema is None:
        raise _nothing_left(findings.training.data)
    with (
        whole_folder(new_folder(output)) as unfinished,
        (unfinished / SET_ASIDE).open("w", encoding="utf-8", newline="") as file,
    ):
        set_aside = _SetAside(file)
        for which, examined in findings.parts.items():
            for shard in examined.shards:
                own = dropped.get(shard.shard.path, {}) if which == "training" else {}
                _copy_whole_rows(shard, schema, own, unfinished / _FOLDERS[which], set_aside)
        n_rows = _check_again(findings, schema, unfinished, set_aside)
        return Cleaned(n_rows, set_aside.n_rows, set_aside.n_shards)


def _copy_whole_rows(
    findings: ShardFindings,
    schema: SeriesSchema,
    dropped: dict[int, DataError],
    folder: Path,
    set_aside: _SetAside,
) -> None:
    if findings.statistics is None:
        set_aside.add(_of_all(findings.faults[0]))
        return
    if findings.before:
        set_aside.add_lines(findings.before)
    if findings.n_faults:
        parts = parts_of(findings.shard, schema, findings.header, findings.unparsed)
        for part in parts:
            for fault in part.first_faults():
                set_aside.add(fault)
    for row in sorted(dropped):
        set_aside.add(dropped[row])
    left_out = {*findings.broken.tolist(), *dropped}
    if len(left_out) < findings.n_rows:
        copy_shard(findings.shard, folder / findings.shard.name, left_out)


def _of_all(fault: DataError) -> DataError:
    """The fault without its row: all of the file is left out."""
    return DataError(fault.found, fault.fix, file=fault.file, column=fault.column)


def _check_again(
    findings: Findings, schema: SeriesSchema, folder: Path, set_aside: _SetAside
) -> int:
    """Leave out shards that are still refused; the rows of what is left.

    Pyarrow may split lines within quotes where rows before them are gone.

    Raises:
        DataError: what is left could not be trained on.
    """
    for which, examined in findings.parts.items():
        if not any(path.is_file() for path in (folder / _FOLDERS[which]).rglob("*")):
            raise _nothing_left(examined.data)
    validation = str(folder / _FOLDERS["validation"]) if findings.validation else None
    train = str(folder / _FOLDERS["training"])
    again = check(
        train,
        validation,
        schema.task,
        schema.missing,
        limit=1,
        missing_marker=schema.missing_marker,
        missing_labels=schema.missing_labels,
    )
    refused = 0
    for which, examined in again.parts.items():
        sources = {shard.shard.name: shard.shard.path for shard in findings.parts[which].shards}
        for shard in examined.shards:
            if shard.statistics is None:
                fault = shard.faults[0]
                file = sources[shard.shard.name]
                set_aside.add(DataError(fault.found, fault.fix, file=file, column=fault.column))
                Path(shard.shard.path).unlink()
                refused += 1
    if refused:
        return _check_again(findings, schema, folder, set_aside)
    for which, examined in again.parts.items():
        for fault in examined.first_faults(1):
            raise DataError(
                f"{fault.found}, once rows with faults are left out; nothing was written",
                fault.fix,
                file=findings.parts[which].data,
                column=fault.column,
            )
    return sum(examined.n_rows for examined in again.parts.values())


def _nothing_left(data: str) -> DataError:
    return DataError("no row without fault", "mend the faults; nothing was written", file=data)
