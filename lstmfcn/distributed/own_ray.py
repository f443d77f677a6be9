"""A Ray of our own: in a folder and with a token that are this user's alone, and watched."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import ray

from lstmfcn.counts import number
from lstmfcn.errors import ResourceError
from lstmfcn.interrupts import end_now
from lstmfcn.scratch import scratch_folder
from lstmfcn.terminal import is_verbose

_TOO_SLOW = "timed out during startup"
"""What a bare Exception of Ray says (ray/_private/node.py); the time is not to be changed."""
_ATTEMPTS = 2

_FOLDER = "ray"
"""In the scratch folder, for Ray opens its own folder to all users."""
_LONGEST_SOCKET = len(f"/{_FOLDER}/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store")
_MOST_BYTES = 107 - _LONGEST_SOCKET
"""Of the path of Ray's folder: Linux allows 107 bytes for that of a socket (unix(7))."""

_WATCHED = ("raylet", "gcs_server")
"""Without one of these there is no Ray."""
_LOOK_EVERY_S = 0.5

_GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dri", "/dev/dxg")
"""Of the drivers of NVIDIA, AMD, Intel, and of Windows' Linux; where there is none, is no GPU."""

_TOKEN_NAMED = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")

logger = logging.getLogger(__name__)


@contextmanager
def own_ray() -> Iterator[None]:
    """Start a Ray for this block. Where it ends before the block does, so does this process.

    Raises:
        ResourceError: it does not start, or there is no place for its files.
    """
    with scratch_folder(_MOST_BYTES) as folder, _private_token(folder):
        _start(folder / _FOLDER)
        try:
            with _watched():
                yield
        finally:
            ray.shutdown()


def refuse_more_than_this_machine(workers: int, cpus: int | None, use_gpu: bool | None) -> None:
    """Refuse, where there is no cluster, what this machine cannot have, before Ray is started.

    Args:
        workers: how many at a time.
        cpus: of each; None for as many as there are.
        use_gpu: whether each wants a GPU; None where that is open.

    Raises:
        ResourceError: names the flags.
    """
    if ray.is_initialized() or os.environ.get("RAY_ADDRESS"):
        return
    there, wanted = os.cpu_count() or 1, workers * (cpus or 1)
    if wanted > there:
        raise ResourceError(
            f"{number(workers, 'worker')} of {number(cpus or 1, 'CPU')} "
            f"{'does' if workers == 1 else 'do'} not fit this machine, which has "
            f"{number(there, 'CPU')}; lower --num-workers or --cpus-per-worker, or name a cluster "
            "in RAY_ADDRESS"
        )
    if use_gpu and sys.platform == "linux" and not any(map(os.path.exists, _GPU_DEVICES)):
        raise ResourceError(
            "this machine has no GPU; leave --use-gpu out, or name a cluster in RAY_ADDRESS"
        )


def init_ray(**where: object) -> None:
    """Connect to Ray, or start one; what its processes log is shown with --verbose."""
    level = logging.INFO if is_verbose() else logging.ERROR
    ray.init(**where, logging_level=level, log_to_driver=is_verbose())


def _start(folder: Path) -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            init_ray(address="local", include_dashboard=False, _temp_dir=str(folder))
        except Exception as error:  # Ray raises nothing narrower
            if _TOO_SLOW not in str(error):
                raise
            if attempt == _ATTEMPTS:
                raise ResourceError(
                    "Ray did not start within the 30 s that it gives itself, twice, because the "
                    "machine is busy; try again when it is less so, or name a cluster that runs "
                    "in RAY_ADDRESS"
                ) from error
            logger.info("Ray did not start within 30 s; trying once more")
            for pid in _processes():
                os.kill(pid, signal.SIGKILL)
        else:
            return


@contextmanager
def _private_token(folder: Path) -> Iterator[None]:
    """Have a token that only this user can read; Ray would make one that all can.

    It is where Ray looks for it, in the home folder, or where there is none in Ray's own folder.
    """
    is_named = any(name in os.environ for name in _TOKEN_NAMED)
    if is_named or os.environ.get("RAY_AUTH_MODE", "token").lower() != "token" or _home_token():
        yield
        return
    path = folder / "auth_token"
    path.touch(mode=0o600)
    path.write_text(_token(), encoding="ascii")
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(path)
    try:
        yield
    finally:
        del os.environ["RAY_AUTH_TOKEN_PATH"]


@cache
def _token() -> str:
    """As Ray makes them. One for all of this process, which Ray reads once."""
    return secrets.token_hex(32)


def _home_token() -> bool:
    """Make the token in the home folder where there is none; whether there is one."""
    if not os.environ.get("HOME"):
        return False
    path = Path(os.environ["HOME"]) / ".ray" / "auth_token"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            with tempfile.NamedTemporaryFile("w", dir=path.parent) as written:  # of mode 0600
                written.write(_token())
                written.flush()
                with suppress(FileExistsError):  # another process was first
                    os.link(written.name, path)
        found = path.stat()
        if found.st_uid == os.getuid() and found.st_mode & 0o077:
            path.chmod(0o600)
        return os.access(path, os.R_OK)
    except OSError:
        return False


@contextmanager
def _watched() -> Iterator[None]:
    """Inside this block, end this process in a line where Ray's own have ended.

    Ray itself would end it after 15 to 60 seconds, and tell of nothing but its own log.
    """
    over, processes = threading.Event(), _processes()

    def watch() -> None:
        while not over.wait(_LOOK_EVERY_S):
            for pid, name in processes.items():
                # whoever shuts Ray down inside the block, as the endpoint does, disconnects first
                if ray.is_initialized() and _has_ended(pid):
                    end_now(f"Ray ended: its process {name} was killed or crashed", 1)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _has_ended(pid: int) -> bool:
    """Whether a process that we started has ended; Ray still hears of that."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _processes() -> dict[int, str]:
    """Those of Ray's processes that are to be watched, by their ids; none but on Linux.

    Ray does not collect those of a start that failed: they have ended, and still have their names.
    """
    found = {}
    for children in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            for pid in map(int, children.read_text().split()):
                name = Path(f"/proc/{pid}/comm").read_text().strip()
                if name in _WATCHED and not _has_ended(pid):
                    found[pid] = name
    return found
