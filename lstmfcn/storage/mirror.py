"""Commands work in local folders; what they leave there is sent to the URI that the user named.

The local folder begins as a sketch of the one at the URI: the same names, but empty files, except
those that the command reads. So all rules for folders that hold something hold for URIs too. Then
the folder at the URI follows the local one: what is new or changed is sent, what was removed is
removed there.

A file appears at the URI whole or not at all, but a folder does not appear at once. Files that
describe those beside them, such as model.json, are sent last and removed first, and hold their
checksums: a half-sent model or checkpoint is never taken for a whole one.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lstmfcn.errors import OutputError, UserError
from lstmfcn.storage.remote_lock import TakenOverError

if TYPE_CHECKING:
    from lstmfcn.storage.remote import (
        RemoteFolder,
    )  # imports PyArrow, which local places do not need

_DESCRIPTIONS = ("checkpoint.json", "model.json", "report.html", "set_aside.csv")

_SEND_EVERY_S = 1.0
_FIRST_PAUSE_S, _MAX_PAUSE_S = 2.0, 30.0
"""Pause after a failure; each further failure doubles it."""
_LAST_ATTEMPTS = 3

_Stamp = tuple[int, int, int]
"""A file's inode, size and time of the last change."""

logger = logging.getLogger(__name__)


class Mirror:
    """Makes the folder at a URI follow a local one.

    Args:
        remote: the folder at the URI.
        folder: the local folder; it does not exist yet.
        owned: whether a command may replace and remove a file of this name; others are not seen.
        guard: called before anything is sent; raises if this process must not write any more.
    """

    def __init__(
        self,
        remote: RemoteFolder,
        folder: Path,
        owned: Callable[[str], bool] = lambda _: True,
        guard: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder = folder
        self._remote, self._owned, self._guard = remote, owned, guard
        self._sent: dict[str, _Stamp] = {}
        self._sketched: set[str] = set()
        self._passes = threading.Lock()  # one at a time

    def sketch(self, reads: Callable[[str], bool]) -> None:
        """Fill the local folder: copies of the files that are read, and empty ones for the rest."""
        files = [file for file in self._remote.files() if self._owned(file.name)]
        self._sketched = {file.name for file in files if not reads(file.name)}
        for name in self._sketched:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        self._remote.download([file for file in files if reads(file.name)], self.folder)
        self._sent = {file.name: _stamp(self.folder / file.name) for file in files}

    def send(self) -> None:
        """Send what has changed since the last call, and remove what is gone.

        An overwritten run goes before the new one comes, an old checkpoint goes after the new one
        has come: whenever this process is killed, what lies at the URI can be resumed.

        Raises:
            UserError: the storage fails or refuses; call again later.
        """
        with self._passes:
            found, is_whole = self._scan()
            replaced = {name for name in self._sketched if not (self.folder / name).exists()}
            changed = {name for name, stamp in found.items() if self._sent.get(name) != stamp}
            if not (replaced or changed or self._sent.keys() - found.keys()):
                return
            self._remove(replaced)
            self._sketched -= replaced
            torn = {_parent(name) for name in changed if not _describes(name)}
            self._remove(
                {name for name in self._sent if _describes(name) and _parent(name) in torn}
            )
            changed |= found.keys() - self._sent.keys()
            gone = self._upload({n for n in changed if not _describes(n)}, found)
            torn = {_parent(name) for name in gone}
            last = {n for n in changed if _describes(n) and _parent(n) not in torn}
            gone |= self._upload(last, found)
            if is_whole and not gone:  # else what replaces them may not have been sent
                self._remove(self._sent.keys() - found.keys())

    def _scan(self) -> tuple[dict[str, _Stamp], bool]:
        """The files of the local folder, and whether none disappeared meanwhile."""
        found, is_whole = {}, True
        for folder, folders, names in os.walk(self.folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                path = Path(folder, name)
                key = path.relative_to(self.folder).as_posix()
                if name.startswith(".") or not self._owned(key):
                    continue
                try:
                    found[key] = _stamp(path)
                except FileNotFoundError:
                    is_whole = False
        return found, is_whole

    def _upload(self, names: set[str], found: dict[str, _Stamp]) -> set[str]:
        if not names:
            return set()
        self._guard()
        gone = self._remote.upload(self.folder, sorted(names))
        self._sent |= {name: found[name] for name in names - gone}
        return gone

    def _remove(self, names: set[str]) -> None:
        if not names:
            return
        self._guard()
        for some in (filter(_describes, names), names):
            self._remote.remove(sorted(some))
        for name in names:
            self._sent.pop(name, None)
        left = set(map(_parent, self._sent))
        for folder in set(map(_parent, names)) - left - {""}:
            self._remote.remove_folder(folder)


class _Sender:
    """A thread that sends what has changed, every second or so.

    A storage that fails does not stop the command: what is missing is sent later.
    """

    def __init__(self, mirror: Mirror, shown: str) -> None:
        self._mirror, self._shown = mirror, shown
        self._finished = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        pause = _SEND_EVERY_S
        while not self._finished.wait(pause):
            try:
                self._mirror.send()
            except TakenOverError:
                return
            except UserError as error:
                if pause == _SEND_EVERY_S:
                    logger.warning("%s; what is missing is sent later", error)
                pause = min(max(2 * pause, _FIRST_PAUSE_S), _MAX_PAUSE_S)
            else:
                if pause != _SEND_EVERY_S:
                    logger.info("%s: all is sent", self._shown)
                pause = _SEND_EVERY_S

    def stop(self) -> None:
        self._finished.set()
        self._thread.join()


@contextmanager
def following(mirror: Mirror, shown: str) -> Iterator[None]:
    """Send what changes during this block, and the rest at its end.

    Raises:
        OutputError: the rest could not be sent; it is kept in a folder that the message names.
    """
    sender = _Sender(mirror, shown)
    try:
        yield
    finally:
        sender.stop()
        _send_rest(mirror)


def _send_rest(mirror: Mirror) -> None:
    pause = _FIRST_PAUSE_S
    for attempt in range(1, _LAST_ATTEMPTS + 1):
        try:
            return mirror.send()
        except OutputError as error:
            if isinstance(error, TakenOverError) or not mirror.folder.exists():
                raise
            if attempt == _LAST_ATTEMPTS:
                kept = Path(tempfile.mkdtemp(prefix="kept-by-lstmfcn-"), mirror.folder.name)
                shutil.move(mirror.folder, kept)
                raise OutputError(f"{error}; what could not be sent is kept in {kept}") from error
            logger.warning("%s; trying again", error)
            time.sleep(pause)
            pause *= 2
    return None


def _stamp(path: Path) -> _Stamp:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _describes(name: str) -> bool:
    return name.rpartition("/")[2] in _DESCRIPTIONS


def _parent(name: str) -> str:
    return name.rpartition("/")[0]
