"""Real Ray nodes on this machine, by `ray start`, and the end of all their processes."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path

import ray
from ray.job_submission import JobSubmissionClient

from tests.helpers.checkout import REPOSITORY
from tests.helpers.killing import wait_until

BIN = Path(sys.executable).parent
NOTICE_SOON = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000}
"""A lost node is known after five of these periods, which are three seconds by default."""


def free_ports(count):
    """Ports below those that the system hands out, so that nobody gets them meanwhile."""
    found = []
    while len(found) < count:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


class Node:
    """One `ray start --block`; processes that it starts are known by a variable, or its session.

    Args:
        flags: of `ray start`.
        environment: of its processes, and what whoever connects needs.
        prefix: a command that runs `ray start`.

    Attributes:
        folder: of its logs and sockets.
    """

    def __init__(self, flags, environment, prefix=()):
        self.environment = environment
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # sockets: 107 characters
        self._mark = f"LSTMFCN_TEST_NODE={uuid.uuid4().hex}".encode()
        name, _, value = self._mark.decode().partition("=")
        (agent_port,) = free_ports(1)
        command = [
            *prefix,
            *(BIN / "ray", "start", "--block", "--temp-dir", self.folder / "ray"),
            *("--num-cpus", 1, "--num-gpus", 0, "--object-store-memory", 100_000_000),
            *("--min-worker-port", 0, "--max-worker-port", 0),
            *("--dashboard-agent-listen-port", agent_port),
            *flags,
        ]
        log = self.folder / "ray-start.log"
        with log.open("w") as output:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                env=environment | {name: value},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

        def started():
            assert self._process.poll() is None, log.read_text()
            return "will now block forever" in log.read_text()

        try:
            wait_until(started, "ray start", 180, 0.1)
        except BaseException:
            self.stop()
            raise

    def processes(self):
        """Process ids of all that runs on this node."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            pid = int(process.name)
            try:
                ours = os.getsid(pid) == self._process.pid
                if ours or self._mark in (process / "environ").read_bytes().split(b"\0"):
                    found.append(pid)
            except OSError:
                continue  # it ended
        return found

    def kill(self):
        """End all processes at once, as a machine does that loses its power."""
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        self._process.wait()
        wait_until(lambda: not self.processes(), "the end of a node")

    def stop(self):
        """End the node as `ray stop` does, and then what is left of it."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        self.kill()
        shutil.rmtree(self.folder)


class Head(Node):
    """A head with token authentication, whose dashboard takes jobs.

    Args:
        folder: for its token.
        flags: further ones of `ray start`.
        environment: further variables of its processes.

    Attributes:
        address: of the cluster.
        dashboard: its URL.
        without_token: the environment of someone who has none.
    """

    def __init__(self, folder, flags=(), environment=None):
        gcs, dashboard, client, autoscaler, metrics = map(str, free_ports(5))
        token = folder / "token"
        token.write_text(uuid.uuid4().hex * 2)
        token.chmod(0o600)
        others = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        others["PATH"] = f"{BIN}:{os.environ['PATH']}"  # what is submitted begins with "python"
        self.without_token = others | {"RAY_AUTH_MODE": "disabled"}
        self.address = f"{ray.util.get_node_ip_address()}:{gcs}"
        self.dashboard = f"http://127.0.0.1:{dashboard}"
        self._headers = {"Authorization": f"Bearer {token.read_text()}"}
        super().__init__(
            [
                *("--head", "--port", gcs, "--ray-client-server-port", client),
                *("--dashboard-host", "127.0.0.1", "--dashboard-port", dashboard),
                *("--system-config", json.dumps(NOTICE_SOON)),
                *flags,
            ],
            others
            | {
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN_PATH": str(token),
                "RAY_USAGE_STATS_ENABLED": "0",
                "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
                "RAY_raylet_start_wait_time_s": "120",  # instead of 30, on a busy machine
                "AUTOSCALER_METRIC_PORT": autoscaler,
                "DASHBOARD_METRIC_PORT": metrics,
            }
            | (environment or {}),
        )

    @contextmanager
    def joined(self, address=None, prefix=(), cpus=1):
        """A further node, on the head's address of this machine or another one."""
        flags = ["--address", self.address, "--num-cpus", cpus]
        flags += ["--node-ip-address", address] if address else []
        before = self._alive()
        node = Node(flags, self.environment, prefix)
        found = set()
        try:
            found |= wait_until(lambda: self._alive() - before, "the node to be known", 30, 0.1)
            yield node
        finally:
            node.stop()
            wait_until(lambda: not found & self._alive(), "its end to be known", 60, 0.1)

    @contextmanager
    def driver(self, command, *arguments):
        """What ``jobs/COMMAND.py`` runs, as a process on the head's machine."""
        process = subprocess.Popen(
            [sys.executable, REPOSITORY / "jobs" / f"{command}.py", *map(str, arguments)],
            env=self.environment | {"RAY_ADDRESS": self.address},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    def get(self, path):
        """What the dashboard answers."""
        request = urllib.request.Request(f"{self.dashboard}{path}", headers=self._headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def put(self, path, content):
        """Send the dashboard something."""
        headers = self._headers | {"Content-Type": "application/json"}
        request = urllib.request.Request(
            f"{self.dashboard}{path}", json.dumps(content).encode(), headers, method="PUT"
        )
        urllib.request.urlopen(request, timeout=30).close()

    def _alive(self):
        nodes = self.get("/api/v0/nodes")["data"]["result"]["result"]
        return {node["node_id"] for node in nodes if node["state"] == "ALIVE"}

    def jobs(self):
        """A client that has the token."""
        return JobSubmissionClient(self.dashboard, headers=dict(self._headers))
