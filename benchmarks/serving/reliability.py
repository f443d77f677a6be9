"""What clients lose while the endpoint is disturbed, overloaded, or sent malformed bodies.

    python -m benchmarks.serving.reliability [--only swaps ...]

A small model with two replicas behind HAProxy, but for `overload`: there the paper's network. In
the first five parts four clients ask for one row at a time, and each answer is compared with the
model that it names.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import aiohttp
import numpy as np
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from benchmarks.common import CPUS, main, print_ratio, print_table
from benchmarks.serving.endpoint import PORT, csv_text, lstmfcn_command, random_model, server
from lstmfcn.model.artifact import Artifact
from tests.helpers.endpoints import LINES as GOOD_LINES
from tests.helpers.endpoints import (
    Deployed,
    Endpoint,
    Server,
    alone_by_version,
    is_near,
    steady_load,
)
from tests.helpers.killing import wait_until
from tests.helpers.small_models import N_TIMEPOINTS, tiny_artifact

TIMES = 10
REPLICA = "ray::ServeReplica"
ROWS, CLIENTS = 100, 4 * CPUS
"""Of the overload: rows of a request, and clients that wait for their answers."""


def swaps(arguments: argparse.Namespace) -> None:
    """The model is replaced in its directory 10 times, each time followed by SIGHUP."""
    folder = save_models(arguments)

    def swap(turn: int) -> None:
        Artifact.load(folder / str(2 - turn % 2)).save(folder / "served")
        running.process.send_signal(signal.SIGHUP)
        count = turn + 1
        wait_until(lambda: running.log.read_text().count("read the models again") == count, "swap")

    with two_replicas(folder) as running:
        under_load(running, arguments, swap, TIMES)


def kills(arguments: argparse.Namespace, retries: int = 1) -> None:
    """A replica is killed 10 times, each time when there are two again; clients ask twice."""

    def kill(_turn: int) -> None:
        wait_until(lambda: len(running.processes(REPLICA)) == 2, "two replicas")
        time.sleep(3)
        os.kill(running.processes(REPLICA)[0], signal.SIGKILL)
        time.sleep(1)

    with two_replicas(save_models(arguments)) as running:
        under_load(running, arguments, kill, TIMES, retries)


def kills_without_retry(arguments: argparse.Namespace) -> None:
    """A replica is killed 10 times, and clients ask once."""
    kills(arguments, retries=0)


def controller(arguments: argparse.Namespace) -> None:
    """Ray Serve's controller is killed."""

    def kill(_turn: int) -> None:
        (pid,) = running.processes("ray::ServeController")
        os.kill(pid, signal.SIGKILL)
        wait_until(
            lambda: (pids := running.processes("ray::ServeController")) and pid not in pids,
            "another controller",
        )
        time.sleep(5)

    with two_replicas(save_models(arguments)) as running:
        under_load(running, arguments, kill, 1)


def redeploy(arguments: argparse.Namespace) -> None:
    """``serve deploy`` with other arguments 3 times replaces all replicas; clients ask once."""
    folder = save_models(arguments)
    deployed = Deployed(folder, cpus=4)

    def change(turn: int) -> None:
        before = set(deployed.replicas())
        deployed.deploy(folder / "1", replicas=2, max_rows=100 + turn)
        wait_until(lambda: not before & set(deployed.replicas()), "the end of those before")

    try:
        deployed.deploy(folder / "1", replicas=2)
        under_load(deployed, arguments, change, 3, retries=0)
    finally:
        deployed.stop()


def save_models(arguments: argparse.Namespace) -> Path:
    """Two small models, and the one that is served."""
    folder: Path = arguments.folder
    for seed in (1, 2):
        tiny_artifact(seed=seed).save(folder / str(seed))
    tiny_artifact(seed=1).save(folder / "served")
    return folder


@contextmanager
def two_replicas(folder: Path) -> Iterator[Server]:
    """`lstmfcn serve` of the model in ``folder/served``."""
    running = Server([folder / "served"], folder / "log.txt", "--num-replicas", "2")
    try:
        yield running
    finally:
        running.stop()


