"""The files below a folder: each once, whatever links lead to it, and none left out in silence."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple

from pyarrow import fs

from lstmfcn.column_names import some_of
from lstmfcn.errors import DataError

logger = logging.getLogger(__name__)

Parts = tuple[str, ...]
"""A path below the folder that is searched."""

_FETCH = "fetch what it stands for (such as dvc pull, git annex get), or remove it"


_OPEN_FILES = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")
"""Other processes, which read shards too, have other files there."""


class Found(NamedTuple):
    """A file: its path, its path below the folder searched, its bytes, when it was last written."""

    path: str
    name: str
    size: int
    modified_ns: int


class Wanted(NamedTuple):
    """What is looked for below a folder.

    Attributes:
        file: whether a file of this path below the folder is wanted.
        folder: whether one that is wanted may lie in a folder of this path.
        every_depth: whether folders of any depth may hold some.
    """

    file: Callable[[Parts], bool]
    folder: Callable[[Parts], bool] = lambda _: True
    every_depth: bool = True


class Listing(NamedTuple):
    """The files that are wanted, sorted by path, and the names of others that were seen."""

    files: list[Found]
    others: list[str]


def files_below(filesystem: fs.FileSystem, folder: str, wanted: Wanted) -> Listing:
    """The visible files below a folder.

    Names that start with ``_`` or ``.`` are passed over. In the local filesystem links are
    followed; those that lead to what is read already are passed over with a warning, as are
    devices, sockets and pipes.

    Raises:
        DataError: a link that leads nowhere, or a name that is no UTF-8.
        OSError: a folder cannot be read.
    """
    if isinstance(filesystem, fs.LocalFileSystem):
        walk = _Walk(folder, wanted)
        walk.run()
        listing = Listing(sorted(walk.files), sorted(map(printable, walk.others)))
        for found in listing.files:
            refuse_no_utf8(found.path)
        return listing
    listing = Listing([], [])
    for file in _remote(filesystem, folder, wanted):
        if wanted.file(PurePosixPath(file.name).parts):
            listing.files.append(file)
        else:
            listing.others.append(file.name)
    return Listing(sorted(listing.files), sorted(listing.others))


def refuse_unusual(path: str, data: str) -> None:
    """Refuse a local path that is no file and no folder: a pipe, a device, a link to nothing.

    Args:
        data: the path as the user wrote it.

    Raises:
        DataError: says what it is.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - of what may be no UTF-8
    except OSError:
        if os.path.islink(path):  # noqa: PTH114
            raise dangling(path) from None
        return
    if (kind := _unusual(mode)) or path.startswith(_OPEN_FILES):
        raise DataError(
            kind or "an open file of this process alone",
            "write it to a file first, and name that",
            file=printable(data),
        )


def dangling(path: str) -> DataError:
    """What to say of a link to nothing."""
    target = printable(os.readlink(path))  # noqa: PTH115 - what pathlib would normalise
    return DataError(f"a link to nothing ({target})", _FETCH, file=printable(path))


