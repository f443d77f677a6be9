"""Find the shards that a data argument names: a file, a folder, a glob or a URI."""

from __future__ import annotations

import fnmatch
import logging
import os.path
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

import pyarrow as pa
from pyarrow import fs

from lstmfcn.counts import number
from lstmfcn.data_arguments import Data, arguments_of
from lstmfcn.dialect import USUAL
from lstmfcn.errors import DataError
from lstmfcn.layout import Layout, read_layout
from lstmfcn.listing import (
    Found,
    Parts,
    Wanted,
    files_below,
    refuse_no_utf8,
    refuse_unusual,
)
from lstmfcn.packing import PACKED_SUFFIXES, unpacked

CSV_SUFFIXES = (".csv", ".tsv")
PARQUET_SUFFIXES = (".parquet", ".parq", ".pq")
_WILDCARDS = "*?["
_PARTITION = re.compile("[^=]+=.+")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shard:
    """One file of a data set.

    Attributes:
        path: where its filesystem finds it.
        name: its path below the folder that the data argument named; outputs take this name.
        size: bytes.
        modified_ns: when it was last written, in nanoseconds; 0 where its filesystem does not know.
        filesystem: the pyarrow filesystem that opens it.
    """

    path: str
    name: str
    size: int
    modified_ns: int = field(default=0, compare=False)
    filesystem: fs.FileSystem = field(default_factory=fs.LocalFileSystem, compare=False)

    @cached_property
    def layout(self) -> Layout:
        """How its bytes are to be read, by the first of them; found once, and sent along.

        Raises:
            DataError: the file holds no table, or its header cannot be read.
            OSError, EOFError, lzma.LZMAError, pa.ArrowException, csv.Error: a broken file.
        """
        return read_layout(self.filesystem, self.path)

    @property
    def is_parquet(self) -> bool:
        """Whether the shard is Parquet; everything else is CSV."""
        return self.layout.is_parquet

    @property
    def is_empty(self) -> bool:
        """Whether the file holds no byte."""
        return self.size == 0

    def header_faults(self, columns: Sequence[str], labels: bool) -> Iterator[DataError]:
        """Why its first line is no header, or its labels are in the name of a folder.

        Args:
            columns: the names in its header.
            labels: whether the label columns matter.
        """
        if fault := self.layout.header_fault(self.path, labels):
            yield fault
        if labels and not any(name.strip().startswith("y") for name in columns):
            depth = len(PurePosixPath(self.name).parts)
            folders = PurePosixPath(self.path).parts[-depth - 1 : -1]
            partitions = [folder for folder in folders if _PARTITION.fullmatch(folder)]
            if partitions:
                found = min(partitions, key=lambda folder: not folder.startswith("y"))
                how = ": pandas.read_parquet(FOLDER) reads both" if self.is_parquet else ""
                yield DataError(
                    f"no label column in the header, but {found} in the name of a folder",
                    f"write it into the files as a column y{how}",
                    file=self.path,
                )

    def open(self) -> pa.NativeFile:
        """The shard's plain bytes as a stream, whatever they are packed by."""
        stream = self.filesystem.open_input_stream(self.path, compression=None)
        return unpacked(stream, self.layout.packing)

    def refuse_changed(self) -> None:
        """Refuse a file that is another than was found: cut off, written on, written anew.

        Raises:
            DataError: its size or the time of its last change is another.
            OSError: it is gone.
        """
        info = self.filesystem.get_file_info(self.path)
        if info.type == fs.FileType.NotFound:
            raise FileNotFoundError("it is gone")
        changed = info.size is not None and info.size != self.size
        if self.modified_ns and info.mtime_ns:
            local = isinstance(self.filesystem, fs.LocalFileSystem)
            unit = 1 if local else 1_000_000_000  # a listing may know less of it than a look at one
            changed |= info.mtime_ns // unit != self.modified_ns // unit
        if changed:
            raise DataError(
                "a file that changed while it was read",
                "start again once it is written",
                file=self.path,
            )


