"""Data arguments (a file, folder, glob or URI), and the files below a folder, each once."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from lstmfcn.data.columns import abbreviate
from lstmfcn.errors import DataError
from lstmfcn.storage.places import shown_place

if TYPE_CHECKING:
    from pyarrow import fs  # a tenth of a second of every command

logger = logging.getLogger(__name__)

Data = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""One data argument (a file, folder, glob or URI), or several."""

Parts = tuple[str, ...]
"""The parts of a path below the folder that is searched."""

_OPEN_FILES = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")
"""These paths are other files in the other processes that read shards."""


class FoundFile(NamedTuple):
    """A file that was found.

    Attributes:
        name: its path below the folder that was searched.
        modified_ns: when it was last written, in nanoseconds.
    """

    path: str
    name: str
    size: int
    modified_ns: int


class FileFilter(NamedTuple):
    """Which files to look for below a folder.

    Attributes:
        file: whether a file with this path below the folder matches.
        folder: whether a folder with this path may contain matching files.
        every_depth: whether folders at any depth may contain matching files.
    """

    file: Callable[[Parts], bool]
    folder: Callable[[Parts], bool] = lambda _: True
    every_depth: bool = True


class Listing(NamedTuple):
    """The matching files, sorted by path, and the names of the other files."""

    files: list[FoundFile]
    others: list[str]


def to_arguments(data: Data) -> tuple[str, ...]:
    """The data arguments as a tuple, whether one or several were given."""
    places = [data] if isinstance(data, str | os.PathLike) else data
    return tuple(os.fspath(place) for place in places)


def join_arguments(data: Data) -> str:
    """The data arguments as one text, for messages."""
    return ", ".join(map(shown_place, to_arguments(data)))


def as_arguments(data: Any) -> Any:
    """Make one argument a tuple of one; for values of any type that pydantic validates."""
    return (data,) if isinstance(data, str) else data


def list_files(filesystem: fs.FileSystem, folder: str, matching: FileFilter) -> Listing:
    """List the visible files below a folder.

    Names that start with ``_`` or ``.`` are skipped. In the local filesystem links are followed;
    links to files or folders that are listed already are skipped with a warning, and so are
    devices, sockets and pipes.

    Raises:
        DataError: a link to a file that does not exist, or a name that is not UTF-8.
        OSError: a folder cannot be read.
    """
    from pyarrow import fs

    if isinstance(filesystem, fs.LocalFileSystem):
        walk = _Walk(folder, matching)
        walk.run()
        listing = Listing(sorted(walk.files), sorted(map(printable, walk.others)))
        for file in listing.files:
            refuse_no_utf8(file.path)
        return listing
    listing = Listing([], [])
    for file in _list_remote(filesystem, folder, matching):
        if matching.file(PurePosixPath(file.name).parts):
            listing.files.append(file)
        else:
            listing.others.append(file.name)
    return Listing(sorted(listing.files), sorted(listing.others))


def refuse_unusual(path: str, data: str) -> None:
    """Refuse a local path that is neither a file nor a folder, such as a pipe or a broken link.

    Args:
        path: the absolute path.
        data: the path as the user wrote it.

    Raises:
        DataError: says what the path is.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - the path may not be UTF-8
    except OSError:
        if os.path.islink(path):  # noqa: PTH114
            raise broken_link(path) from None
        return
    if (kind := _special_kind(mode)) or path.startswith(_OPEN_FILES):
        raise DataError(
            kind or "a file that is open in this process only",
            "save it as a file first, and give that file",
            file=printable(data),
        )


def broken_link(path: str) -> DataError:
    """Describe a link to a file that does not exist."""
    target = printable(os.readlink(path))  # noqa: PTH115 - pathlib would normalise the target
    return DataError(
        f"a link to a file that does not exist ({target})",
        "fetch its content (for example with dvc pull or git annex get), or remove it",
        file=printable(path),
    )


def refuse_no_utf8(path: str) -> None:
    """Refuse (`DataError`) a path that is not UTF-8, because pyarrow cannot open it."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise DataError(
            "a name that is not UTF-8", "rename it, for example with convmv", file=printable(path)
        ) from None


def printable(path: str) -> str:
    """A path as text, with bytes that are not UTF-8 as hexadecimal digits."""
    return os.fsencode(path).decode(errors="backslashreplace")


