"""How to read a shard, found from its first bytes: compression, format, dialect and header."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pyarrow import fs

from lstmfcn.console import pluralize
from lstmfcn.data.columns import abbreviate
from lstmfcn.data.dialect import (
    USUAL,
    Dialect,
    LongLineError,
    decimal_mark,
    find_header,
    lines_of_text,
    looks_like_data,
    may_be_names,
    rival_separator,
)
from lstmfcn.data.packing import (
    HEAD_BYTES,
    Packing,
    find_packing,
    is_parquet,
    not_utf8,
    refuse_foreign,
    refuse_wide,
    unpack,
)
from lstmfcn.errors import DataError

_SEP_LINE = re.compile(r'"?sep=.{0,2}"?\s*', re.IGNORECASE)
_SHOWN_CHARACTERS = 40
_ROLES = ("x", "y")


@dataclass(frozen=True)
class Layout:
    """How to read a shard.

    Attributes:
        header: the column names of CSV.
        before: lines of CSV above the header, with their line ends.
    """

    header: tuple[str, ...] = ()
    packing: Packing = ""
    is_parquet: bool = False
    dialect: Dialect = USUAL
    before: tuple[str, ...] = ()

    @property
    def n_lines_before(self) -> int:
        """The number of lines above the header."""
        return sum(record.count("\n") for record in self.before)

    def before_fault(self, file: str) -> DataError | None:
        """Describe lines above the header, which can be removed; None if all are empty."""
        lines = [line.strip() for line in self.before if line.strip()]
        if not lines:
            return None
        line = lines[0]
        if len(line) > _SHOWN_CHARACTERS:
            line = f"{line[:_SHOWN_CHARACTERS]}..."
        kind = f"the line {line!r}"
        if _SEP_LINE.fullmatch(lines[0]):
            kind = f"the line {line!r}, which is for Excel,"
        elif lines[0].startswith(("#", "%", "//")):
            kind = f"the comment {line!r}"
        if len(lines) > 1:
            return DataError(
                f"{pluralize(len(lines), 'line')} above the header, starting with "
                f"{kind.rstrip(',')}",
                "remove them (lstmfcn check --fix does this)",
                file=file,
            )
        fix = "remove it (lstmfcn check --fix does this)"
        return DataError(f"{kind} above the header", fix, file=file)

    def header_fault(self, file: str, labels: bool) -> DataError | None:
        """Describe a first line that is not a header, or a header after a comment mark.

        Args:
            labels: whether the label columns are needed.
        """
        if self.is_parquet:
            return None
        if looks_like_data(self.header, self.dialect.separator):
            return self._missing_header_fault(file, labels)
        first = self.header[0] if self.header else ""
        if first.startswith("@"):
            fix = f"convert it: lstmfcn convert {shlex.quote(file)} --output DIR"
            return DataError(f"a .ts or .arff file ({first})", fix, file=file)
        name = first.lstrip("# ")
        if first.startswith("#") and name.startswith(_ROLES if labels else "x"):
            fix = "remove the mark; in numpy.savetxt use comments=''"
            return DataError(f"a header after a comment mark ({first})", fix, file=file)
        return None

    def _missing_header_fault(self, file: str, labels: bool) -> DataError:
        cells = abbreviate([cell.strip() for cell in self.header])
        if may_be_names(self.header, self.dialect.separator):
            return DataError(
                f"a header of numbers ({cells})",
                "name the values x_1, x_2, ... and the label y; if this line is a row, add a "
                f"header with {self._convert_command(file, labels)}",
                file=file,
            )
        return DataError(
            f"a first line that looks like data ({cells}), not like a header",
            f"add a header with {self._convert_command(file, labels)}",
            file=file,
        )

    def _convert_command(self, file: str, labels: bool) -> str:
        """The command that adds a header to a file of rows."""
        command = f"lstmfcn convert {shlex.quote(file)} --output DIR"
        if self.dialect.separator == "\t" and file.lower().endswith(".tsv"):
            return command  # as in the UCR archive, where the label is first
        first, last = (looks_like_data([self.header[i]], self.dialect.separator) for i in (0, -1))
        label = "first" if not first else "last" if labels or not last else "none"
        return f"{command} --no-header --label {label}"


def read_layout(filesystem: fs.FileSystem, path: str) -> Layout:
    """Find out how to read a file, from its first bytes up to the end of its header.

    Raises:
        DataError: the file is not a table, or its header cannot be read.
        OSError, EOFError, lzma.LZMAError, pa.ArrowException, csv.Error: the file is broken.
    """
    with plain_bytes(filesystem, path) as (plain, packing):
        if is_parquet(plain.peek(HEAD_BYTES)):
            return Layout(is_parquet=True)
        with io.TextIOWrapper(plain, "utf-8-sig", errors="surrogateescape") as text:
            return _read_csv_layout(text, path, packing)


@contextmanager
def plain_bytes(
    filesystem: fs.FileSystem, path: str
) -> Iterator[tuple[io.BufferedReader, Packing]]:
    """Open a file as a stream of uncompressed bytes; gives the stream and the compression.

    Raises:
        DataError: the first bytes show that the file is not a table.
        OSError, EOFError, lzma.LZMAError, pa.ArrowException: the file is broken.
    """
    with filesystem.open_input_file(path) as file:
        packing = find_packing(file.read(HEAD_BYTES))
        file.seek(0)
        with unpack(file, packing) as stream, io.BufferedReader(stream, HEAD_BYTES) as plain:
            head = plain.peek(HEAD_BYTES)
            refuse_foreign(head, path, packing)
            refuse_wide(head, path, packing)
            yield plain, packing


def _read_csv_layout(text: io.TextIOWrapper, path: str, packing: Packing) -> Layout:
    lines = lines_of_text(text)
    try:
        header = find_header(lines)
    except LongLineError as error:
        raise long_line(path) from error
    try:
        header.record.encode(errors="surrogateescape").decode()
    except UnicodeDecodeError as error:
        raise not_utf8(error, path, packing) from None
    if rival := rival_separator(header.record, header.separator):
        names = abbreviate([name.strip() for name in header.names])
        raise DataError(
            f"names separated by both {header.separator!r} and {rival!r} in the header ({names})",
            "use one of them in the whole file",
            file=path,
        )
    dialect = Dialect(header.separator, _decimal_mark(lines, header.separator))
    return Layout(tuple(header.names), packing, dialect=dialect, before=header.before)


def _decimal_mark(lines: Iterator[str], separator: str) -> str:
    try:
        return decimal_mark(lines, separator)
    except LongLineError:
        return "."  # the long line is reported when the rows are read


def long_line(file: str) -> DataError:
    """Describe a line that is longer than a row may be."""
    return DataError(
        "a line of more than 16 MiB",
        "check that the file is CSV and that each row ends with a line break",
        file=file,
    )
