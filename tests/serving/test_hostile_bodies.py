"""Bodies made to be expensive, sent to a real process: they cost it little, and delay nobody."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.small_models import N_TIMEPOINTS, tiny_artifact

pytestmark = pytest.mark.slow

MB = 1 << 20
LONGEST = 30 * MB
MAX_ROWS = 50_000
SLOWNESS = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
"""How many times longer everything takes on this machine while other programs run."""
LINE = ",".join(["0.5"] * N_TIMEPOINTS)
JSON, CSV = "application/json", "text/csv"


def filled(unit, head=b"", tail=b""):
    """A body of 30 MB that repeats one text."""
    return head + unit * (LONGEST // len(unit)) + tail


def columns(n):
    """A function that makes a header of so many columns, which takes a second, and a row of one."""
    return lambda: ",".join(f"x_{i}" for i in range(n)).encode() + b"\n1"


HOSTILE = {
    "texts that numpy would pad": (
        JSON, b'{"instances": ["' + b"a" * 100_000 + b'"' + b',"a"' * 9_999 + b"]}", 400),
    "padding within a series": (
        JSON, b'{"instances": [["' + b"a" * 100_000 + b'"' + b',"a"' * 9_999 + b"]]}", 400),
    "empty lists": (JSON, filled(b"[],", b'{"instances": [', b"[]]}"), 413),
    "empty objects": (JSON, filled(b"{},", b'{"instances": [[1]], "a": [', b"1]}"), 413),
    "one series": (JSON, filled(b"1,", b'{"instances": [[', b"1]]}"), 413),
    "texts": (JSON, filled(b'"aaaaaaaaaaaaaaaaaa","', b'{"instances": [["', b'"]]}'), 413),
    "digits": (JSON, filled(b"1", b'{"instances": [[', b"]]}"), 400),
    "Infinity": (JSON, filled(b"Infinity" + b" " * 100 + b",", b'{"instances": [[', b"1]]}"), 400),
    "lines of lists": ("application/jsonlines", filled(b"[]\n"), 413),
    "one line of cells": (CSV, filled(b"1,"), 400),
    "a wide second line": (CSV, filled(b"1,", LINE.encode() + b"\n"), 400),
    "quoted cells": (CSV, filled(b'"1",'), 400),
    "one cell": (CSV, filled(b"1"), 400),
    "four million columns": (CSV, columns(4_000_000), 400),
    "columns below the bound": (CSV, columns(10_000), 400),
    "empty lines": (CSV, filled(b"\n", b"", LINE.encode()), 200),
    "semicolons": (CSV, filled(b"1;"), 400),
}  # fmt: skip


REPLICAS = dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(1 << 30))
REPLICAS["MALLOC_ARENA_MAX"] = "1"
"""Part of the environment of replicas."""


class Process:
    """A process with the endpoint, and the memory and time that it used."""

    def __init__(self, folder, *limits):
        tiny_artifact().save(folder / "model")
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        script = Path(__file__).parents[1] / "helpers" / "uvicorn_endpoint.py"
        command = [sys.executable, script, folder / "model", self.port, *limits]
        self._process = subprocess.Popen(list(map(str, command)), env=os.environ | REPLICAS)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                self.ping()
            except OSError:
                time.sleep(0.1)
            else:
                self.ask(JSON, valid(10))
                self.at_first = self.memory("VmRSS")
                return
        raise AssertionError("it did not start")

    def ask(self, content_type, body, path="/invocations"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with closing(connection):
            connection.request("POST", path, body, {"Content-Type": content_type})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def ping(self):
        started = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with closing(connection):
            connection.request("GET", "/ping")
            assert connection.getresponse().status == 200
        return time.monotonic() - started

    def memory(self, kind="VmHWM"):
        """The most MB that it has held, or, as VmRSS, those that it holds."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(re.search(rf"{kind}:\s+(\d+) kB", status)[1]) / 1024

    def worked(self):
        """Seconds of CPU time, which do not depend on other programs."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def forget_peak(self):
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")

    def end(self):
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    process = Process(tmp_path_factory.mktemp("hostile"), f"max_rows={MAX_ROWS}")
    yield process
    process.end()


@pytest.mark.parametrize("name", HOSTILE)
def test_an_expensive_body_costs_little(process, name):
    content_type, body, status = HOSTILE[name]
    body = body() if callable(body) else body
    process.forget_peak()
    before, worked = process.memory(), process.worked()
    found, answer = process.ask(content_type, body)
    assert found == status, answer
    if status != 200:
        assert len(json.loads(answer)["message"]) < 250
    assert process.worked() - worked < 1
    assert process.memory() - before < 6 * LONGEST / MB


def valid(n_rows):
    rows = np.random.default_rng(0).standard_normal((n_rows, N_TIMEPOINTS)).tolist()
    return json.dumps({"instances": rows}).encode()


def test_the_health_check_answers_during_four_expensive_bodies(process):
    bodies = [HOSTILE[name][:2] for name in ("empty lists", "digits", "one line of cells")]
    bodies.append((JSON, valid(40_000)))
    slowest = 0.0
    with ThreadPoolExecutor(len(bodies)) as clients:
        answers = [clients.submit(process.ask, *body) for body in bodies]
        while not all(one.done() for one in answers):
            slowest = max(slowest, process.ping())
            time.sleep(0.02)
    assert {one.result()[0] for one in answers} <= {200, 400, 413, 503}
    assert slowest < 1 * SLOWNESS


def test_memory_is_given_back(process):
    process.ask(*HOSTILE["digits"][:2])
    deadline = time.monotonic() + 30
    while process.memory("VmRSS") > process.at_first + 3 * LONGEST / MB:
        assert time.monotonic() < deadline
        time.sleep(0.2)
