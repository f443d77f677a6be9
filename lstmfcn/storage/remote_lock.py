"""The lock of a run at a URI: one process writes there, and another takes over if it is lost.

The lock is the object ``.lock`` with an id of the process, renewed every few seconds. While it is
fresh, others are refused. When it has not been renewed for a minute, another process takes over by
writing its own id; a process on the same machine does so at once if the former one has ended. The
former one, should it wake up, no longer finds its id, sends nothing any more and stops.

What is guaranteed: a process looks at the lock before it sends anything, so one that was suspended
or cut off does not overwrite its successor's run. What is not: pyarrow has no conditional writes.
Two processes that start within the same fraction of a second may both believe that they hold the
lock, until the one whose id was overwritten looks again, before it sends; and a request that was
under way when the lock changed hands may still arrive. Ages are told by the storage's own clock.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lstmfcn.errors import OutputError, UserError

if TYPE_CHECKING:
    from lstmfcn.storage.remote import RemoteFolder  # imports PyArrow

LOCK = ".lock"
RENEW_EVERY_S, LOST_AFTER_S = 10.0, 60.0


class TakenOverError(OutputError):
    """Another process holds the lock now; this one must not write any more."""


class RemoteLock:
    """The lock of a folder at a URI, held by this process from `take` to `release`.

    Attributes:
        lost: why this process stops, once another has taken over.
    """

    def __init__(self, remote: RemoteFolder) -> None:
        self.lost: TakenOverError | None = None
        self._remote, self._id = remote, uuid.uuid4().hex
        self._finished = threading.Event()
        self._renewer = threading.Thread(target=self._renew, daemon=True)
        self._stops_main = threading.current_thread() is threading.main_thread()

    def take(self) -> None:
        """Take the lock, or take it over from a process that was lost.

        Raises:
            OutputError: another process holds it, or the folder cannot be written to.
        """
        holder = self._holder()
        if holder and not _has_ended(holder):
            age = self._age(holder)
            if age < LOST_AFTER_S:
                raise OutputError(
                    f"{self._remote.shown}: another training is running there (process "
                    f"{holder.get('process')} on {holder.get('host')}); wait until it ends; if it "
                    f"was killed, try again in {LOST_AFTER_S - age:.0f} s"
                )
        self._write()
        self.refuse_lost()
        self._renewer.start()

    def refuse_lost(self) -> None:
        """Refuse to go on if another process has taken over.

        Raises:
            TakenOverError: the lock is another process's, or gone.
        """
        holder = self._holder()
        if not holder or holder.get("id") != self._id:
            who = f"process {holder.get('process')} on {holder.get('host')}" if holder else ""
            found = f"{who} has taken over" if who else "its .lock was removed"
            self.lost = TakenOverError(
                f"{self._remote.shown}: {found}, because this process was not heard of for "
                f"{LOST_AFTER_S:.0f} s; it has stopped and overwritten nothing"
            )
            raise self.lost

    def release(self) -> None:
        """Remove the lock, unless it is another process's."""
        self._finished.set()
        if self._renewer.is_alive():
            self._renewer.join()
        with suppress(UserError):  # it is stale in a minute
            self.refuse_lost()
            self._remote.remove([LOCK])

    def _renew(self) -> None:
        while not self._finished.wait(RENEW_EVERY_S):
            try:
                self.refuse_lost()
                self._write()
            except TakenOverError:
                if self._stops_main and not self._finished.is_set():
                    _interrupt()
                return
            except UserError:  # the thread that sends tells it
                continue

    def _write(self) -> None:
        content = {
            "id": self._id,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "machine": _machine(),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._remote.write(LOCK, json.dumps(content).encode())

    def _holder(self) -> dict[str, Any]:
        """What the lock says; empty if there is none."""
        content = self._remote.read(LOCK)
        if content is None:
            return {}
        try:
            holder = json.loads(content)
        except ValueError:
            holder = None
        return holder if isinstance(holder, dict) else {"id": ""}

    def _age(self, holder: dict[str, Any]) -> float:
        """Seconds since the lock was renewed, by the clock of the storage if it has one."""
        probe = f"{LOCK}-{self._id}"
        self._remote.write(probe, b"")
        now, renewed = self._remote.modified(probe), self._remote.modified(LOCK)
        self._remote.remove([probe])
        if now and renewed:
            return (now - renewed).total_seconds()
        try:
            return time.time() - datetime.fromisoformat(holder["time"]).timestamp()
        except (KeyError, TypeError, ValueError):
            return 0.0


def _machine() -> str:
    """This boot of this machine, and the namespace of its process ids; "" if that is not known."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return ""


def _has_ended(holder: dict[str, Any]) -> bool:
    """Whether the process that holds a lock ran on this machine, and has ended."""
    process = holder.get("process")
    if not _machine() or holder.get("machine") != _machine() or not isinstance(process, int):
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _interrupt() -> None:
    """Stop the command of this process, as Ctrl-C does, or as SIGTERM if Ctrl-C is ignored."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if callable(signal.getsignal(number)):
            signal.pthread_kill(threading.main_thread().ident or 0, number)
            return