def under_load(
    endpoint: Endpoint,
    arguments: argparse.Namespace,
    disturb: Callable[[int], None],
    times: int,
    retries: int = 1,
) -> None:
    """Disturb the endpoint so many times while clients ask, and print what they got."""
    expected = alone_by_version([arguments.folder / "1", arguments.folder / "2"])
    began = time.perf_counter()
    with steady_load(endpoint, GOOD_LINES, retries) as answers:
        for turn in range(times):
            disturb(turn)
        wait_until(lambda: len(answers) >= arguments.requests, "the clients", 300, 0.1)
    wrong = sum(
        version is not None and not is_near(answer, expected[version][index])
        for index, version, answer in answers
    )
    failed = sum(version is None for _, version, _ in answers)
    versions = len({version for _, version, _ in answers if version})
    print_table([{"requests": len(answers), "s": time.perf_counter() - began, "failed": failed,
                  "wrong": wrong, "versions": versions}])  # fmt: skip
    print_ratio("right answers / requests", 1 - (failed + wrong) / len(answers), least=1)


class Answer(NamedTuple):
    """What one request got."""

    status: int
    retry_after: str | None
    seconds: float


def overload(arguments: argparse.Namespace) -> None:
    """CSV requests of 100 rows, three times as fast as the endpoint can answer, for 30 s."""
    with server(lstmfcn_command(random_model(arguments.folder / "model"), "fp32")):
        asyncio.run(_overload())


async def _overload() -> None:
    body = csv_text(ROWS).encode()
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(60)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        before = await _closed_loop(session, body, 8)
        answers, offered = await _open_loop(session, body, 3 * before / ROWS, 30)
        began = time.perf_counter()
        while (await _ask(session, body)).status != 200:
            await asyncio.sleep(0.01)
        recovered_s = time.perf_counter() - began
        after = await _closed_loop(session, body, 8)
    rows = []
    for status, count in sorted(Counter(answer.status for answer in answers).items()):
        seconds = [answer.seconds for answer in answers if answer.status == status]
        p50, p99 = np.percentile(seconds, [50, 99])
        marked = sum(a.retry_after is not None for a in answers if a.status == status)
        rows.append({"status": status, "requests": count, "with Retry-After": marked, "p50 s": p50,
                     "p99 s": p99, "longest s": max(seconds)})  # fmt: skip
    print(f"  can answer {before:.0f} rows/s, was sent {offered * ROWS:.0f}")
    print_table(rows)
    print(f"  answered again {recovered_s:.2f} s after the end")
    print_ratio("rows/s after / before", after / before)


async def _ask(session: aiohttp.ClientSession, body: bytes) -> Answer:
    began = time.perf_counter()
    url = f"http://127.0.0.1:{PORT}/invocations"
    async with session.post(url, data=body, headers={"Content-Type": "text/csv"}) as reply:
        await reply.read()
        retry_after = reply.headers.get("Retry-After")
        return Answer(reply.status, retry_after, time.perf_counter() - began)


async def _closed_loop(session: aiohttp.ClientSession, body: bytes, seconds: float) -> float:
    """Rows/s of clients that ask again when they are answered."""
    end, answered = time.perf_counter() + seconds, 0

    async def client() -> None:
        nonlocal answered
        while time.perf_counter() < end:
            answer = await _ask(session, body)
            assert answer.status == 200, answer
            answered += 1

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return answered * ROWS / seconds


async def _open_loop(
    session: aiohttp.ClientSession, body: bytes, rate: float, seconds: float
) -> tuple[list[Answer], float]:
    """Requests at a steady rate, whether answered or not, and how many per second there were."""
    began, asked = time.perf_counter(), []
    while (now := time.perf_counter() - began) < seconds:
        while len(asked) < now * rate:
            asked.append(asyncio.create_task(_ask(session, body)))
        await asyncio.sleep(0.002)
    return await asyncio.gather(*asked), len(asked) / seconds


