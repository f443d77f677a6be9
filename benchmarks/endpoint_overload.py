"""What the endpoint does with three times the rows that it can answer.

    python benchmarks/endpoint_overload.py

The paper's net with random weights, T = 100, CSV requests of 100 rows. First what it can do, by
clients that wait for their answers; then requests that come three times as fast, whether answered
or not; then what it can do again.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import aiohttp
import numpy as np
from serve import PORT, csv_text, lstmfcn_command, random_model, server

URL = f"http://127.0.0.1:{PORT}/invocations"
ROWS = 100
CLIENTS = 4 * (os.cpu_count() or 1)


class Answer(NamedTuple):
    """What one request got."""

    status: int
    retry_after: str | None
    seconds: float


def main() -> None:
    """Print a line for what it can do, for the overload, and for what comes after."""
    with tempfile.TemporaryDirectory() as folder:
        model = random_model(Path(folder) / "model")
        with server(lstmfcn_command(model, "fp32")):
            asyncio.run(_measure())


async def _measure() -> None:
    body = csv_text(ROWS).encode()
    limits = {"connector": aiohttp.TCPConnector(limit=0)}
    async with aiohttp.ClientSession(**limits, timeout=aiohttp.ClientTimeout(60)) as session:
        before = await _closed_loop(session, body, 8)
        print(f"can answer {before:.0f} rows/s", flush=True)
        answers, offered = await _open_loop(session, body, 3 * before / ROWS, 30)
        _tell(answers, offered)
        began = time.perf_counter()
        while (answer := await _ask(session, body)).status != 200:
            await asyncio.sleep(0.01)
        recovered = time.perf_counter() - began - answer.seconds
        after = await _closed_loop(session, body, 8)
        print(
            f"after it: accepted again after {recovered:.2f} s, in {answer.seconds:.2f} s; "
            f"{after:.0f} rows/s, {after / before:.2f} of before"
        )


async def _ask(session: aiohttp.ClientSession, body: bytes) -> Answer:
    began = time.perf_counter()
    async with session.post(URL, data=body, headers={"Content-Type": "text/csv"}) as reply:
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
    """Requests at a steady rate, and how many a second there really were."""
    began, asked = time.perf_counter(), []
    while (now := time.perf_counter() - began) < seconds:
        while len(asked) < now * rate:
            asked.append(asyncio.create_task(_ask(session, body)))
        await asyncio.sleep(0.002)
    return await asyncio.gather(*asked), len(asked) / seconds


def _tell(answers: list[Answer], offered: float) -> None:
    statuses = Counter(answer.status for answer in answers)
    taken = [answer.seconds for answer in answers if answer.status == 200]
    refused = [answer for answer in answers if answer.status == 503]
    untold = sum(answer.retry_after is None for answer in refused)
    print(
        f"offered {offered * ROWS:.0f} rows/s for 30 s: {dict(statuses)}, "
        f"{untold} of the refusals without Retry-After"
    )
    for name, seconds in (("answered", taken), ("refused", [a.seconds for a in refused])):
        p50, p99 = np.percentile(seconds, [50, 99])
        print(f"  {name}: p50 {p50:.2f} s, p99 {p99:.2f} s, at most {max(seconds):.2f} s")


if __name__ == "__main__":
    main()
