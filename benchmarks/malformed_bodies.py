"""What the endpoint does with bodies that are wrong: statuses, the longest answer, its memory.

    python benchmarks/malformed_bodies.py [--bodies 20000]

Half of them are made by schemathesis from the endpoint's openapi.json, the others by hypothesis:
CSV, JSON and JSON lines that are right but for a few characters or cells, and bytes of any kind. A
small model, two replicas behind HAProxy. Bodies that turn out to be right are not counted.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import schemathesis
from commands import REPOSITORY
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

sys.path[:0] = [str(REPOSITORY / "tests" / "cluster"), str(REPOSITORY / "tests")]
from endpoints import Server  # noqa: E402 - the tests' own server
from small_models import N_TIMEPOINTS, tiny_artifact  # noqa: E402

REPLICA = "ray::ServeReplica"
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


class Tally:
    """Asks, and keeps what came back.

    Attributes:
        statuses: how often each.
        longest_s: the longest that an answer took.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self.statuses: Counter[int] = Counter()
        self.longest_s = 0.0

    @property
    def malformed(self) -> int:
        """Bodies that were refused, or broke something."""
        return self.statuses.total() - self.statuses[200]

    def ask(self, body: bytes, content_type: str) -> None:
        """One request."""
        began = time.perf_counter()
        status, _, _ = self._server.ask(body, content_type)
        self.count(status, time.perf_counter() - began)

    def count(self, status: int, seconds: float) -> None:
        """What came back of a request."""
        self.statuses[status] += 1
        self.longest_s = max(self.longest_s, seconds)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bodies", type=int, default=20_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny_artifact().save(folder / "model")
        server = Server([folder / "model"], folder / "log.txt", "--num-replicas", "2")
        try:
            tally = Tally(server)
            ask_all(server, tally, arguments.bodies // 10)  # until its memory has settled
            before = memory_mb(server)
            ask_all(server, tally, arguments.bodies)
            print(f"{tally.malformed} malformed bodies and {tally.statuses[200]} right ones")
            print(f"  statuses {dict(sorted(tally.statuses.items()))}")
            print(f"  the longest answer took {tally.longest_s:.2f} s")
            print(f"  memory of the replicas, MB: {before} after a tenth, then {memory_mb(server)}")
        finally:
            server.stop()


def ask_all(server: Server, tally: Tally, bodies: int) -> None:
    """Ask until so many malformed bodies were sent."""
    url = f"http://127.0.0.1:{server.port}"
    operation = schemathesis.openapi.from_url(f"{url}/openapi.json")["/invocations"]["post"]

    def by_schemathesis(case: schemathesis.Case) -> None:
        answer = case.call()
        tally.count(answer.status_code, answer.elapsed)

    makers: list[tuple[st.SearchStrategy[object], Callable[..., None]]] = [
        (operation.as_strategy(generation_mode=GenerationMode.NEGATIVE), by_schemathesis)
    ]
    for strategy, content_type in (
        (CSV, "text/csv"),
        (JSON, "application/json"),
        (JSON_LINES, "application/jsonlines"),
        (BYTES, "text/csv"),
        (BYTES, "application/json"),
    ):
        makers.append((strategy, lambda body, kind=content_type: tally.ask(body, kind)))
    shares = [bodies // 2] + [bodies // 10] * (len(makers) - 1)
    for share, (strategy, ask) in zip(shares, makers, strict=True):
        enough = tally.malformed + share
        while tally.malformed < enough:
            _some(strategy, ask, min(1000, enough - tally.malformed))


def _some(strategy: st.SearchStrategy[object], ask: Callable[..., None], count: int) -> None:
    @given(strategy)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def run(made: object) -> None:
        ask(made)

    run()


def memory_mb(server: Server) -> list[int]:
    """Resident memory of each replica."""
    return [
        int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 >> 20
        for pid in sorted(server.processes(REPLICA))
    ]


if __name__ == "__main__":
    main()