def refuse_no_utf8(path: str) -> None:
    """Refuse a path that is no UTF-8, which pyarrow cannot open.

    Raises:
        DataError: shows its bytes.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        raise DataError(
            "a name that is no UTF-8", "rename it, such as by convmv", file=printable(path)
        ) from None


def printable(path: str) -> str:
    """A path as text, bytes that are no UTF-8 as their hexadecimal digits."""
    return os.fsencode(path).decode(errors="backslashreplace")


@dataclass
class _Walk:
    """A walk through a local folder. Links to folders are followed after all that are none."""

    root: str
    wanted: Wanted
    files: list[Found] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    _links: list[tuple[str, Found]] = field(default_factory=list)
    _folders: list[tuple[str, Parts]] = field(default_factory=list)
    _folder_links: list[tuple[str, Parts]] = field(default_factory=list)
    _real_folders: set[str] = field(default_factory=set)
    _again: list[str] = field(default_factory=list)
    _not_files: list[str] = field(default_factory=list)

    def run(self) -> None:
        self._folders.append((self.root, ()))
        while self._folders or self._folder_links:
            if not self._folders:
                self._folder_links.sort()
                self._folders.append(self._folder_links.pop(0))
            self._enter(*self._folders.pop())
        self._add_links()
        if self._again:
            logger.warning("passed over, links to what is read already: %s", _some(self._again))
        if self._not_files:
            logger.warning("not read, as these are no files: %s", _some(self._not_files))

    def _enter(self, folder: str, parts: Parts) -> None:
        """Take what a folder holds; its sub-folders come later."""
        real = os.path.realpath(folder)
        if real in self._real_folders or (parts and self._is_above(real)):
            self._again.append("/".join(parts))
            return
        self._real_folders.add(real)
        with os.scandir(folder) as entries:
            for entry in entries:
                own = (*parts, entry.name)
                asked = self.wanted.file(own) or self.wanted.folder(own)
                if asked and not entry.name.startswith(("_", ".")):
                    self._take(entry, own)

    def _is_above(self, real: str) -> bool:
        """Whether a folder is one that the folder searched lies in."""
        root = os.path.realpath(self.root)
        return os.path.commonpath([root, real]) == real

    def _take(self, entry: os.DirEntry[str], parts: Parts) -> None:
        try:
            status = entry.stat()
        except OSError:
            if entry.is_symlink():
                raise dangling(entry.path) from None
            raise
        name = "/".join(parts)
        if stat.S_ISDIR(status.st_mode):
            if self.wanted.folder(parts):
                later = self._folder_links if entry.is_symlink() else self._folders
                later.append((entry.path, parts))
        elif not stat.S_ISREG(status.st_mode):
            self._not_files.append(name)
        elif not self.wanted.file(parts):
            self.others.append(name)
        else:
            found = Found(entry.path, name, status.st_size, status.st_mtime_ns)
            if entry.is_symlink() or status.st_nlink > 1:
                self._links.append((self._identity(entry, status), found))
            else:
                self.files.append(found)

    def _identity(self, entry: os.DirEntry[str], status: os.stat_result) -> str:
        """The same for two names of one file."""
        if status.st_nlink > 1 and status.st_ino:
            return f"{status.st_dev}:{status.st_ino}"
        return os.path.realpath(entry.path)

    def _add_links(self) -> None:
        """Take each file that has several names by its first."""
        known = {os.path.realpath(found.path) for found in self.files} if self._links else set()
        for identity, found in sorted(self._links, key=lambda link: link[1]):
            if identity in known:
                self._again.append(found.name)
            else:
                known.add(identity)
                self.files.append(found)


def _remote(filesystem: fs.FileSystem, folder: str, wanted: Wanted) -> Iterator[Found]:
    """Files of another filesystem: by one listing of all, or folder by folder where few matter."""
    folders = [folder]
    while folders:
        selector = fs.FileSelector(folders.pop(), recursive=wanted.every_depth)
        for info in filesystem.get_file_info(selector):
            parts = PurePosixPath(info.path).relative_to(folder).parts
            if any(part.startswith(("_", ".")) for part in parts):
                continue
            if info.type == fs.FileType.File:
                yield Found(info.path, "/".join(parts), info.size, info.mtime_ns or 0)
            elif not wanted.every_depth and wanted.folder(parts):
                folders.append(info.path)


def _unusual(mode: int) -> str:
    """What is no file and no folder; "" for what is one."""
    kinds = {
        stat.S_ISFIFO: "a pipe",
        stat.S_ISSOCK: "a socket",
        stat.S_ISCHR: "a device",
        stat.S_ISBLK: "a device",
    }
    return next((kind for is_kind, kind in kinds.items() if is_kind(mode)), "")


def _some(names: list[str]) -> str:
    return some_of(sorted(map(printable, names)))
