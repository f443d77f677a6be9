"""Compute the rows of many requests together, while and because the model is busy.

An idle model begins with what is there, so nobody waits for company. What comes in meanwhile is
computed together next, at most ``most_rows`` at a time. Requests share each step evenly, so a
request of one row is answered in the next step, however many rows of another one wait. Those that
ask for something else, such as explanations, share the queue and the step, and are computed apart.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

import numpy as np

from lstmfcn.cells import FloatArray
from serve_app.request_errors import overloaded

Compute = Callable[[FloatArray], FloatArray]

_LOOP_S = 0.002
"""A step is followed by a turn of the event loop for so many of its seconds. uvloop accepts one
connection a turn (libuv 1.45, "don't accept() connections in a loop"): with one turn for each step
of 30 ms, clients that came at once waited for 14 s."""
_RATE_MEMORY = 0.9
"""What the last estimate of the speed weighs against the newest step."""


class Batcher:
    """One model's queue. Used from one event loop, on which it computes.

    Args:
        compute: series (N, T) to probabilities (N, L), for any N from 1 to ``most_rows``; what
            requests ask for, unless they name another function.
        most_rows: rows of a step.
        max_queued_rows: rows that may wait; a request that finds the queue empty is always taken.
        observe: told the rows of each step.
    """

    def __init__(
        self,
        compute: Compute,
        most_rows: int,
        max_queued_rows: int,
        observe: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._compute, self._most_rows = compute, most_rows
        self._max_queued_rows, self._observe = max_queued_rows, observe
        self._jobs: dict[_Job, None] = {}  # in the order in which they came
        self._worker: asyncio.Task[None] | None = None
        self._rows_per_second = 0.0
        self._queued_rows = 0

    @property
    def queued_rows(self) -> int:
        """Rows that wait."""
        return self._queued_rows

    async def predict(self, x: FloatArray, compute: Compute | None = None) -> FloatArray:
        """Probabilities of one request's series, or what another function computes of them.

        Raises:
            RequestError: 503, too many rows wait.
        """
        waiting = self._queued_rows
        if waiting and waiting + len(x) > self._max_queued_rows:
            raise overloaded(waiting / self._rows_per_second if self._rows_per_second else 1.0)
        job = _Job(x, compute or self._compute)
        self._jobs[job] = None
        self._queued_rows += job.left
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        try:
            return await job.answer
        finally:
            self._drop(job)  # if it is still there: the client has gone, or its time is up

    def _drop(self, job: _Job) -> None:
        """Forget a job, and its rows that wait."""
        if job in self._jobs:
            del self._jobs[job]
            self._queued_rows -= job.left

    async def _work(self) -> None:
        try:
            while self._jobs:
                for _ in range(1 + int(self._step() / _LOOP_S)):
                    await asyncio.sleep(0)  # let requests come in, and answers go out
        finally:
            self._worker = None

    def _step(self) -> float:
        """Compute one step's rows; returns the seconds that it took."""
        pieces = self._next_pieces()
        started = time.perf_counter()
        done = 0
        for compute in {piece.job.compute for piece in pieces}:
            done += self._compute_pieces(
                compute, [piece for piece in pieces if piece.job.compute == compute]
            )
        if not done:
            return 0.0
        seconds = time.perf_counter() - started
        self._measure(done, seconds)
        return seconds

    def _compute_pieces(self, compute: Compute, pieces: list[_Piece]) -> int:
        """Compute pieces that ask for the same; returns how many rows there are answers for."""
        rows = [job.x[job.done : job.done + n] for job, n in pieces]
        try:
            found = compute(rows[0] if len(rows) == 1 else np.concatenate(rows))
        except Exception as error:  # a bug, which those who wait must hear of; all others go on
            for job, _ in pieces:
                self._drop(job)
                job.fail(error)
            return 0
        start = 0
        for job, n in pieces:
            job.take(found[start : start + n])
            start += n
            self._queued_rows -= n
            if not job.left:
                self._drop(job)
        self._observe(len(found))
        return len(found)

    def _next_pieces(self) -> list[_Piece]:
        """Even shares of the step for the requests that came first; small ones leave theirs."""
        first = list(islice(self._jobs, self._most_rows))
        pieces, room = [], self._most_rows
        for i, job in enumerate(sorted(first, key=lambda job: job.left)):
            n = min(job.left, room // (len(first) - i))
            pieces.append(_Piece(job, n))
            room -= n
        return pieces

    def _measure(self, rows: int, seconds: float) -> None:
        newest = rows / max(seconds, 1e-9)
        before = self._rows_per_second or newest
        self._rows_per_second = _RATE_MEMORY * before + (1 - _RATE_MEMORY) * newest


class _Job:
    """A request's series, and how many of its rows are done."""

    def __init__(self, x: FloatArray, compute: Compute) -> None:
        self.x, self.compute, self.done = x, compute, 0
        self.answer: asyncio.Future[FloatArray] = asyncio.get_running_loop().create_future()
        self._found: list[FloatArray] = []

    @property
    def left(self) -> int:
        return len(self.x) - self.done

    def take(self, found: FloatArray) -> None:
        self._found.append(found)
        self.done += len(found)
        if not self.left and not self.answer.done():
            whole = self._found[0] if len(self._found) == 1 else np.concatenate(self._found)
            self.answer.set_result(whole)

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class _Piece(NamedTuple):
    job: _Job
    rows: int