def find_shards(data: Data) -> list[Shard]:
    """The shards that data arguments name: argument by argument, within each sorted by path.

    A folder is searched with all its sub-folders for .csv, .tsv, both packed or not, and .parquet;
    names that start with ``_`` or ``.`` are passed over, and other files are listed in a warning.
    What a file holds is told by its bytes, not by its name.

    Args:
        data: a file, a folder, a glob, or a URI of any filesystem that pyarrow knows; or several.

    Raises:
        DataError: nothing is there, a shard is empty, or two arguments name the same one.
    """
    shards = list_shards(data)
    for shard in shards:
        if shard.is_empty:
            raise empty_file(shard)
    return shards


def list_shards(data: Data) -> list[Shard]:
    """The shards that data arguments name, as `find_shards` does, empty ones among them.

    Raises:
        DataError: nothing is there, or two arguments name the same shard.
    """
    found = [_shards_of(argument) for argument in arguments_of(data)]
    return _together(found) if len(found) > 1 else found[0]


def _shards_of(data: str) -> list[Shard]:
    """The shards that one data argument names."""
    try:
        shards = _found(data)
    except OSError as error:
        raise DataError(f"what cannot be read ({error})", "check its rights", file=data) from error
    if not shards:
        raise DataError(
            "no shard",
            "name files, or a folder with files ending in .csv, .csv.gz, .tsv or .parquet",
            file=data,
        )
    return shards


def empty_file(shard: Shard) -> DataError:
    """What to say of a shard without a byte."""
    return DataError("an empty file", "fill it or remove it", file=shard.path)


def tell_dialects(data: str, shards: Sequence[Shard]) -> None:
    """Log what separates the cells of CSV shards, where it is not commas alone."""
    dialects = Counter(shard.layout.dialect for shard in shards if not shard.is_parquet)
    if dialects.keys() == {USUAL}:
        return
    for dialect, n_shards in dialects.items():
        where = f" in {number(n_shards, 'shard')}" if len(dialects) > 1 else ""
        logger.info("%s: cells separated by %s%s", data, dialect, where)


def _found(data: str) -> list[Shard]:
    if data == "-":
        raise DataError("standard input", "write it to a file first, and name that", file=data)
    filesystem, path = _locate(data)
    if isinstance(filesystem, fs.LocalFileSystem):
        refuse_no_utf8(path)
        refuse_unusual(path, data)
    info = filesystem.get_file_info(path)
    if info.type == fs.FileType.File:
        name = PurePosixPath(path).name
        return [Shard(info.path, name, info.size, info.mtime_ns or 0, filesystem)]
    if info.type == fs.FileType.Directory:
        return _in_folder(filesystem, path)
    if any(mark in path for mark in _WILDCARDS):
        return _matching(filesystem, path)
    raise DataError("nothing", "check the path", file=data)


def has_data_suffix(name: str) -> bool:
    """Whether a name is that of a shard, by its ending in small or capital letters."""
    plain = name.lower()
    if plain.endswith(PARQUET_SUFFIXES):
        return True
    packed = next((suffix for suffix in PACKED_SUFFIXES if plain.endswith(suffix)), "")
    return plain.removesuffix(packed).endswith(CSV_SUFFIXES)


def _shards(files: Sequence[Found], filesystem: fs.FileSystem) -> list[Shard]:
    return [Shard(*found, filesystem) for found in files]


def _locate(data: str) -> tuple[fs.FileSystem, str]:
    """The filesystem of a data argument, and its path there."""
    if "://" not in data:
        return fs.LocalFileSystem(), str(Path(data).absolute())
    parts = data.split("/")
    fixed = _before_wildcards(parts, "*[")  # a ? is no wildcard in a URI: it begins a query
    try:
        filesystem, path = fs.FileSystem.from_uri("/".join(parts[:fixed]))
    except (ValueError, OSError) as error:
        raise DataError(
            f"an address that does not open ({error})", "check it", file=data
        ) from error
    return filesystem, "/".join([path.rstrip("/"), *parts[fixed:]]) if parts[fixed:] else path


