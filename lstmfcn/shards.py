"""Find the shards that a data argument names: a file, a folder, a glob or a URI."""

from __future__ import annotations

import fnmatch
import logging
import os.path
import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import pyarrow as pa
from pyarrow import fs

from lstmfcn.data_arguments import Data, arguments_of
from lstmfcn.errors import DataError

SUFFIXES = (".csv", ".csv.gz", ".parquet")
_WILDCARDS = "*?["

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

    @property
    def is_parquet(self) -> bool:
        """Whether the shard is Parquet; everything else is CSV."""
        return self.path.endswith(".parquet")

    @property
    def is_empty(self) -> bool:
        """Whether the file holds no byte."""
        return self.size == 0

    def open(self) -> pa.NativeFile:
        """The shard's bytes as a stream, decompressed where its name ends in .gz."""
        packed = "gzip" if self.path.endswith(".gz") else None
        return self.filesystem.open_input_stream(self.path, compression=packed)


def find_shards(data: Data) -> list[Shard]:
    """The shards that data arguments name: argument by argument, within each sorted by path.

    A folder is searched with all its sub-folders for .csv, .csv.gz and .parquet; names that start
    with ``_`` or ``.`` are passed over, and other files are listed in a warning.

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
            f"name files, or a folder with files ending in {', '.join(SUFFIXES)}",
            file=data,
        )
    return shards


def empty_file(shard: Shard) -> DataError:
    """What to say of a shard without a byte."""
    return DataError("an empty file", "fill it or remove it", file=shard.path)


def _found(data: str) -> list[Shard]:
    filesystem, path = _locate(data)
    info = filesystem.get_file_info(path)
    if info.type == fs.FileType.File:
        return [_shard(info, PurePosixPath(path).name, filesystem)]
    if info.type == fs.FileType.Directory:
        return _in_folder(filesystem, path)
    if any(mark in path for mark in _WILDCARDS):
        return _matching(filesystem, path)
    raise DataError("nothing", "check the path", file=data)


def _shard(info: fs.FileInfo, name: str, filesystem: fs.FileSystem) -> Shard:
    return Shard(info.path, name, info.size, info.mtime_ns or 0, filesystem)


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
    files = _listed(filesystem, folder)
    shards = [shard for shard in files if shard.path.endswith(SUFFIXES)]
    others = [shard.name for shard in files if not shard.path.endswith(SUFFIXES)]
    if others:
        logger.warning("not read, by their names no data: %s", ", ".join(others))
    return shards


def _matching(filesystem: fs.FileSystem, pattern: str) -> list[Shard]:
    parts = PurePosixPath(pattern).parts
    fixed = _before_wildcards(parts)
    folder = str(PurePosixPath(*parts[:fixed]))
    if filesystem.get_file_info(folder).type != fs.FileType.Directory:
        return []
    wanted = list(parts[fixed:])
    return [
        shard
        for shard in _listed(filesystem, folder)
        if _matches(list(PurePosixPath(shard.name).parts), wanted)
    ]


def _matches(names: list[str], pattern: list[str]) -> bool:
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


def _listed(filesystem: fs.FileSystem, folder: str) -> list[Shard]:
    """Every visible file below a folder, sorted by path."""
    found = filesystem.get_file_info(fs.FileSelector(folder, recursive=True))
    files = [info for info in found if info.type == fs.FileType.File]
    shards = [
        _shard(info, str(PurePosixPath(info.path).relative_to(folder)), filesystem)
        for info in sorted(files, key=lambda info: info.path)
    ]
    return [
        shard
        for shard in shards
        if not any(part.startswith(("_", ".")) for part in PurePosixPath(shard.name).parts)
    ]


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
    wanted = list(place.parts[len(folder.parts) :])
    return _matches(list(parts), wanted) if wanted else place.is_dir()
