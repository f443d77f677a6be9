"""Start a Ray for this process alone, with a private folder and token, and watch its processes."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import ray

from lstmfcn.console import is_verbose
from lstmfcn.errors import ResourceError
from lstmfcn.signals import end_now
from lstmfcn.storage.scratch import scratch_folder

_TOO_SLOW = "timed out during startup"
"""The text of a bare Exception of Ray (ray/_private/node.py); its 30 s cannot be changed."""
_ATTEMPTS = 2

_LONGEST_SOCKET = len("/ray/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store")
_MAX_PATH_BYTES = 107 - _LONGEST_SOCKET
"""The longest path of Ray's folder: Linux allows 107 bytes for that of a socket (unix(7))."""

_WATCHED = ("raylet", "gcs_server")
"""Ray cannot work without these processes."""
_POLL_INTERVAL_S = 0.5

_TOKEN_VARIABLES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")

logger = logging.getLogger(__name__)


@contextmanager
def own_ray() -> Iterator[None]:
    """Start a Ray for this block; this process ends if one of Ray's processes ends before.

    Raises:
        ResourceError: Ray does not start, or there is no place for its files.
    """
    with scratch_folder(_MAX_PATH_BYTES) as folder, _private_token(folder):
        with _variable("RAY_TMPDIR", folder):  # in which Ray makes its folder
            _start()
        try:
            with _watched():
                yield
        finally:
            ray.shutdown()


def init_ray(**options: object) -> bool:
    """Connect to Ray, or start one; with --verbose the logs of its processes are shown.

    Returns:
        Whether it has a dashboard.
    """
    level = logging.INFO if is_verbose() else logging.ERROR
    context = ray.init(**options, logging_level=level, log_to_driver=is_verbose())
    return bool(context.dashboard_url)


def _start() -> None:
    others = _processes().keys()  # of a Ray that this process started before
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            init_ray(address="local", include_dashboard=False)
        except Exception as error:  # Ray raises nothing narrower
            if _TOO_SLOW not in str(error):
                raise
            if attempt == _ATTEMPTS:
                raise ResourceError(
                    "Ray did not start within 30 s, twice; the machine may be overloaded: try "
                    "again later, or name a running cluster in RAY_ADDRESS"
                ) from error
            logger.info("Ray did not start within 30 s; trying once more")
            for pid in _processes().keys() - others:
                os.kill(pid, signal.SIGKILL)
        else:
            return


@contextmanager
def _private_token(folder: Path) -> Iterator[None]:
    """Have an auth token that only this user can read; Ray would make one that all users can read.

    It lies where Ray looks for it, in the home folder; without a home folder, in Ray's own folder.
    """
    has_token = any(name in os.environ for name in _TOKEN_VARIABLES)
    if has_token or os.environ.get("RAY_AUTH_MODE", "token").lower() != "token" or _home_token():
        yield
        return
    path = folder / "auth_token"
    path.touch(mode=0o600)
    path.write_text(_token(), encoding="ascii")
    with _variable("RAY_AUTH_TOKEN_PATH", path):
        yield


@contextmanager
def _variable(name: str, value: Path) -> Iterator[None]:
    """Set an environment variable inside this block."""
    before = os.environ.get(name)
    os.environ[name] = str(value)
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@cache
def _token() -> str:
    """A token as Ray makes them, the same for all of this process: Ray reads it once."""
    return secrets.token_hex(32)


def _home_token() -> bool:
    """Make a token in the home folder if there is none, and return whether it can be read."""
    if not os.environ.get("HOME"):
        return False
    path = Path(os.environ["HOME"]) / ".ray" / "auth_token"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            with tempfile.NamedTemporaryFile("w", dir=path.parent) as file:  # of mode 0600
                file.write(_token())
                file.flush()
                with suppress(FileExistsError):  # another process was first
                    os.link(file.name, path)
        status = path.stat()
        if status.st_uid == os.getuid() and status.st_mode & 0o077:
            path.chmod(0o600)
        return os.access(path, os.R_OK)
    except OSError:
        return False


@contextmanager
def _watched() -> Iterator[None]:
    """End this process with a one-line message if one of Ray's ends inside this block.

    Ray itself would end it after 15 to 60 seconds, with a message that only names its own log.
    """
    left_block, processes = threading.Event(), _processes()

    def watch() -> None:
        while not left_block.wait(_POLL_INTERVAL_S):
            for pid, name in processes.items():
                # code that shuts Ray down in the block, as the endpoint does, disconnects first
                if ray.is_initialized() and _has_ended(pid):
                    end_now(f"Ray ended: its process {name} was killed or crashed", 1)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        left_block.set()
        thread.join()


def _has_ended(pid: int) -> bool:
    """Whether a child process has ended; this does not reap it, so Ray still notices."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _processes() -> dict[int, str]:
    """The names of Ray's processes to watch, by process id; none except on Linux.

    Ray does not reap those of a start that failed: they have ended, and still have their names.
    """
    watched = {}
    for children in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            for pid in map(int, children.read_text().split()):
                name = Path(f"/proc/{pid}/comm").read_text().strip()
                if name in _WATCHED and not _has_ended(pid):
                    watched[pid] = name
    return watched
