"""What clients lose while the endpoint's models, replicas and controller come and go.

    python benchmarks/endpoint_survival.py [--only swaps ...]

Four clients ask one row at a time, each answer is compared with the model that it names. Small
models; two replicas behind HAProxy. The last part is by `serve deploy` on a Ray of its own.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from commands import REPOSITORY

sys.path[:0] = [str(REPOSITORY / "tests" / "cluster"), str(REPOSITORY / "tests")]
from endpoints import (  # noqa: E402 - the tests' own servers and clients
    LINES,
    Deployed,
    Endpoint,
    Server,
    alone_by_version,
    is_near,
    steady_load,
)
from killing import wait_until  # noqa: E402
from small_models import tiny_artifact  # noqa: E402

from lstmfcn.artifact import Artifact  # noqa: E402

PARTS = ("swaps", "kills", "kills_without_retry", "controller")
REDEPLOY = "redeploy"
TIMES = 10
REPLICA = "ray::ServeReplica"


def main() -> None:
    """Print a line a part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=(*PARTS, REDEPLOY), default=(*PARTS, REDEPLOY))
    parser.add_argument("--requests", type=int, default=20_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed in (1, 2):
            tiny_artifact(seed=seed).save(folder / str(seed))
        tiny_artifact(seed=1).save(folder / "served")
        parts = [part for part in arguments.only if part != REDEPLOY]
        if parts:
            server = Server([folder / "served"], folder / "log.txt", "--num-replicas", "2")
            try:
                for part in parts:
                    globals()[part](server, folder, arguments.requests)
            finally:
                server.stop()
        if REDEPLOY in arguments.only:
            redeploy(folder, arguments.requests)


def swaps(server: Server, folder: Path, requests: int) -> None:
    """The model is trained anew in its directory, and SIGHUP sent."""

    def swap(turn: int) -> None:
        Artifact.load(folder / str(2 - turn % 2)).save(folder / "served")
        server.process.send_signal(signal.SIGHUP)
        wait_until(
            lambda: server.log.read_text().count("read the models again") == turn + 1, "a swap"
        )

    under_load(f"{TIMES} swaps", server, folder, requests, swap, TIMES)


def kills(server: Server, folder: Path, requests: int, retries: int = 1) -> None:
    """A replica is killed, and the next one when there are two again."""

    def kill(_turn: int) -> None:
        wait_until(lambda: len(server.processes(REPLICA)) == 2, "two replicas")
        time.sleep(3)
        os.kill(server.processes(REPLICA)[0], signal.SIGKILL)
        time.sleep(1)

    name = f"{TIMES} replicas killed, {retries} retries by the client"
    under_load(name, server, folder, requests, kill, TIMES, retries)
    wait_until(lambda: len(server.processes(REPLICA)) == 2, "two replicas")


def kills_without_retry(server: Server, folder: Path, requests: int) -> None:
    """The same, and clients ask once."""
    kills(server, folder, requests, retries=0)


def controller(server: Server, folder: Path, requests: int) -> None:
    """Ray Serve's controller is killed."""

    def kill(_turn: int) -> None:
        (pid,) = server.processes("ray::ServeController")
        os.kill(pid, signal.SIGKILL)
        wait_until(
            lambda: (found := server.processes("ray::ServeController")) and pid not in found,
            "another controller",
        )
        time.sleep(5)

    under_load("the controller killed", server, folder, requests, kill, 1)


def redeploy(folder: Path, requests: int) -> None:
    """All replicas give way to new ones, as for a new release or other arguments; no retries."""
    deployed = Deployed(folder, cpus=4)
    try:
        deployed.deploy(folder / "1", replicas=2)

        def change(turn: int) -> None:
            before = set(deployed.replicas())
            deployed.deploy(folder / "1", replicas=2, max_rows=100 + turn)
            wait_until(lambda: not before & set(deployed.replicas()), "the end of those before")

        under_load("3 rolling redeploys", deployed, folder, requests, change, 3, retries=0)
    finally:
        deployed.stop()


def under_load(
    name: str,
    server: Endpoint,
    folder: Path,
    requests: int,
    disturb: Callable[[int], None],
    times: int,
    retries: int = 1,
) -> None:
    """Disturb it so many times while clients ask, and say what they got."""
    expected = alone_by_version([folder / "1", folder / "2"])
    began = time.perf_counter()
    with steady_load(server, LINES, retries) as answers:
        for turn in range(times):
            disturb(turn)
        wait_until(lambda: len(answers) >= requests, "the clients", 300, 0.1)
    failed = sum(version is None for _, version, _ in answers)
    wrong = sum(
        version is not None and not is_near(answer, expected[version][index])
        for index, version, answer in answers
    )
    print(
        f"{name}: {len(answers)} requests in {time.perf_counter() - began:.0f} s, {failed} failed, "
        f"{wrong} wrong, {len({v for _, v, _ in answers if v})} versions answered",
        flush=True,
    )


if __name__ == "__main__":
    main()
