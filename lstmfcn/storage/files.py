"""Write files and folders completely or not at all; read unknown files within limits."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import stat
import tempfile
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from lstmfcn.errors import OutputError, UserError

_URI = re.compile(r"[a-z][\w+.-]*:(/|:(/|$|.*:/))", re.IGNORECASE | re.DOTALL)
"""``s3://b``, ``s3:/b``, and chains of fsspec: ``memory::``, ``simplecache::s3://b``."""

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
"""Constants of renameat2, from fcntl.h and fs.h of Linux."""


def local_path(text: Path | str, raised: type[UserError] = OutputError) -> Path:
    """Make a path of an output or a model as the user wrote it.

    Raises:
        UserError: of the given kind; the text is a URI, or looks like one. URIs of other file
            systems are for `lstmfcn.storage.places.checked_place`.
    """
    if not _URI.match(str(text)):
        return Path(text)
    if str(text).lower().startswith("file:"):
        raise raised(f"found {text}; write the path without file:")
    raise raised(
        f"found {text}; write a folder, or a URI with two slashes, as in s3://bucket/folder (in "
        "Python as a text, not as a Path)"
    )


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; anything else, such as a pipe, raises `OSError` at once."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def read_regular(path: Path, max_bytes: int) -> bytes:
    """Read a regular file of at most ``max_bytes``; anything else raises `OSError`."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size  # reading max_bytes would allocate them
        content = file.read(min(size, max_bytes) + 1)
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {max_bytes:,} bytes", str(path))
    return content


@contextmanager
def refusing_write_errors(path: Path) -> Iterator[None]:
    """Turn errors of the operating system in this block into an `OutputError` of the path."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error


def resolve(path: Path) -> Path:
    """Return the path with links resolved; a loop of links raises `OutputError`."""
    try:
        return path.resolve()
    except RuntimeError as error:  # raised by Python before 3.13
        raise OutputError(f"{path}: cannot be written (its links form a loop)") from error


def exists(path: Path) -> bool:
    """Whether the path exists; one that may not be looked at raises `OutputError`."""
    with refusing_write_errors(path):
        return path.exists()


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a hidden path to write to, which then replaces ``path``; or raise `OutputError`."""
    path = resolve(path)
    unfinished = _hidden_path(path)
    try:
        with refusing_write_errors(path):
            make_folder(path.parent)
            yield unfinished
            sync(unfinished)
            unfinished.replace(path)
            sync(path.parent)
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path, may_go: Collection[str] = ()) -> Iterator[Path]:
    """Give a hidden new folder to fill; at the end it replaces ``path``.

    An existing folder is replaced only if the new one has all of its files, so that nothing is
    lost. The folder is complete at every moment, if the file system can exchange two folders.

    Args:
        may_go: names of files and folders that the new folder need not have.

    Raises:
        OutputError: the folder cannot be written, contains other files, or is or contains the
            current folder.
    """
    path = resolve(path)
    unfinished, former = _hidden_path(path), _hidden_path(path)
    _refuse_current(path)
    try:
        with refusing_write_errors(path):
            make_folder(path.parent)
            unfinished.mkdir()
            yield unfinished
            for file in unfinished.rglob("*"):
                sync(file)
            sync(unfinished)
            if path.exists():
                _refuse_loss(path, {file.name for file in unfinished.iterdir()}, may_go)
                _replace(path, unfinished, former)
            else:
                unfinished.rename(path)
            sync(path.parent)
    finally:
        if former.exists() and not path.exists():
            former.rename(path)
        shutil.rmtree(unfinished, ignore_errors=True)
        with suppress(OSError):
            for name in may_go:
                if (former / name).is_dir():
                    shutil.rmtree(former / name)
            remove_folder(former)


def write_directory(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of these files in place of an earlier one, as `atomic_directory` does."""
    with atomic_directory(path) as unfinished:
        for name, content in files.items():
            (unfinished / name).write_bytes(content)


def make_folder(path: Path) -> None:
    """Make a folder and its missing parents, durably; raises `OSError` if that fails."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync(folder.parent)
    if not missing and not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def new_folder(path: Path) -> Path:
    """Return the path of a new or empty folder; anything else raises `OutputError`."""
    if exists(path) and (not path.is_dir() or any(path.iterdir())):
        raise OutputError(f"{path}: is not empty; add --overwrite, or choose another --output")
    return path


def refuse_existing(path: Path) -> None:
    """Refuse (`OutputError`) to overwrite a file or folder."""
    if exists(path):
        raise OutputError(f"{path}: exists already; add --overwrite or choose another --output")


def refuse_unwritable(path: Path) -> None:
    """Refuse (`OutputError`) a path that cannot be written, before there is anything to write."""
    path = resolve(path)
    parent = next(folder for folder in path.parents if exists(folder))
    with refusing_write_errors(path), tempfile.TemporaryFile(dir=parent):
        pass


def remove_folder(folder: Path) -> None:
    """Remove a folder and its files, if it exists; a folder in it raises `OSError`."""
    if folder.exists():
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def sync(path: Path) -> None:
    """Make a file, or the entries of a folder, durable (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(path: Path, new: Path, former: Path) -> None:
    """Replace a folder by a new one; the old one is renamed to ``former``."""
    try:
        _exchange(new, path)
    except OSError:  # this file system cannot; for a moment there is no folder
        path.rename(former)
        new.rename(path)
    else:
        new.rename(former)


def _exchange(one: Path, other: Path) -> None:
    """Exchange two folders in one step (Linux), if the kernel and the file system can."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    names = os.fsencode(one), os.fsencode(other)
    if libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _refuse_current(path: Path) -> None:
    if path == Path.cwd() or path in Path.cwd().parents:
        raise OutputError(f"{path}: is the current folder or contains it; choose another folder")


def _refuse_loss(path: Path, names: set[str], may_go: Collection[str]) -> None:
    """Refuse to replace a folder that contains anything but files with these names."""
    if not path.is_dir():
        raise OutputError(f"{path}: is a file; choose a folder")
    others = [
        entry.name
        for entry in path.iterdir()
        if entry.name not in may_go and (entry.name not in names or entry.is_dir())
    ]
    if others:
        raise OutputError(
            f"{path}: contains {sorted(others)[0]}, which would be lost; choose another folder"
        )


def _hidden_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
