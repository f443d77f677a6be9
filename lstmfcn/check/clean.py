"""Copy shards without what is wrong in them: nothing is repaired, nothing guessed.

Left out are rows that break the format, and shards that can only be left out as a whole; every
other cell stays as it is, byte by byte. What is left is checked again before it appears, as a whole
or not at all.
"""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Set
from pathlib import Path
from typing import NamedTuple, TextIO

import pyarrow as pa
import pyarrow.parquet

from lstmfcn.check.duplicates import Dropped
from lstmfcn.check.findings import Findings
from lstmfcn.check.row_errors import scan_parts
from lstmfcn.check.run import check
from lstmfcn.check.scan import ShardFindings
from lstmfcn.data.dialect import LongLineError, lines_of_text, parse_lines
from lstmfcn.data.listing import to_arguments
from lstmfcn.data.reader import unreadable
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.data.shards import Shard
from lstmfcn.data.writer import opened_csv
from lstmfcn.errors import DataError, OutputError
from lstmfcn.storage.files import atomic_directory, exists, new_folder, resolve

_PARQUET_ROWS = 1 << 14


SET_ASIDE = "set_aside.csv"

_FOLDERS = {"training": "train", "validation": "validation"}


def copy_shard(shard: Shard, path: Path, left_out: Set[int]) -> None:
    """Write a shard's rows, in order, in its own format.

    Args:
        path: the file to write.
        left_out: rows that are not written, counted from 1.

    Raises:
        OSError: the file cannot be written.
        DataError: the shard's lines cannot be read.
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
    """Columns that are not used may hold other bytes than UTF-8, which are kept."""
    layout = shard.layout
    with (
        shard.open() as stream,
        io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="") as text,
        opened_csv(path, layout.packing, errors="surrogateescape") as copy,
    ):
        for _ in range(layout.n_lines_before):
            next(text)
        separator = layout.dialect.separator
        lines = parse_lines(lines_of_text(text), separator)
        writer = csv.writer(copy, delimiter=separator, lineterminator="\n")
        try:
            writer.writerow(next(lines))
            rows = enumerate(filter(None, lines), start=1)
            writer.writerows(cells for row, cells in rows if row not in left_out)
        except (csv.Error, LongLineError) as error:
            raise unreadable(shard, error) from error


def _copy_parquet(shard: Shard, path: Path, left_out: Set[int]) -> None:
    with shard.filesystem.open_input_file(shard.path) as file:
        shards = pa.parquet.ParquetFile(file)
        with pa.parquet.ParquetWriter(path, shards.schema_arrow) as writer:
            rows = 0
            for batch in shards.iter_batches(_PARQUET_ROWS):
                numbers = range(rows + 1, rows + 1 + batch.num_rows)
                writer.write_batch(batch.filter(pa.array(row not in left_out for row in numbers)))
                rows += batch.num_rows


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


def write_clean(
    findings: Findings, output: Path, dropped: Dropped, *, overwrite: bool = False
) -> Cleaned:
    """Write ``train``, ``validation`` and ``set_aside.csv``, the list of what is not in them.

    Args:
        findings: of the data.
        output: a new folder.
        dropped: further training rows to leave out.
        overwrite: the folder may hold what an earlier call wrote; it is replaced.

    Raises:
        OutputError: the folder cannot be used.
        DataError: what is left could not be trained on; nothing is written then.
    """
    schema = findings.training.schema
    for examined in findings.parts.values():
        for data in to_arguments(examined.arguments):
            if resolve(output).is_relative_to(Path(data).resolve()):
                raise OutputError(f"{output}: lies in the data {data}; name another --output")
            if overwrite and Path(data).resolve().is_relative_to(resolve(output)):
                raise OutputError(f"{output}: holds the data {data}; name another --output")
    if schema is None:
        raise _nothing_left(findings.training.data)
    replaces = overwrite and exists(output / SET_ASIDE)
    with (
        atomic_directory(
            output if replaces else new_folder(output),
            may_go=(*_FOLDERS.values(), SET_ASIDE) if replaces else (),
        ) as unfinished,
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
        parts = scan_parts(findings.shard, schema, findings.header, findings.unparsed)
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
