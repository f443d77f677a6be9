"""Two servers on one machine: each answers with its own model, or not at all."""

import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException

import pytest

from lstmfcn.inference.predictor import Classifier
from tests.helpers.endpoints import Endpoint, Server
from tests.helpers.heads import free_ports
from tests.helpers.killing import wait_until
from tests.helpers.small_models import tiny_artifact


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two model directories, and their versions."""
    folders = [tmp_path_factory.mktemp(name) for name in ("first", "second")]
    for seed, folder in enumerate(folders):
        tiny_artifact(seed=seed).save(folder)
    return {Classifier.load(folder).artifact.sha256[:12]: folder for folder in folders}


class Poll:
    """Asks a port for its model without pause, from before anything listens there."""

    def __init__(self, port):
        self._endpoint, self._ends = Endpoint(port), threading.Event()
        self.found = []
        self._thread = threading.Thread(target=self._keep_asking)

    def _keep_asking(self):
        while not self._ends.is_set():
            try:
                self.found.append(self._endpoint.described().get("version"))
            except (
                OSError,
                HTTPException,
                json.JSONDecodeError,
            ):  # nothing listens, or no replica is there
                self.found.append(None)
            time.sleep(0.02)

    def wait_for_answers(self, n=20):
        begun = len(self.found)
        wait_until(lambda: sum(map(bool, self.found[begun:])) >= n, "answers of its own", 120, 0.1)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ends.set()
        self._thread.join()


def test_neither_ever_answers_for_the_other(models, tmp_path):
    (first, first_folder), (second, second_folder) = models.items()
    port, other_port = free_ports(2)
    with Poll(port) as poll, Poll(other_port) as other_poll, ThreadPoolExecutor() as pool:
        starts = [
            pool.submit(Server, [folder], tmp_path / f"{at}.log", "--num-replicas", "1", port=at)
            for folder, at in ((first_folder, port), (second_folder, other_port))
        ]
        server, other = (start.result() for start in starts)
        try:
            poll.wait_for_answers()
            other_poll.wait_for_answers()
            other.process.send_signal(signal.SIGHUP)
            for killed, its_poll in ((other, other_poll), (server, poll)):
                (replica,) = killed.replicas()
                os.kill(replica, signal.SIGKILL)
                wait_until(
                    lambda at=killed, before=replica: at.replicas() not in ([], [before]),
                    "another replica",
                    120,
                    0.1,
                )
                its_poll.wait_for_answers()
            for haproxy in other.processes("haproxy.cfg"):
                os.kill(haproxy, signal.SIGKILL)
            begun = time.monotonic()
            other_poll.wait_for_answers(1)
            print("HAProxy is back after", time.monotonic() - begun)
            assert time.monotonic() - begun < 30
            assert server.stop() == 0
            other_poll.wait_for_answers()
            assert other.stop() == 0
        finally:
            server.kill_all()
            other.kill_all()
    assert set(poll.found) - {None} == {first}
    assert set(other_poll.found) - {None} == {second}
