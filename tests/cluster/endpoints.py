"""A real `lstmfcn serve`, and clients that keep asking it."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from heads import free_ports
from killing import wait_until


class Server:
    """One `lstmfcn serve` with a Ray of its own.

    Args:
        models: of `--model`.
        log: file for what it prints.
        flags: further ones.
        ray_address: of a Ray that runs, instead of one of its own.
    """

    def __init__(self, models, log, *flags, ray_address=None):
        (self.port,) = free_ports(1)
        self.log = log
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
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
                    *(part for model in models for part in ("--model", str(model))),
                    *("--port", str(self.port), *flags),
                ],
                env=environment | {"RAY_AUTH_MODE": "token"},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(self._serves, "the endpoint", 120, 0.1)

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
        connection.request("GET", "/model")
        found = json.loads(connection.getresponse().read())
        connection.close()
        return found


@contextmanager
def steady_load(server, bodies, retries=1, clients=4):
    """Keep asking inside this block.

    Yields:
        A list that grows by (index of the body, model's version, answer) with each answer, and by
        (index, None, what went wrong) with each request that failed for good.
    """
    found, stop = [], threading.Event()

    def ask_once(connection, body):
        try:
            status, headers, answer = server.ask(body, connection=connection)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return None, repr(error)
        return (headers.get("x-model-version"), answer) if status == 200 else (None, answer)

    def client(first):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        number = first
        while not stop.is_set():
            index = number % len(bodies)
            for _ in range(retries + 1):
                version, answer = ask_once(connection, bodies[index])
                if version is not None:
                    break
            found.append((index, version, answer))
            number += 1
        connection.close()

    threads = [threading.Thread(target=client, args=(i,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def alone(classifier, lines):
    """The probabilities of each line of CSV, computed on its own."""
    values = np.array([line.split(",") for line in lines], dtype=np.float64)
    return [classifier.predict_proba(values[i : i + 1])[0] for i in range(len(values))]


def is_near(answer, expected):
    """Whether an answer is right; rows of several requests are computed together, which may change
    the last bits."""
    cells = answer.decode().splitlines()[1].split(",")
    found = np.array(cells[-len(expected) :], dtype=np.float32)
    label = cells[: len(expected)][int(expected.argmax())]
    return bool(np.abs(found - expected).max() < 1e-6) and label == "1"