def _in_folder(filesystem: fs.FileSystem, folder: str) -> list[Shard]:
    found = files_below(filesystem, folder, Wanted(lambda parts: has_data_suffix(parts[-1])))
    if found.others:
        logger.warning("not read, by their names no data: %s", ", ".join(found.others))
    return _shards(found.files, filesystem)


def _matching(filesystem: fs.FileSystem, pattern: str) -> list[Shard]:
    parts = PurePosixPath(pattern).parts
    fixed = _before_wildcards(parts)
    folder = str(PurePosixPath(*parts[:fixed]))
    if filesystem.get_file_info(folder).type != fs.FileType.Directory:
        return []
    asked = parts[fixed:]
    wanted = Wanted(
        lambda names: _matches(names, asked), lambda names: _leads(names, asked), "**" in asked
    )
    return _shards(files_below(filesystem, folder, wanted).files, filesystem)


def _leads(names: Parts, pattern: Parts) -> bool:
    """Whether what matches a glob may lie in a folder of this path."""
    if not names or not pattern or pattern[0] == "**":
        return bool(pattern)
    return fnmatch.fnmatchcase(names[0], pattern[0]) and _leads(names[1:], pattern[1:])


def _matches(names: Parts, pattern: Parts) -> bool:
    """Whether a path's parts match a glob's: ``**`` stands for any number of them, even none."""
    if not pattern or not names:
        return not names and all(part == "**" for part in pattern)
    if pattern[0] == "**":
        return _matches(names, pattern[1:]) or _matches(names[1:], pattern)
    return fnmatch.fnmatchcase(names[0], pattern[0]) and _matches(names[1:], pattern[1:])


def _before_wildcards(parts: Sequence[str], marks: str = _WILDCARDS) -> int:
    """How many parts of a path stand before the first that holds a wildcard."""
    wild = (i for i, part in enumerate(parts) if any(mark in part for mark in marks))
    return next(wild, len(parts))


def _together(found: list[list[Shard]]) -> list[Shard]:
    """Shards of several arguments, each named by its path below the folder that holds them all."""
    known: set[tuple[str, str]] = set()
    for shards in found:
        places = [_place(shard) for shard in shards]
        for shard, place in zip(shards, places, strict=True):
            if place in known:
                raise DataError("a file that is named twice", "name it once", file=shard.path)
        known.update(places)
    return _named_below_all([shard for shards in found for shard in shards])


def _named_below_all(shards: Sequence[Shard]) -> list[Shard]:
    """The shards, each named by its path below the folder that holds all of its filesystem."""
    folders: dict[str, list[str]] = {}
    for shard in shards:
        folder = posixpath.normpath(shard.path.removesuffix(shard.name))
        folders.setdefault(shard.filesystem.type_name, []).append(folder)
    above = {kind: posixpath.commonpath(found) for kind, found in folders.items()}
    return [
        replace(
            shard,
            name=posixpath.relpath(
                posixpath.normpath(shard.path), above[shard.filesystem.type_name] or "."
            ),
        )
        for shard in shards
    ]


def _place(shard: Shard) -> tuple[str, str]:
    """Where a shard really lies, whatever path leads there."""
    kind = shard.filesystem.type_name
    return kind, os.path.realpath(shard.path) if kind == "local" else shard.path


def finder(data: Data) -> Callable[[Path], str | None]:
    """What says by which of the arguments a local file would be found, where it is there."""
    places = [(argument, *_locate(argument)) for argument in arguments_of(data)]
    local = [(argument, Path(place)) for argument, fs, place in places if fs.type_name == "local"]

    def finds(file: Path) -> str | None:
        return next((argument for argument, place in local if _would_find(place, file)), None)

    return finds


def _would_find(place: Path, file: Path) -> bool:
    """Whether a folder or a glob is searched where a file lies, and takes its name."""
    folder = place if place.is_dir() else Path(*place.parts[: _before_wildcards(place.parts)])
    try:
        parts = file.resolve().relative_to(folder.resolve()).parts
    except ValueError:
        return False
    if any(part.startswith(("_", ".")) for part in parts):
        return False
    wanted = place.parts[len(folder.parts) :]
    return _matches(parts, wanted) if wanted else place.is_dir()
