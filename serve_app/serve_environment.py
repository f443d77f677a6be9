"""What Ray Serve's processes read from the environment when they start, and HAProxy's files."""

from __future__ import annotations

import os
import shutil
import socket
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

ProxyName = Literal["haproxy", "python"]

_OWNER = "server.pid"
"""In the folder of HAProxy's files, the process that they belong to."""

_ENVIRONMENT = {
    # requests on the replica's own event loop, logs written some hundreds of lines at a time
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # how long a replica that is to end stays reachable; HAProxy knows of it after 0.1 s
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    # predicting twice is harmless: a replica that dies over a request leaves it to another one
    # (where the request fits into HAProxy's buffer of 16 KiB)
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    # HAProxy's own count of each request took a tenth of a core; the replicas count theirs
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
}


@contextmanager
def environment_of(proxy: ProxyName) -> Iterator[None]:
    """Set what Ray Serve reads when its processes start."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if proxy == "python":
        yield
        return
    _remove_folders_of_killed_servers()
    # for this user alone; short, for a socket's path has at most 107 bytes, and Ray takes 68
    with tempfile.TemporaryDirectory(
        prefix="lf-", dir="/tmp", ignore_cleanup_errors=True
    ) as folder:
        (Path(folder) / _OWNER).write_text(str(os.getpid()), encoding="utf-8")
        scripts = Path(sysconfig.get_path("scripts"))
        os.environ["RAY_SERVE_ENABLE_HA_PROXY"] = "1"
        os.environ["RAY_SERVE_HAPROXY_BINARY_PATH"] = str(scripts / "lstmfcn-haproxy")
        for name, file in (
            ("CONFIG_FILE_LOC", "haproxy.cfg"),
            ("SOCKET_PATH", "admin.sock"),
            ("METRICS_SOCKET_PATH", "metrics.sock"),
            ("SERVER_STATE_BASE", ""),
            ("SERVER_STATE_FILE", "server-state"),
        ):
            os.environ[f"RAY_SERVE_HAPROXY_{name}"] = str(Path(folder) / file)
        for name in ("METRICS_PORT", "STATS_PORT"):
            os.environ.setdefault(f"RAY_SERVE_HAPROXY_{name}", str(_free_port()))
        yield


def _remove_folders_of_killed_servers() -> None:
    for owner in Path("/tmp").glob(f"lf-*/{_OWNER}"):
        try:
            os.kill(int(owner.read_text(encoding="utf-8")), 0)
        except ProcessLookupError:
            shutil.rmtree(owner.parent, ignore_errors=True)
        except (OSError, ValueError):
            continue  # another user's


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
