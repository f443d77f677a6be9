"""Find the shards of a data argument: a file, a folder, a glob or a URI."""

from __future__ import annotations

import fnmatch
import logging
import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

import pyarrow as pa
from pyarrow import fs

from lstmfcn.console import pluralize
from lstmfcn.data.dialect import USUAL
from lstmfcn.data.layout import Layout, read_layout
from lstmfcn.data.listing import (
    Data,
    FileFilter,
    FoundFile,
    Parts,
    list_files,
    refuse_no_utf8,
    refuse_unusual,
    to_arguments,
)
from lstmfcn.data.packing import PACKED_SUFFIXES, unpack
from lstmfcn.errors import DataError
from lstmfcn.storage.filesystems import describe_failure, locate
from lstmfcn.storage.places import is_remote, shown_place

CSV_SUFFIXES = (".csv", ".tsv")
PARQUET_SUFFIXES = (".parquet", ".parq", ".pq")
_WILDCARDS = "*?["
_PARTITION = re.compile("[^=]+=.+")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shard:
    """One file of a data set.

    Attributes:
        name: its path below the folder of the data argument; outputs use this name.
        modified_ns: when it was last written, in nanoseconds; 0 if its filesystem does not say.
    """

    path: str
    name: str
    size: int
    modified_ns: int = field(default=0, compare=False)
    filesystem: fs.FileSystem = field(default_factory=fs.LocalFileSystem, compare=False)

    @cached_property
    def layout(self) -> Layout:
        """How to read the file, found from its first bytes; pickled with the shard.

        Raises:
            DataError: the file is not a table, or its header cannot be read.
            OSError, EOFError, lzma.LZMAError, pa.ArrowException, csv.Error: the file is broken.
        """
        return read_layout(self.filesystem, self.path)

    @property
    def is_parquet(self) -> bool:
        """Whether the shard is Parquet; otherwise it is CSV."""
        return self.layout.is_parquet

    @property
    def is_empty(self) -> bool:
        """Whether the file has no bytes."""
        return self.size == 0

    def header_faults(self, columns: Sequence[str], labels: bool) -> Iterator[DataError]:
        """Report a first line that is not a header, and labels that are only in a folder name.

        Args:
            labels: whether the label columns are needed.
        """
        if fault := self.layout.header_fault(self.path, labels):
            yield fault
        if labels and not any(name.strip().startswith("y") for name in columns):
            depth = len(PurePosixPath(self.name).parts)
            folders = PurePosixPath(self.path).parts[-depth - 1 : -1]
            partitions = [folder for folder in folders if _PARTITION.fullmatch(folder)]
            if partitions:
                partition = min(partitions, key=lambda folder: not folder.startswith("y"))
                how = ": pandas.read_parquet(FOLDER) reads both" if self.is_parquet else ""
                yield DataError(
                    f"no label column in the header, but {partition} as the name of a folder",
                    f"add a column y to the files{how}",
                    file=self.path,
                )

    def open(self) -> pa.NativeFile:
        """Open the shard as a stream of uncompressed bytes."""
        stream = self.filesystem.open_input_stream(self.path, compression=None)
        return unpack(stream, self.layout.packing)

    def refuse_changed(self) -> None:
        """Refuse a file that was changed after it was found.

        Raises:
            DataError: its size or the time of its last change differs.
            OSError: it was deleted.
        """
        info = self.filesystem.get_file_info(self.path)
        if info.type == fs.FileType.NotFound:
            raise FileNotFoundError("it was deleted")
        changed = info.size is not None and info.size != self.size
        if self.modified_ns and info.mtime_ns:
            local = isinstance(self.filesystem, fs.LocalFileSystem)
            unit = 1 if local else 1_000_000_000  # remote listings may round the time to seconds
            changed |= info.mtime_ns // unit != self.modified_ns // unit
        if changed:
            raise DataError(
                "a file that changed while it was being read",
                "run the command again when the file is complete",
                file=self.path,
            )


