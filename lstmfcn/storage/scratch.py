"""Temporary folders that only this user can read, removed when the command ends.

A killed process leaves its folder behind; the next process that makes one removes it. A lock shows
which process has ended: it ends with the process, and processes in other containers see it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lstmfcn.errors import ResourceError

_PREFIX, _LOCK = "lstmfcn-", ".held"


@contextmanager
def scratch_folder(max_bytes: int | None = None) -> Iterator[Path]:
    """Make a temporary folder with mode 0700.

    Args:
        max_bytes: the longest path that is allowed, if the folder is for sockets. If the path of
            the folder for temporary files is too long, /tmp is used.

    Raises:
        ResourceError: no folder for temporary files can be used.
    """
    parent = _find_parent(max_bytes)
    _remove_abandoned(parent)
    with tempfile.TemporaryDirectory(
        prefix=_PREFIX, dir=parent, ignore_cleanup_errors=True
    ) as folder:
        lock = _lock(Path(folder))
        try:
            yield Path(folder)
        finally:
            os.close(lock)


def _find_parent(max_bytes: int | None) -> str:
    """The folder for temporary files: that of TMPDIR, if it is writable."""
    try:
        parents = [os.path.realpath(tempfile.gettempdir()), "/tmp"]
    except FileNotFoundError as error:
        raise ResourceError(
            "no folder for temporary files is writable; set TMPDIR to a writable folder"
        ) from error
    name_bytes = len(f"/{_PREFIX}12345678")
    for parent in parents:
        fits = max_bytes is None or len(os.fsencode(parent)) + name_bytes <= max_bytes
        if fits and os.access(parent, os.W_OK | os.X_OK):
            return parent
    raise ResourceError(
        f"the path of the folder for temporary files, {parents[0]}, is too long for sockets, and "
        "/tmp is not writable; set TMPDIR to a folder with a short path"
    )


def _lock(folder: Path) -> int:
    """Lock a file with the process id until this process ends; it is renamed once it is locked."""
    unlocked = folder / ".new"
    descriptor = os.open(unlocked, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.write(descriptor, str(os.getpid()).encode())
    unlocked.rename(folder / _LOCK)
    return descriptor


def _remove_abandoned(parent: str) -> None:
    """Remove folders of this user whose process has ended."""
    for lock in Path(parent).glob(f"{_PREFIX}*/{_LOCK}"):
        with suppress(OSError):
            if lock.parent.lstat().st_uid != os.getuid():
                continue
            descriptor = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.parent, ignore_errors=True)
            finally:
                os.close(descriptor)
