"""Files and folders that appear whole or not at all; files of strangers, read within bounds."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import stat
import tempfile
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from lstmfcn.errors import OutputError, UserError

_URI = re.compile(r"[a-z][\w+.-]*:(/|:(/|$|.*:/))", re.IGNORECASE | re.DOTALL)
"""``s3://b``, ``s3:/b``, and what fsspec chains: ``memory::``, ``simplecache::s3://b``."""

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
"""Linux's fcntl.h and fs.h, for renameat2."""


def local_path(text: Path | str, raised: type[UserError] = OutputError) -> Path:
    """The path of an output or a model, which is a folder or a file that this machine sees.

    Args:
        text: as the user gives it.
        raised: what to raise.

    Raises:
        UserError: it is a URI: taken as a path it would name a folder beside the user's own.
    """
    if not _URI.match(str(text)):
        return Path(text)
    if str(text).lower().startswith("file:"):
        raise raised(f"found {text}; write the path alone, without file:")
    raise raised(
        f"found {text}; lstmfcn reads models from folders and writes to folders: name one on "
        "storage that every machine reaches"
    )


def open_regular(path: Path) -> BinaryIO:
    """A file, open for reading. A pipe or a device is refused, and not waited for.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "it is no regular file", str(path))


def read_regular(path: Path, most_bytes: int) -> bytes:
    """The content of a file.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger than that.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size  # Python would make room for most_bytes at once
        content = file.read(min(size, most_bytes) + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {most_bytes:,} bytes", str(path))
    return content


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the operating system refuses in this block is told as this path's.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error


def resolved(path: Path) -> Path:
    """The path without links.

    Raises:
        OutputError: links lead in a circle.
    """
    try:
        return path.resolve()
    except RuntimeError as error:  # what Python before 3.13 says of it
        raise OutputError(f"{path}: cannot be written (its links lead in a circle)") from error


def exists(path: Path) -> bool:
    """Whether something is there.

    Raises:
        OutputError: that cannot be known: its name is too long, or a folder of it may not be read.
    """
    with writing(path):
        return path.exists()


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A hidden name beside ``path`` to write to; it takes the place of ``path`` at the end.

    Raises:
        OutputError: the file cannot be written.
    """
    path = resolved(path)
    unfinished = _beside(path)
    try:
        with writing(path):
            make_folder(path.parent)
            yield unfinished
            sync(unfinished)
            unfinished.replace(path)
            sync(path.parent)
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path, may_go: Collection[str] = ()) -> Iterator[Path]:
    """A hidden new folder beside ``path`` to fill; it takes the place of ``path``.

    A folder that stands there is replaced only where every file in it is written anew, so that
    nothing else can be lost; there is a whole folder at each moment, where the file system can
    exchange two by one step.

    Args:
        path: the folder.
        may_go: names of files in it that need not be written anew.

    Raises:
        OutputError: the folder cannot be written, holds something else, or is the current folder
            or one above it.
    """
    path = resolved(path)
    unfinished, former = _beside(path), _beside(path)
    _refuse_current(path)
    try:
        with writing(path):
            make_folder(path.parent)
            unfinished.mkdir()
            yield unfinished
            for file in unfinished.rglob("*"):
                sync(file)
            sync(unfinished)
            if path.exists():
                _refuse_loss(path, {file.name for file in unfinished.iterdir()} | {*may_go})
                _replace(path, unfinished, former)
            else:
                unfinished.rename(path)
            sync(path.parent)
    finally:
        if former.exists() and not path.exists():
            former.rename(path)
        shutil.rmtree(unfinished, ignore_errors=True)
        with suppress(OSError):
            remove_folder(former)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are not there, and make them durable.

    Raises:
        OSError: one cannot be made, or is a file.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync(folder.parent)
    if not missing and not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def new_folder(path: Path) -> Path:
    """The path, refused where something stands there already.

    Raises:
        OutputError: the folder is not empty, or no folder.
    """
    if exists(path) and (not path.is_dir() or any(path.iterdir())):
        raise OutputError(f"{path}: holds something already; name a new --output or remove it")
    return path


def refuse_existing(path: Path, found: str = "is there") -> None:
    """Refuse to write a file anew that was not to be overwritten.

    Args:
        found: what to say of it.

    Raises:
        OutputError: it exists.
    """
    if exists(path):
        raise OutputError(f"{path}: {found} already; add --overwrite, or name another --output")


def refuse_unwritable(path: Path) -> None:
    """Refuse a file or folder that could not be written, before there is anything to write.

    Raises:
        OutputError: says why; nothing is left behind.
    """
    path = resolved(path)
    above = next(folder for folder in path.parents if exists(folder))
    with writing(path), tempfile.TemporaryFile(dir=above):
        pass


def remove_folder(folder: Path) -> None:
    """Remove a folder of files, if it is there; never one that holds a folder.

    Raises:
        OSError: it holds a folder, or cannot be removed.
    """
    if folder.exists():
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def sync(path: Path) -> None:
    """Make a file, or a folder's entries, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(path: Path, new: Path, former: Path) -> None:
    """Put a new folder in the place of another, which gets the name ``former``."""
    try:
        _exchange(new, path)
    except OSError:  # this file system cannot: for a moment there is none
        path.rename(former)
        new.rename(path)
    else:
        new.rename(former)


def _exchange(one: Path, other: Path) -> None:
    """Exchange two folders by one step of Linux.

    Raises:
        OSError: this kernel or this file system cannot.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    names = os.fsencode(one), os.fsencode(other)
    if libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _refuse_current(path: Path) -> None:
    if path == Path.cwd() or path in Path.cwd().parents:
        raise OutputError(f"{path}: is the current folder or above it; name another folder")


def _refuse_loss(path: Path, names: set[str]) -> None:
    """Refuse to replace a folder by files of these names where it holds anything else."""
    if not path.is_dir():
        raise OutputError(f"{path}: is a file; name a folder")
    others = [entry.name for entry in path.iterdir() if entry.name not in names or entry.is_dir()]
    if others:
        raise OutputError(f"{path}: holds {sorted(others)[0]}, which would be lost; name another")


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