def find_shards(data: Data) -> list[Shard]:
    """Find the shards of data arguments, in the order of the arguments, each sorted by path.

    Folders are searched with all sub-folders for .csv and .tsv (compressed or not) and .parquet.
    Names that start with ``_`` or ``.`` are skipped; other files are listed in a warning. The
    format of a file is found from its bytes, not from its name.

    Args:
        data: a file, a folder, a glob, or a URI of any filesystem that pyarrow knows; or several.

    Raises:
        DataError: nothing was found, a shard is empty, or two arguments give the same shard.
    """
    shards = list_shards(data)
    for shard in shards:
        if shard.is_empty:
            raise empty_file(shard)
    return shards


def list_shards(data: Data) -> list[Shard]:
    """Like `find_shards`, but with the empty files."""
    shard_lists = [_list_argument(argument) for argument in to_arguments(data)]
    return _merge(shard_lists) if len(shard_lists) > 1 else shard_lists[0]


def _list_argument(data: str) -> list[Shard]:
    try:
        shards = _look_up(data)
    except OSError as error:
        if is_remote(data):
            reason, _, advice = describe_failure(error, data).partition("; ")
            raise DataError(
                f"data that cannot be read: {reason}", advice, file=shown_place(data)
            ) from error
        raise DataError(
            f"data that cannot be read ({error})", "check its permissions", file=data
        ) from error
    if not shards:
        raise DataError(
            "no shard",
            "give files, or a folder with files ending in .csv, .csv.gz, .tsv or .parquet",
            file=shown_place(data),
        )
    return shards


def empty_file(shard: Shard) -> DataError:
    """Describe a shard without any bytes."""
    return DataError("an empty file", "add rows to it or remove it", file=shard.path)


def without_rows(shard: Shard) -> DataError:
    """Describe a shard that ends with its header."""
    return DataError("a header but no rows", "add rows or remove the file", file=shard.path)


def log_dialects(data: str, shards: Sequence[Shard]) -> None:
    """Log the separators of CSV shards, unless all are commas."""
    dialects = Counter(shard.layout.dialect for shard in shards if not shard.is_parquet)
    if dialects.keys() == {USUAL}:
        return
    for dialect, n_shards in dialects.items():
        where = f" in {pluralize(n_shards, 'shard')}" if len(dialects) > 1 else ""
        logger.info("%s: cells separated by %s%s", data, dialect, where)


def _look_up(data: str) -> list[Shard]:
    if data == "-":
        raise DataError("standard input", "save it as a file first, and give that file", file=data)
    filesystem, path = locate_data(data)
    if isinstance(filesystem, fs.LocalFileSystem):
        refuse_no_utf8(path)
        refuse_unusual(path, data)
    info = filesystem.get_file_info(path)
    if info.type == fs.FileType.File:
        name = PurePosixPath(path).name
        return [Shard(info.path, name, info.size, info.mtime_ns or 0, filesystem)]
    if info.type == fs.FileType.Directory:
        return _list_folder(filesystem, path)
    if any(mark in path for mark in _WILDCARDS):
        return _list_glob(filesystem, path)
    raise DataError("nothing", "check the path", file=shown_place(data))


def has_data_suffix(name: str) -> bool:
    """Whether a file name has the suffix of a shard, in small or capital letters."""
    plain = name.lower()
    if plain.endswith(PARQUET_SUFFIXES):
        return True
    packing = next((suffix for suffix in PACKED_SUFFIXES if plain.endswith(suffix)), "")
    return plain.removesuffix(packing).endswith(CSV_SUFFIXES)


def _make_shards(files: Sequence[FoundFile], filesystem: fs.FileSystem) -> list[Shard]:
    return [Shard(*file, filesystem) for file in files]