@dataclass
class _Walk:
    """A walk through a local folder. Links to folders are followed after all real folders."""

    root: str
    matching: FileFilter
    files: list[FoundFile] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    _links: list[tuple[str, FoundFile]] = field(default_factory=list)
    _folders: list[tuple[str, Parts]] = field(default_factory=list)
    _folder_links: list[tuple[str, Parts]] = field(default_factory=list)
    _real_folders: set[str] = field(default_factory=set)
    _repeated: list[str] = field(default_factory=list)
    _not_files: list[str] = field(default_factory=list)

    def run(self) -> None:
        self._folders.append((self.root, ()))
        while self._folders or self._folder_links:
            if not self._folders:
                self._folder_links.sort()
                self._folders.append(self._folder_links.pop(0))
            self._enter(*self._folders.pop())
        self._add_links()
        if self._repeated:
            logger.warning(
                "links skipped, because their files are read already: %s",
                _abbreviate(self._repeated),
            )
        if self._not_files:
            logger.warning(
                "skipped, because they are not regular files: %s", _abbreviate(self._not_files)
            )

    def _enter(self, folder: str, parts: Parts) -> None:
        """Take the files of a folder; its sub-folders are visited later."""
        real = os.path.realpath(folder)
        if real in self._real_folders or (parts and self._is_above(real)):
            self._repeated.append("/".join(parts))
            return
        self._real_folders.add(real)
        with os.scandir(folder) as entries:
            for entry in entries:
                path = (*parts, entry.name)
                matches = self.matching.file(path) or self.matching.folder(path)
                if matches and not entry.name.startswith(("_", ".")):
                    self._take(entry, path)

    def _is_above(self, real: str) -> bool:
        """Whether a folder contains the folder that is searched."""
        root = os.path.realpath(self.root)
        return os.path.commonpath([root, real]) == real

    def _take(self, entry: os.DirEntry[str], parts: Parts) -> None:
        try:
            status = entry.stat()
        except OSError:
            if entry.is_symlink():
                raise broken_link(entry.path) from None
            raise
        name = "/".join(parts)
        if stat.S_ISDIR(status.st_mode):
            if self.matching.folder(parts):
                later = self._folder_links if entry.is_symlink() else self._folders
                later.append((entry.path, parts))
        elif not stat.S_ISREG(status.st_mode):
            self._not_files.append(name)
        elif not self.matching.file(parts):
            self.others.append(name)
        else:
            file = FoundFile(entry.path, name, status.st_size, status.st_mtime_ns)
            if entry.is_symlink() or status.st_nlink > 1:
                self._links.append((self._identity(entry, status), file))
            else:
                self.files.append(file)

    def _identity(self, entry: os.DirEntry[str], status: os.stat_result) -> str:
        """A text that is the same for all names of one file."""
        if status.st_nlink > 1 and status.st_ino:
            return f"{status.st_dev}:{status.st_ino}"
        return os.path.realpath(entry.path)

    def _add_links(self) -> None:
        """Take each file that has several names once, by its first name."""
        taken = {os.path.realpath(file.path) for file in self.files} if self._links else set()
        for identity, file in sorted(self._links, key=lambda link: link[1]):
            if identity in taken:
                self._repeated.append(file.name)
            else:
                taken.add(identity)
                self.files.append(file)


def _list_remote(
    filesystem: fs.FileSystem, folder: str, matching: FileFilter
) -> Iterator[FoundFile]:
    """List files of a remote filesystem: all at once, or folder by folder if only some matter."""
    from pyarrow import fs

    folders = [folder]
    while folders:
        selector = fs.FileSelector(folders.pop(), recursive=matching.every_depth)
        for info in filesystem.get_file_info(selector):
            parts = PurePosixPath(info.path).relative_to(folder).parts
            if any(part.startswith(("_", ".")) for part in parts):
                continue
            if info.type == fs.FileType.File:
                yield FoundFile(info.path, "/".join(parts), info.size, info.mtime_ns or 0)
            elif not matching.every_depth and matching.folder(parts):
                folders.append(info.path)


def _special_kind(mode: int) -> str:
    """Name what is neither a file nor a folder; "" for files and folders."""
    kinds = {
        stat.S_ISFIFO: "a pipe",
        stat.S_ISSOCK: "a socket",
        stat.S_ISCHR: "a device",
        stat.S_ISBLK: "a device",
    }
    return next((kind for is_kind, kind in kinds.items() if is_kind(mode)), "")


def _abbreviate(names: list[str]) -> str:
    return abbreviate(sorted(map(printable, names)))
