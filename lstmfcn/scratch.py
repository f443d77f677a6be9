"""Folders for what is of use only while a command runs: this user's alone, removed at its end.

A process that is killed leaves its folder behind; the next one that makes a folder removes it.
Whose process has ended is told by a lock, which ends with the process and which other containers
see too, as they would not see its process id.
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

_PREFIX, _HELD = "lstmfcn-", ".held"


@contextmanager
def scratch_folder(most_bytes: int | None = None) -> Iterator[Path]:
    """A new folder, of mode 0700, among the temporary files.

    Args:
        most_bytes: the longest that its path may be, where it holds sockets. Where that of
            temporary files is longer, the folder is in /tmp.

    Raises:
        ResourceError: there is no place for it.
    """
    place = _place(most_bytes)
    _remove_left(place)
    with tempfile.TemporaryDirectory(
        prefix=_PREFIX, dir=place, ignore_cleanup_errors=True
    ) as folder:
        held = _hold(Path(folder))
        try:
            yield Path(folder)
        finally:
            os.close(held)


def _place(most_bytes: int | None) -> str:
    """Where temporary files go: what TMPDIR names, if it can be written to."""
    try:
        places = [os.path.realpath(tempfile.gettempdir()), "/tmp"]
    except FileNotFoundError as error:
        raise ResourceError(
            "no folder for temporary files can be written to; set TMPDIR to one that can"
        ) from error
    longest = len(f"/{_PREFIX}12345678")
    for place in places:
        fits = most_bytes is None or len(os.fsencode(place)) + longest <= most_bytes
        if fits and os.access(place, os.W_OK | os.X_OK):
            return place
    raise ResourceError(
        f"the folder for temporary files, {places[0]}, has too long a path for sockets, and /tmp "
        "cannot be written to; set TMPDIR to a folder of a short path"
    )


def _hold(folder: Path) -> int:
    """Lock a file with this process' id until it ends. It has its name only once it is locked."""
    unlocked = folder / ".new"
    held = os.open(unlocked, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(held, fcntl.LOCK_EX)
    os.write(held, str(os.getpid()).encode())
    unlocked.rename(folder / _HELD)
    return held


def _remove_left(place: str) -> None:
    """Remove this user's folders whose process has ended."""
    for lock in Path(place).glob(f"{_PREFIX}*/{_HELD}"):
        with suppress(OSError):
            if lock.parent.lstat().st_uid != os.getuid():
                continue
            descriptor = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.parent, ignore_errors=True)
            finally:
                os.close(descriptor)