def locate_data(data: str) -> tuple[fs.FileSystem, str]:
    """The filesystem of a data argument, and the path in it."""
    if "://" not in data:
        return fs.LocalFileSystem(), str(Path(data).absolute())
    parts = data.split("/")
    fixed = count_fixed(parts, "*[")  # in a URI a ? begins the query, it is not a wildcard
    uri = "/".join(parts[:fixed])
    try:
        filesystem, path = locate(uri)
    except (ValueError, OSError, ImportError) as error:
        reason = describe_failure(error, uri)
        raise DataError(
            f"a URI that cannot be opened ({reason})", "check it", file=shown_place(data)
        ) from error
    return filesystem, "/".join([path.rstrip("/"), *parts[fixed:]]) if parts[fixed:] else path


def _list_folder(filesystem: fs.FileSystem, folder: str) -> list[Shard]:
    listing = list_files(filesystem, folder, FileFilter(lambda parts: has_data_suffix(parts[-1])))
    if listing.others:
        logger.warning(
            "skipped, because their names are not those of data files: %s",
            ", ".join(listing.others),
        )
    return _make_shards(listing.files, filesystem)


def _list_glob(filesystem: fs.FileSystem, pattern: str) -> list[Shard]:
    parts = PurePosixPath(pattern).parts
    fixed = count_fixed(parts)
    folder = str(PurePosixPath(*parts[:fixed]))
    if filesystem.get_file_info(folder).type != fs.FileType.Directory:
        return []
    wildcards = parts[fixed:]
    matching = FileFilter(
        lambda names: matches_glob(names, wildcards),
        lambda names: _may_contain(names, wildcards),
        "**" in wildcards,
    )
    return _make_shards(list_files(filesystem, folder, matching).files, filesystem)


def _may_contain(names: Parts, pattern: Parts) -> bool:
    """Whether a folder with this path may contain files that match the glob."""
    if not names or not pattern or pattern[0] == "**":
        return bool(pattern)
    return fnmatch.fnmatchcase(names[0], pattern[0]) and _may_contain(names[1:], pattern[1:])


def matches_glob(names: Parts, pattern: Parts) -> bool:
    """Whether a path matches a glob; ``**`` stands for any number of folders, even none."""
    if not pattern or not names:
        return not names and all(part == "**" for part in pattern)
    if pattern[0] == "**":
        return matches_glob(names, pattern[1:]) or matches_glob(names[1:], pattern)
    return fnmatch.fnmatchcase(names[0], pattern[0]) and matches_glob(names[1:], pattern[1:])


def count_fixed(parts: Sequence[str], marks: str = _WILDCARDS) -> int:
    """Count the parts of a path before the first one with a wildcard."""
    wild = (i for i, part in enumerate(parts) if any(mark in part for mark in marks))
    return next(wild, len(parts))


def _merge(shard_lists: list[list[Shard]]) -> list[Shard]:
    """Join the shards of several arguments; each name is the path below their common folder."""
    earlier: set[tuple[str, str]] = set()
    for shards in shard_lists:
        locations = [_real_location(shard) for shard in shards]
        for shard, location in zip(shards, locations, strict=True):
            if location in earlier:
                raise DataError("a file that is given twice", "give it once", file=shard.path)
        earlier.update(locations)
    return _rename_below_common_folder([shard for shards in shard_lists for shard in shards])


def _rename_below_common_folder(shards: Sequence[Shard]) -> list[Shard]:
    """Name each shard by its path below the common folder of all shards of its filesystem."""
    folders: dict[str, list[str]] = {}
    for shard in shards:
        folder = posixpath.normpath(shard.path.removesuffix(shard.name))
        folders.setdefault(shard.filesystem.type_name, []).append(folder)
    common = {kind: posixpath.commonpath(paths) for kind, paths in folders.items()}
    return [
        replace(
            shard,
            name=posixpath.relpath(
                posixpath.normpath(shard.path), common[shard.filesystem.type_name] or "."
            ),
        )
        for shard in shards
    ]


def _real_location(shard: Shard) -> tuple[str, str]:
    """The filesystem and path of a shard, with links resolved."""
    kind = shard.filesystem.type_name
    return kind, os.path.realpath(shard.path) if kind == "local" else shard.path
