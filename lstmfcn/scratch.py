"""Folders for the time of a block; those of processes that were killed are removed by the next."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_OWNER = "owner.pid"
"""In each folder, locked as long as the process whose number it holds lives."""


@contextmanager
def scratch_folder(prefix: str, where: Path | None = None) -> Iterator[Path]:
    """A new folder of this user alone, gone after this block.

    Args:
        prefix: what its name begins with; folders of that prefix whose process is gone go, too.
        where: the folder to make it in; by default that of temporary files.
    """
    where = where or Path(tempfile.gettempdir())
    _remove_ownerless(prefix, where)
    with tempfile.TemporaryDirectory(
        prefix=prefix, dir=where, ignore_cleanup_errors=True
    ) as folder:
        unlocked = Path(folder) / f".{_OWNER}"
        with unlocked.open("w", encoding="utf-8") as owner:
            fcntl.flock(owner, fcntl.LOCK_EX)
            owner.write(str(os.getpid()))
            owner.flush()
            unlocked.rename(Path(folder) / _OWNER)  # seen by others only once it is locked
            yield Path(folder)


def _remove_ownerless(prefix: str, where: Path) -> None:
    """Remove what processes of this user left behind when they were killed."""
    for folder in where.glob(f"{prefix}*"):
        with suppress(OSError):  # it is another user's, or gone by now
            if folder.lstat().st_uid == os.getuid() and _is_ownerless(folder / _OWNER):
                shutil.rmtree(folder, ignore_errors=True)


def _is_ownerless(owner: Path) -> bool:
    """Whether nobody holds the lock; a link or a pipe is never followed, nor waited for."""
    descriptor = os.open(owner, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
