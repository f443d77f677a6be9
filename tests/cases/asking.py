"""Cases of requests: what the endpoint answers, and what it refuses early."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pandas as pd
from starlette.testclient import TestClient

from serve_app.endpoint import Endpoint
from serve_app.models import Models
from tests.cases.arrays import trained
from tests.cases.case import Case
from tests.cases.inputs import T, X

Act = Callable[[Path, Path], None]
ROWS = np.round(X[:3], 2)
CSV, JSON = "text/csv", "application/json"


class Unmeasured:
    """Metrics that do nothing."""

    def answered(self, *_: Any) -> None:
        """An answer."""

    def refused(self, *_: Any) -> None:
        """A refusal."""


@cache
def client() -> TestClient:
    """A client of an endpoint in this process."""
    folder = Path(mkdtemp()) / "model"
    trained().artifact.save(folder)
    models = Models()
    asyncio.run(models.replace({"default": str(folder)}))
    return TestClient(Endpoint(models, Unmeasured()).app, base_url="http://127.0.0.1:8000")


def cases() -> Iterator[Case]:
    """All cases of this module."""
    yield from _headers()
    yield from _work()
    yield from _accepts()
    yield from _hosts()


def asks(
    body: str | bytes, status: int, content_type: str = CSV, n: int = 0, **options: Any
) -> Act:
    """The endpoint answers with this status, and n predictions."""

    def act(_: Path, __: Path) -> None:
        headers = {"Content-Type": content_type, "Accept": JSON, **options.get("headers", {})}
        started = time.perf_counter()
        answer = client().post(
            "/invocations" + options.get("query", ""), content=body, headers=headers
        )
        seconds = time.perf_counter() - started
        assert answer.status_code == status, f"{answer.status_code}: {answer.text[:300]}"
        if n:
            assert len(answer.json()["predictions"]) == n
        assert seconds < options.get("seconds", 10), f"{seconds:.1f} s"

    return act


def _headers() -> Iterator[Case]:
    pandas = pd.DataFrame(ROWS).to_csv(index=False)
    rows = pd.DataFrame(ROWS).to_csv(index=False, header=False)
    quoted = ",".join(f'"{i}"' for i in range(T))
    floats = ",".join(f"{i}.0" for i in range(T))
    ones = ",".join(str(i) for i in range(1, T + 1))
    for name, body in {
        "0,1,2,...": pandas,
        'quoted "0","1",...': f"{quoted}\n{rows}",
        "0.0,1.0,...": f"{floats}\n{rows}",
        "1,2,3,...": f"{ones}\n{rows}",
        "t_0,t_1,...": ",".join(f"t_{i}" for i in range(T)) + "\n" + rows,
    }.items():
        yield Case("a header that is no row", name, asks(body, 400))
    absent = asks(pandas, 200, "text/csv; header=absent", n=4)
    yield Case("a header that is no row", "header=absent: a row", absent)
    present = asks(
        f"{','.join(f'x_{i}' for i in range(1, T + 1))}\n{rows}",
        200,
        "text/csv; header=present",
        n=3,
    )
    yield Case("a header that is no row", "header=present with names", present)
    yield Case("a header that is no row", "none", asks(rows, 200, n=3))


def _work() -> Iterator[Case]:
    padded = b'{"instances": ["' + b"a" * 100_000 + b'"' + b',"a"' * 9_999 + b"]}"
    inside = b'{"instances": [["' + b"a" * 100_000 + b'"' + b",1" * (T - 1) + b"]]}"
    for name, body, kind in (
        ("texts padded by numpy", padded, JSON),
        ("a long text in a series", inside, JSON),
        ("lists beside lists", b'{"instances": [' + b"[]," * 5_000_000 + b"[]]}", JSON),
        ("one line of cells", b"1," * 10_000_000 + b"1", CSV),
        (
            "a header of a million columns",
            b",".join(b"x_%d" % i for i in range(10**6)) + b"\n1",
            CSV,
        ),
        ("a number of a million digits", b'{"instances": [[' + b"1" * 10**6 + b"]]}", JSON),
        ("10^400", b'{"instances": [[' + b",".join([b"1" + b"0" * 400] * T) + b"]]}", JSON),
        ("depth 100,000", b'{"instances": ' + b"[" * 100_000, JSON),
    ):

        def bounded(_: Path, __: Path, body: bytes = body, kind: str = kind) -> None:
            started = time.perf_counter()
            answer = client().post("/invocations", content=body, headers={"Content-Type": kind})
            seconds = time.perf_counter() - started
            assert answer.status_code in (400, 413), f"{answer.status_code}: {answer.text[:200]}"
            assert len(answer.text) < 600, len(answer.text)
            assert seconds < 2, f"{seconds:.1f} s"

        yield Case("work before parsing", name, bounded)


def _accepts() -> Iterator[Case]:
    body = json.dumps({"instances": ROWS.tolist()})
    for accept, kind in {
        "application/json;q=0, text/csv": CSV,
        "text/csv;q=0.5, application/json": JSON,
        "text/csv;q=0.2, */*;q=0.1": CSV,
    }.items():

        def answers(_: Path, __: Path, accept: str = accept, kind: str = kind) -> None:
            headers = {"Content-Type": JSON, "Accept": accept}
            answer = client().post("/invocations", content=body, headers=headers)
            assert answer.status_code == 200, answer.text
            assert answer.headers["Content-Type"].startswith(kind), answer.headers

        yield Case("Accept", accept, answers)
    yield Case("Accept", "text/csv;q=0", asks(body, 406, JSON, headers={"Accept": "text/csv;q=0"}))
    identity = {"Content-Encoding": "identity"}
    yield Case("Accept", "Content-Encoding: identity", asks(body, 200, JSON, n=3, headers=identity))
    yield Case("Accept", "?explain=True", asks(body, 200, JSON, n=3, query="?explain=True"))

    def unknown_path(_: Path, __: Path) -> None:
        answer = client().get("/predict")
        assert answer.status_code == 404
        assert "/invocations" in answer.json()["message"]

    yield Case("Accept", "an unknown path names the routes", unknown_path)


def _hosts() -> Iterator[Case]:
    def asked_as(status: tuple[int, ...], **headers: str) -> Act:
        def act(_: Path, __: Path) -> None:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            answer = client().get("/model", headers=sent)
            assert answer.status_code in status, f"{answer.status_code}: {answer.text[:200]}"

        return act

    yield Case("hosts", "evil.example", asked_as((400, 403, 421), Host="evil.example"))
    yield Case("hosts", "localhost", asked_as((200,), Host="localhost:8000"))
    yield Case("hosts", "[::1]", asked_as((200,), Host="[::1]:8000"))
    foreign = {"Host": "127.0.0.1:8000", "Origin": "http://evil.example"}
    yield Case("hosts", "a page of another origin", asked_as((403,), **foreign))
    own = {"Host": "127.0.0.1:8000", "Origin": "http://127.0.0.1:8000"}
    yield Case("hosts", "its own page", asked_as((200,), **own))
