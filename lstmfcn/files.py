"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lstmfcn.errors import OutputError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A hidden name beside ``path`` to write to; it takes the place of ``path`` at the end.

    Raises:
        OutputError: the file cannot be written.
    """
    path = path.resolve()
    unfinished = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        sync(unfinished)
        unfinished.replace(path)
        sync(path.parent)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A hidden new folder beside ``path`` to fill; it takes the place of ``path`` at the end.

    A folder that stood there before is moved aside for the moment of the exchange, then removed.

    Raises:
        OutputError: the folder cannot be written.
    """
    path = path.resolve()
    unfinished, former = _beside(path), _beside(path)
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path}: is a file; name a folder")
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        for file in unfinished.iterdir():
            sync(file)
        sync(unfinished)
        if path.exists():
            path.rename(former)
        unfinished.rename(path)
        sync(path.parent)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        if former.exists() and not path.exists():
            former.rename(path)
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)


def new_folder(path: Path) -> Path:
    """The path, refused where something stands there already.

    Raises:
        OutputError: the folder is not empty, or no folder.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise OutputError(f"{path}: holds something already; name a new --output or remove it")
    return path


def sync(path: Path) -> None:
    """Make a file, or a folder's entries, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
