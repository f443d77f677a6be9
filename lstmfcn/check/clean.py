"""Copy shards without their faulty rows. Nothing is repaired or guessed.

Rows with faults are removed, and shards that cannot be read. All other cells stay the same, byte by
byte. The copy is checked again before it appears.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

from lstmfcn.check.duplicates import Dropped
from lstmfcn.check.findings import Findings, check
from lstmfcn.check.raw_rows import copy_shard
from lstmfcn.check.row_errors import scan_parts
from lstmfcn.check.scan import ShardFindings
from lstmfcn.data.listing import to_arguments
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.errors import DataError, OutputError
from lstmfcn.storage.files import atomic_directory, exists, new_folder, resolve
from lstmfcn.storage.outputs import output_folder
from lstmfcn.storage.places import Place, is_remote, lies_in, shown_place

REMOVED_FILE = "set_aside.csv"

_FOLDERS = {"training": "train", "validation": "validation"}


class Cleaned(NamedTuple):
    """How many rows were written, and how many rows and shards were left out."""

    n_rows: int
    n_rows_left_out: int
    n_shards_left_out: int


class _RemovedList:
    """A CSV list of the rows and shards that are left out, with the reasons."""

    def __init__(self, file: TextIO) -> None:
        self._lines = csv.writer(file, lineterminator="\n")
        self._lines.writerow(["file", "row", "column", "found", "fix"])
        self.n_rows = self.n_shards = 0

    def add(self, fault: DataError) -> None:
        """Add a row, or a shard if the fault has no row."""
        self.add_lines(fault)
        if fault.row is None:
            self.n_shards += 1
        else:
            self.n_rows += 1

    def add_lines(self, fault: DataError) -> None:
        """Add lines that are not rows."""
        self._lines.writerow([fault.file, fault.row, fault.column, fault.found, fault.fix])


def write_clean(
    findings: Findings, output: Place, dropped: Dropped, *, overwrite: bool = False
) -> Cleaned:
    """Write clean shards: ``train``, ``validation``, and ``set_aside.csv`` with what is left out.

    Args:
        dropped: further training rows to leave out.
        overwrite: the folder may hold what an earlier call wrote; it is replaced.

    Raises:
        OutputError: the folder cannot be used.
        DataError: training would refuse the rows that are left; nothing is written.
    """
    for scan in findings.scans.values():
        refuse_data_places(to_arguments(scan.arguments), output, overwrite)
    schema = findings.training.schema
    if schema is None:
        raise _nothing_left(findings.training.data)
    with output_folder(output) as folder:
        replaces = overwrite and exists(folder / REMOVED_FILE)
        with (
            atomic_directory(
                folder if replaces else new_folder(folder),
                may_go=(*_FOLDERS.values(), REMOVED_FILE) if replaces else (),
            ) as unfinished,
            (unfinished / REMOVED_FILE).open("w", encoding="utf-8", newline="") as file,
        ):
            removed = _RemovedList(file)
            for which, scan in findings.scans.items():
                for shard in scan.shards:
                    drop = dropped.get(shard.shard.path, {}) if which == "training" else {}
                    _copy_intact_rows(shard, schema, drop, unfinished / _FOLDERS[which], removed)
            n_rows = _check_again(findings, schema, unfinished, removed)
            return Cleaned(n_rows, removed.n_rows, removed.n_shards)


def refuse_data_places(data: Sequence[str], output: Place, overwrite: bool) -> None:
    """Refuse (`OutputError`) to write into the data, or to overwrite a folder that holds them."""
    if not is_remote(output):
        resolve(Path(output))  # raises if its links form a loop
    shown = shown_place(output)
    for argument in data:
        if lies_in(output, argument):
            raise OutputError(f"{shown}: is inside the data {argument}; choose another --output")
        if overwrite and lies_in(argument, output):
            raise OutputError(f"{shown}: contains the data {argument}; choose another --output")


def _copy_intact_rows(
    findings: ShardFindings,
    schema: SeriesSchema,
    dropped: dict[int, DataError],
    folder: Path,
    removed: _RemovedList,
) -> None:
    if findings.statistics is None:
        removed.add(_of_whole(findings.faults[0]))
        return
    if findings.before:
        removed.add_lines(findings.before)
    if findings.n_faults:
        for part in scan_parts(findings.shard, schema, findings.header, findings.unparsed):
            for fault in part.first_faults():
                removed.add(fault)
    for row in sorted(dropped):
        removed.add(dropped[row])
    left_out = {*findings.broken.tolist(), *dropped}
    if len(left_out) < findings.n_rows:
        copy_shard(findings.shard, folder / findings.shard.name, left_out)


def _of_whole(fault: DataError, file: str | None = None) -> DataError:
    """The fault without its row, because the whole file is left out."""
    return DataError(fault.found, fault.fix, file=file or fault.file, column=fault.column)


def _check_again(
    findings: Findings, schema: SeriesSchema, folder: Path, removed: _RemovedList
) -> int:
    """Count the rows of the copy, after a check that leaves out shards that are still refused.

    Without earlier rows, pyarrow may split a quoted cell with line breaks.
    """
    for which, scan in findings.scans.items():
        if not any(path.is_file() for path in (folder / _FOLDERS[which]).rglob("*")):
            raise _nothing_left(scan.data)
    validation = str(folder / _FOLDERS["validation"]) if findings.validation else None
    train = str(folder / _FOLDERS["training"])
    second = check(
        train,
        validation,
        schema.task,
        schema.missing,
        limit=1,
        missing_marker=schema.missing_marker,
        missing_labels=schema.missing_labels,
        roles=schema.roles,
    )
    n_refused = 0
    for which, scan in second.scans.items():
        sources = {shard.shard.name: shard.shard.path for shard in findings.scans[which].shards}
        for shard in scan.shards:
            if shard.statistics is None:
                removed.add(_of_whole(shard.faults[0], sources[shard.shard.name]))
                Path(shard.shard.path).unlink()
                n_refused += 1
    if n_refused:
        return _check_again(findings, schema, folder, removed)
    for which, scan in second.scans.items():
        for fault in scan.first_faults(1):
            raise DataError(
                f"{fault.found}, after rows with faults were removed; nothing was written",
                fault.fix,
                file=findings.scans[which].data,
                column=fault.column,
            )
    return sum(scan.n_rows for scan in second.scans.values())


def _nothing_left(data: str) -> DataError:
    return DataError("no row without a fault", "correct the faults; nothing was written", file=data)
