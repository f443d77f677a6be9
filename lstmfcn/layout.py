"""How a shard is to be read, by its first bytes: its packing, format, dialect and header."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pyarrow import fs

from lstmfcn.column_names import some_of
from lstmfcn.counts import number
from lstmfcn.dialect import (
    USUAL,
    Dialect,
    LongLineError,
    decimal_mark,
    find_header,
    lines_of_text,
    looks_like_data,
    may_be_names,
    rival_of,
)
from lstmfcn.errors import DataError
from lstmfcn.packing import (
    HEAD_BYTES,
    Packing,
    is_parquet,
    packing_of,
    refuse_foreign,
    unpacked,
)
from lstmfcn.text_encoding import not_utf8, refuse_wide

_SEP_LINE = re.compile(r'"?sep=.{0,2}"?\s*', re.IGNORECASE)
_SHOWN = 40
_ROLES = ("x", "y")


@dataclass(frozen=True)
class Layout:
    """How a shard is to be read.

    Attributes:
        header: of CSV, the names of its columns.
        packing: what packed its bytes.
        is_parquet: whether it is Parquet; else it is CSV.
        dialect: of CSV.
        before: lines of CSV above the header, with their ends.
    """

    header: tuple[str, ...] = ()
    packing: Packing = ""
    is_parquet: bool = False
    dialect: Dialect = USUAL
    before: tuple[str, ...] = ()

    @property
    def n_lines_before(self) -> int:
        """How many lines stand above the header."""
        return sum(record.count("\n") for record in self.before)

    def before_fault(self, file: str) -> DataError | None:
        """What to say of lines above the header, which may be left out; empty ones do not count."""
        lines = [line.strip() for line in self.before if line.strip()]
        if not lines:
            return None
        shown = repr(lines[0] if len(lines[0]) <= _SHOWN else f"{lines[0][:_SHOWN]}...")
        kind = f"the line {shown}"
        if _SEP_LINE.fullmatch(lines[0]):
            kind = f"the line {shown}, which is for Excel,"
        elif lines[0].startswith(("#", "%", "//")):
            kind = f"the comment {shown}"
        if len(lines) > 1:
            return DataError(
                f"{number(len(lines), 'line')} above the header, first {kind.rstrip(',')}",
                "remove them, as lstmfcn check --fix does",
                file=file,
            )
        fix = "remove it, as lstmfcn check --fix does"
        return DataError(f"{kind} above the header", fix, file=file)

    def header_fault(self, file: str, labels: bool) -> DataError | None:
        """What to say of a first line that is no header, or of a header behind a comment mark.

        Args:
            labels: whether the label columns matter.
        """
        if self.is_parquet:
            return None
        if looks_like_data(self.header, self.dialect.separator):
            return self._no_header(file, labels)
        first = self.header[0] if self.header else ""
        if first.startswith("@"):
            fix = f"convert it: lstmfcn convert --input {shlex.quote(file)} --output DIR"
            return DataError(f"a .ts or .arff file ({first})", fix, file=file)
        name = first.lstrip("# ")
        if first.startswith("#") and name.startswith(_ROLES if labels else "x"):
            fix = "remove the mark; numpy.savetxt writes none with comments=''"
            return DataError(f"a header behind a comment mark ({first})", fix, file=file)
        return None

    def _no_header(self, file: str, labels: bool) -> DataError:
        cells = some_of([cell.strip() for cell in self.header])
        if may_be_names(self.header, self.dialect.separator):
            return DataError(
                f"a header of numbers ({cells})",
                "name the values x_1, x_2, ... and the label y; if this line is a row, the file "
                f"has no header: {self._convert(file, labels)} writes one",
                file=file,
            )
        return DataError(
            f"a first line that looks like data ({cells}), so no header",
            f"{self._convert(file, labels)} writes one",
            file=file,
        )

    def _convert(self, file: str, labels: bool) -> str:
        """The command that gives a file of rows a header."""
        command = f"lstmfcn convert --input {shlex.quote(file)} --output DIR"
        if self.dialect.separator == "\t" and file.lower().endswith(".tsv"):
            return command  # of the UCR archive: the label stands first
        first, last = (looks_like_data([self.header[i]], self.dialect.separator) for i in (0, -1))
        label = "first" if not first else "last" if labels or not last else "none"
        return f"{command} --no-header --label {label}"


def read_layout(filesystem: fs.FileSystem, path: str) -> Layout:
    """Read the first bytes of a file, up to the end of its header.

    Raises:
        DataError: what the file holds is no table, or its header cannot be read.
        OSError, EOFError, lzma.LZMAError, pa.ArrowException, csv.Error: a broken file.
    """
    with plain_bytes(filesystem, path) as (plain, packing):
        if is_parquet(plain.peek(HEAD_BYTES)):
            return Layout(is_parquet=True)
        with io.TextIOWrapper(plain, "utf-8-sig", errors="surrogateescape") as text:
            return _csv_layout(text, path, packing)


@contextmanager
def plain_bytes(
    filesystem: fs.FileSystem, path: str
) -> Iterator[tuple[io.BufferedReader, Packing]]:
    """A file's bytes, unpacked, and what packed them; a table as far as the first of them tell.

    Raises:
        DataError: they are known to be no table.
        OSError, EOFError, lzma.LZMAError, pa.ArrowException: a broken file.
    """
    with filesystem.open_input_file(path) as file:
        packing = packing_of(file.read(HEAD_BYTES))
        file.seek(0)
        with unpacked(file, packing) as stream, io.BufferedReader(stream, HEAD_BYTES) as plain:
            head = plain.peek(HEAD_BYTES)
            refuse_foreign(head, path, packing)
            refuse_wide(head, path, packing)
            yield plain, packing


def _csv_layout(text: io.TextIOWrapper, path: str, packing: Packing) -> Layout:
    lines = lines_of_text(text)
    try:
        found = find_header(lines)
    except LongLineError as error:
        raise long_line(path) from error
    try:
        found.record.encode()
    except UnicodeEncodeError:
        raise _not_utf8(found.record, path, packing) from None
    if rival := rival_of(found.record, found.separator):
        names = some_of([name.strip() for name in found.names])
        raise DataError(
            f"names separated by both {found.separator!r} and {rival!r} in the header ({names})",
            "separate all cells by one of them",
            file=path,
        )
    dialect = Dialect(found.separator, _decimal_mark(lines, found.separator))
    return Layout(tuple(found.names), packing, dialect=dialect, before=found.before)


def _decimal_mark(lines: Iterator[str], separator: str) -> str:
    try:
        return decimal_mark(lines, separator)
    except LongLineError:
        return "."  # told where the rows are read


def _not_utf8(record: str, path: str, packing: Packing) -> DataError:
    """What to say of a header with bytes that are no UTF-8."""
    try:
        record.encode(errors="surrogateescape").decode()
    except UnicodeDecodeError as error:
        return not_utf8(error, path, packing)
    raise AssertionError(record)


def long_line(file: str) -> DataError:
    """What to say of a line that is longer than any row may be."""
    return DataError(
        "a line of more than 16 MiB", "end each row's line; see that it is CSV", file=file
    )