CELLS = st.one_of(
    st.floats().map(str),
    st.integers().map(str),
    st.text(max_size=8),
    st.sampled_from(["", "nan", "inf", "-inf", "1e999", "0x10", '"', '"1"', "1;2", "x_1", "\x00"]),
)
LINES = st.lists(CELLS, min_size=N_TIMEPOINTS - 1, max_size=N_TIMEPOINTS + 1).map(",".join)
HEADERS = st.permutations([f"x_{i}" for i in range(N_TIMEPOINTS)]).map(",".join)
CSV = st.tuples(st.one_of(st.just(""), HEADERS, LINES), st.lists(LINES, max_size=6)).map(
    lambda parts: "\n".join([parts[0], *parts[1]]).encode("utf-8", "surrogatepass")
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=14), st.dictionaries(st.text(), inner)),
    max_leaves=30,
)
SERIES = st.lists(st.one_of(st.floats(), VALUES), min_size=N_TIMEPOINTS, max_size=N_TIMEPOINTS)
JSON = st.one_of(VALUES, st.lists(SERIES, max_size=4), SERIES).flatmap(
    lambda value: st.sampled_from([value, {"instances": value}]).map(
        lambda content: json.dumps(content).encode()
    )
)
JSON_LINES = st.lists(SERIES.map(json.dumps), max_size=5).map(lambda x: "\n".join(x).encode())
BYTES = st.binary(max_size=400)
BODIES = (
    (CSV, "text/csv"),
    (JSON, "application/json"),
    (JSON_LINES, "application/jsonlines"),
    (BYTES, "text/csv"),
    (BYTES, "application/json"),
)


class Tally:
    """Counts answers by status, and keeps the longest time of one."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.longest_s = 0.0

    @property
    def malformed(self) -> int:
        """Bodies that were refused, or broke something."""
        return self.statuses.total() - self.statuses[200]

    def count(self, status: int, seconds: float) -> None:
        """Count one answer."""
        self.statuses[status] += 1
        self.longest_s = max(self.longest_s, seconds)


def malformed_bodies(arguments: argparse.Namespace) -> None:
    """Bodies that are wrong: statuses, the longest answer, and the replicas' memory.

    Half of them are made by schemathesis from the endpoint's openapi.json, the others by
    hypothesis: CSV, JSON and JSON lines that are right but for a few characters or cells, and bytes
    of any kind. Bodies that turn out to be right do not count.
    """
    with two_replicas(save_models(arguments)) as running:
        tally = Tally()
        _send_bodies(running, tally, arguments.bodies // 10)  # until memory has settled
        before = memory_mb(running)
        _send_bodies(running, tally, arguments.bodies)
        row: dict[str, object] = {f"status {n}": k for n, k in sorted(tally.statuses.items())}
        row |= {"longest s": tally.longest_s, "MB": before, "MB at the end": memory_mb(running)}
    print_table([row])
    refused = sum(count for status, count in tally.statuses.items() if 400 <= status < 500)
    print_ratio("answers of 4xx / malformed bodies", refused / tally.malformed, least=1)


def _send_bodies(running: Server, tally: Tally, bodies: int) -> None:
    """Ask until so many malformed bodies were sent."""
    url = f"http://127.0.0.1:{running.port}/openapi.json"
    operation = schemathesis.openapi.from_url(url)["/invocations"]["post"]

    def by_schemathesis(case: schemathesis.Case) -> None:
        answer = case.call()
        tally.count(answer.status_code, answer.elapsed)

    def ask(body: bytes, content_type: str) -> None:
        began = time.perf_counter()
        tally.count(running.ask(body, content_type)[0], time.perf_counter() - began)

    negative = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    makers: list[tuple[st.SearchStrategy[object], Callable[..., None]]] = [
        (negative, by_schemathesis)
    ]
    for strategy, content_type in BODIES:
        makers.append((strategy, lambda body, kind=content_type: ask(body, kind)))
    shares = [bodies // 2] + [bodies // 10] * len(BODIES)
    for share, (strategy, send) in zip(shares, makers, strict=True):
        enough = tally.malformed + share
        while tally.malformed < enough:
            _some(strategy, send, min(1000, enough - tally.malformed))


def _some(strategy: st.SearchStrategy[object], send: Callable[..., None], count: int) -> None:
    @given(strategy)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def run(made: object) -> None:
        send(made)

    run()


def memory_mb(running: Server) -> list[int]:
    """Resident memory of each replica."""
    return [
        int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 >> 20
        for pid in sorted(running.processes(REPLICA))
    ]


if __name__ == "__main__":
    main(
        __doc__,
        (swaps, kills, kills_without_retry, controller, redeploy, overload, malformed_bodies),
        {
            "--requests": {"type": int, "default": 20_000},
            "--bodies": {"type": int, "default": 20_000},
        },
        data=False,
    )
