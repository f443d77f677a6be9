"""Copy shards without their faulty rows. Nothing is repaired or guessed.

Rows with faults are removed, and shards that cannot be read. All other cells stay the same, byte by
byte. The copy is checked again before it appears.
"""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TextIO

import pyarrow as pa
import pyarrow.parquet

from lstmfcn.check.duplicates import Dropped
from lstmfcn.check.findings import Findings, check
from lstmfcn.check.row_errors import scan_parts
from lstmfcn.check.scan import ShardFindings
from lstmfcn.data.dialect import LongLineError, lines_of_text, parse_lines
from lstmfcn.data.listing import to_arguments
from lstmfcn.data.reader import readable, unreadable
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.data.shards import Shard
from lstmfcn.data.table import is_missing
from lstmfcn.data.writer import opened_csv
from lstmfcn.errors import DataError, OutputError
from lstmfcn.storage.files import atomic_directory, exists, new_folder, resolve
from lstmfcn.storage.outputs import output_folder
from lstmfcn.storage.places import Place, is_remote, lies_in, shown_place

_PARQUET_ROWS = 1 << 14

REMOVED_FILE = "set_aside.csv"

_FOLDERS = {"training": "train", "validation": "validation"}


def copy_shard(shard: Shard, path: Path, left_out: Set[int]) -> None:
    """Copy a shard without some rows, in its own format.

    Args:
        left_out: the numbers of the rows to leave out, from 1.

    Raises:
        OSError: the file cannot be written.
        DataError: the lines of the shard cannot be read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not left_out and not shard.layout.before_fault(shard.path):
        with shard.filesystem.open_input_file(shard.path) as file, path.open("wb") as copy:
            shutil.copyfileobj(file, copy)
    elif shard.is_parquet:
        _copy_parquet(shard, path, left_out)
    else:
        _copy_csv(shard, path, left_out)


def _copy_csv(shard: Shard, path: Path, left_out: Set[int]) -> None:
    """Copy CSV; bytes that are not UTF-8, in columns that are not used, stay the same."""
    layout = shard.layout
    with (
        _csv_lines(shard) as lines,
        opened_csv(path, layout.packing, errors="surrogateescape") as copy,
    ):
        writer = csv.writer(copy, delimiter=layout.dialect.separator, lineterminator="\n")
        writer.writerow(next(lines))
        rows = enumerate(lines, start=1)
        writer.writerows(cells for row, cells in rows if row not in left_out)


@contextmanager
def _csv_lines(shard: Shard) -> Iterator[Iterator[list[str]]]:
    """Open CSV as an iterator of the cells of its header and its rows; empty lines are skipped.

    Raises:
        DataError: the lines cannot be read.
    """
    layout = shard.layout
    with (
        shard.open() as stream,
        io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="") as text,
    ):
        for _ in range(layout.n_lines_before):
            next(text)
        try:
            yield filter(None, parse_lines(lines_of_text(text), layout.dialect.separator))
        except (csv.Error, LongLineError) as error:
            raise unreadable(shard, error) from error


def read_cells(shard: Shard, columns: Sequence[str]) -> Iterator[list[str]]:
    """Read some columns of all rows, in order, as text; a missing cell is empty.

    Raises:
        DataError: the shard cannot be read.
    """
    with readable(shard):
        if shard.is_parquet:
            yield from _read_parquet_cells(shard, columns)
            return
        with _csv_lines(shard) as lines:
            header = next(lines)
            places = [header.index(name) for name in columns]
            for cells in lines:
                yield [cells[place].strip() if place < len(cells) else "" for place in places]


def _read_parquet_cells(shard: Shard, columns: Sequence[str]) -> Iterator[list[str]]:
    with shard.filesystem.open_input_file(shard.path) as file:
        source = pa.parquet.ParquetFile(file)
        for batch in source.iter_batches(_PARQUET_ROWS, columns=list(columns)):
            texts = [batch[name].to_pylist() for name in columns]
            for cells in zip(*texts, strict=True):
                yield ["" if is_missing(cell, False) else str(cell) for cell in cells]


def _copy_parquet(shard: Shard, path: Path, left_out: Set[int]) -> None:
    with shard.filesystem.open_input_file(shard.path) as file:
        source = pa.parquet.ParquetFile(file)
        with pa.parquet.ParquetWriter(path, source.schema_arrow) as writer:
            rows = 0
            for batch in source.iter_batches(_PARQUET_ROWS):
                numbers = range(rows + 1, rows + 1 + batch.num_rows)
                writer.write_batch(batch.filter(pa.array(row not in left_out for row in numbers)))
                rows += batch.num_rows


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
