"""What Ray Serve's processes read from the environment when they start, and HAProxy's files."""

from __future__ import annotations

import os
import socket
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from lstmfcn.errors import ResourceError
from lstmfcn.scratch import scratch_folder

ProxyName = Literal["haproxy", "python"]

_ENVIRONMENT = {
    # requests on the replica's own event loop, logs written some hundreds of lines at a time
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # how long a replica that is to end stays reachable; HAProxy knows of it after 0.1 s
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
    # a proxy that ended is found by the third of these checks, and started again
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "2",
    # on a busy machine it takes longer than Ray's 3 times 5 s to begin
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "20",
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    # predicting twice is harmless: a replica that dies over a request leaves it to another one
    # (where the request fits into HAProxy's buffer of 16 KiB)
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    # HAProxy's own count of each request took a tenth of a core; the replicas count theirs
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    # lstmfcn-haproxy takes fewer where the limit of open files is low
    "RAY_SERVE_HAPROXY_MAXCONN": "16384",
    # of silence amid a request or an answer
    "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "60",
}

_MOST_BYTES = 27
"""Of the path of HAProxy's folder. HAProxy allows a socket 97 bytes (the system 107, less a
suffix); Ray adds a folder of 56 letters, and the longest name is metrics.sock."""

_PORTS_EACH = 250
_FIRST_PORTS = range(20_000, 32_768 - _PORTS_EACH, _PORTS_EACH)
"""Between Ray's workers (10002 to 19999) and what Linux gives to outgoing connections (from 32768
on, ip_local_port_range)."""


@contextmanager
def environment_of(proxy: ProxyName) -> Iterator[None]:
    """Set what Ray Serve reads when its processes start; what the user has set stays."""
    with _own_ports() as ports:
        if proxy == "python":
            with _set(_ENVIRONMENT | ports):
                yield
            return
        with (
            scratch_folder(_MOST_BYTES) as folder,
            _set(_ENVIRONMENT | ports | _of_haproxy(folder)),
        ):
            yield


def _of_haproxy(folder: Path) -> dict[str, str]:
    files = {
        "CONFIG_FILE_LOC": "haproxy.cfg",
        "SOCKET_PATH": "admin.sock",
        "METRICS_SOCKET_PATH": "metrics.sock",
        "SERVER_STATE_BASE": "",
        "SERVER_STATE_FILE": "server-state",
    }
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(
            Path(sysconfig.get_path("scripts")) / "lstmfcn-haproxy"
        ),
        **{f"RAY_SERVE_HAPROXY_{name}": str(folder / file) for name, file in files.items()},
    }


@contextmanager
def _set(variables: Mapping[str, str]) -> Iterator[None]:
    """Inside this block these are in the environment, beside what is there already."""
    ours = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


@contextmanager
def _own_ports() -> Iterator[dict[str, str]]:
    """Ports of this machine that no other server uses, inside this block, and what Ray calls them.

    Ray Serve's own ports are the same for every Ray, and its proxies share theirs: HAProxy would
    ask another server's proxy, or a replica that took the port of one that died. The first port is
    held, and so the others are ours; what listens there already belongs to a server that was
    killed and whose processes have not ended yet, or to a stranger.

    Raises:
        ResourceError: none is free.
    """
    for first in _FIRST_PORTS:
        with socket.socket() as held:
            try:
                held.bind(("", first))
                for port in range(first + 1, first + _PORTS_EACH):
                    with socket.socket() as probe:
                        probe.bind(("", port))
            except OSError:
                continue
            names = (
                *("FALLBACK_PROXY_HTTP_PORT", "FALLBACK_PROXY_GRPC_PORT"),
                *("HAPROXY_STATS_PORT", "HAPROXY_METRICS_PORT", "DIRECT_INGRESS_MIN_HTTP_PORT"),
            )
            ports = {name: first + 1 + i for i, name in enumerate(names)}
            ports["DIRECT_INGRESS_MAX_HTTP_PORT"] = first + _PORTS_EACH
            yield {f"RAY_SERVE_{name}": str(port) for name, port in ports.items()}
            return
    raise ResourceError(
        f"found no {_PORTS_EACH} free ports in a row between {_FIRST_PORTS[0]} and 32767, which "
        "replicas listen on; end other servers of this machine"
    )


@contextmanager
def claimed(host: str, port: int) -> Iterator[None]:
    """Keep other servers of this machine from this port, inside this block and from its beginning.

    Ray's Python proxies listen some seconds later, and share a port without a word.

    Raises:
        ResourceError: it cannot be listened on, or another server is about to.
    """
    if not host:
        raise ResourceError("--host '': found no address; write 127.0.0.1, or 0.0.0.0 for all")
    with socket.socket(socket.AF_UNIX) as claim:
        try:
            if sys.platform == "linux":  # a name without a file, gone with the process
                claim.bind(f"\0lstmfcn serve {host}:{port}")
            _refuse_taken(host, port)
        except socket.gaierror as error:
            raise ResourceError(
                f"--host {host}: found no address of this machine ({error.strerror}); write "
                "127.0.0.1, or 0.0.0.0 for all"
            ) from error
        except OSError as error:
            raise ResourceError(
                f"{host}:{port}: cannot listen there ({error.strerror}); name another --port, or "
                "an address of this machine as --host"
            ) from error
        yield


def _refuse_taken(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
