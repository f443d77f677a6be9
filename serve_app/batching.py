"""Compute the rows of many requests together, while the model is busy and because it is.

An idle model starts with the rows that are there, so no request waits for others to join it. Rows
that arrive meanwhile are computed together in the next step, at most ``max_step_rows`` at a time.
Requests share each step evenly, so a request of one row is answered in the next step, no matter
how many rows of another request wait. Requests for explanations share the queue and the steps, and
are computed separately.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

import numpy as np

from lstmfcn.data.table import FloatArray
from serve_app.errors import overloaded

Compute = Callable[[FloatArray], FloatArray]

_SECONDS_PER_TURN = 0.002
"""After a step the event loop gets one turn for each of these. uvloop accepts one connection per
turn (libuv 1.45, "don't accept() connections in a loop"): with one turn for each step of 30 ms,
clients that connected at once waited for 14 s."""
_OLD_SPEED_WEIGHT = 0.9
"""The weight of the last estimate of the speed; the newest step has the rest."""


class Batcher:
    """One model's queue, used from one event loop, on which it computes.

    Args:
        compute: series (N, T) to probabilities (N, L), for any N from 1 to ``max_step_rows``.
            Requests may name another function.
        max_step_rows: the most rows that are computed at a time.
        max_queued_rows: the most rows that wait; an empty queue takes any request.
        observe: called with the number of rows of each step.
    """

    def __init__(
        self,
        compute: Compute,
        max_step_rows: int,
        max_queued_rows: int,
        observe: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._compute, self._max_step_rows = compute, max_step_rows
        self._max_queued_rows, self._observe = max_queued_rows, observe
        self._pending: dict[_PendingRequest, None] = {}  # in the order in which they came
        self._worker: asyncio.Task[None] | None = None
        self._rows_per_second = 0.0
        self._queued_rows = 0

    @property
    def queued_rows(self) -> int:
        """The number of rows that wait."""
        return self._queued_rows

    async def predict(self, x: FloatArray, compute: Compute | None = None) -> FloatArray:
        """Compute one request's rows, by default their probabilities.

        Raises:
            RequestError: 503, too many rows wait.
        """
        waiting = self._queued_rows
        if waiting and waiting + len(x) > self._max_queued_rows:
            raise overloaded(waiting / self._rows_per_second if self._rows_per_second else 1.0)
        request = _PendingRequest(x, compute or self._compute)
        self._pending[request] = None
        self._queued_rows += request.n_left
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        try:
            return await request.answer
        finally:
            self._drop(request)  # still pending if the client has gone or its time is up

    def _drop(self, request: _PendingRequest) -> None:
        """Forget a request, and its rows that wait."""
        if request in self._pending:
            del self._pending[request]
            self._queued_rows -= request.n_left

    async def _work(self) -> None:
        try:
            while self._pending:
                for _ in range(1 + int(self._step() / _SECONDS_PER_TURN)):
                    await asyncio.sleep(0)  # let requests come in, and answers go out
        finally:
            self._worker = None

    def _step(self) -> float:
        """Compute the rows of one step; returns the seconds that it took."""
        slices = self._next_slices()
        started = time.perf_counter()
        n_done = 0
        for compute in {piece.request.compute for piece in slices}:
            n_done += self._compute_slices(
                compute, [piece for piece in slices if piece.request.compute == compute]
            )
        if not n_done:
            return 0.0
        seconds = time.perf_counter() - started
        self._measure(n_done, seconds)
        return seconds

    def _compute_slices(self, compute: Compute, slices: list[_Slice]) -> int:
        """Compute slices by the same function; returns how many rows have an answer."""
        rows = [request.x[request.n_done : request.n_done + n] for request, n in slices]
        try:
            results = compute(rows[0] if len(rows) == 1 else np.concatenate(rows))
        except Exception as error:  # a bug: only these requests fail, all others continue
            for request, _ in slices:
                self._drop(request)
                request.fail(error)
            return 0
        start = 0
        for request, n in slices:
            request.add(results[start : start + n])
            start += n
            self._queued_rows -= n
            if not request.n_left:
                self._drop(request)
        self._observe(len(results))
        return len(results)

    def _next_slices(self) -> list[_Slice]:
        """Even parts of the step for the first requests; small ones leave room to the others."""
        first = list(islice(self._pending, self._max_step_rows))
        slices, room = [], self._max_step_rows
        for i, request in enumerate(sorted(first, key=lambda request: request.n_left)):
            n = min(request.n_left, room // (len(first) - i))
            slices.append(_Slice(request, n))
            room -= n
        return slices

    def _measure(self, n_rows: int, seconds: float) -> None:
        newest = n_rows / max(seconds, 1e-9)
        before = self._rows_per_second or newest
        self._rows_per_second = _OLD_SPEED_WEIGHT * before + (1 - _OLD_SPEED_WEIGHT) * newest


class _PendingRequest:
    """A request's series, and the results of those rows that are done."""

    def __init__(self, x: FloatArray, compute: Compute) -> None:
        self.x, self.compute, self.n_done = x, compute, 0
        self.answer: asyncio.Future[FloatArray] = asyncio.get_running_loop().create_future()
        self._results: list[FloatArray] = []

    @property
    def n_left(self) -> int:
        return len(self.x) - self.n_done

    def add(self, results: FloatArray) -> None:
        self._results.append(results)
        self.n_done += len(results)
        if not self.n_left and not self.answer.done():
            parts = self._results
            self.answer.set_result(parts[0] if len(parts) == 1 else np.concatenate(parts))

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class _Slice(NamedTuple):
    request: _PendingRequest
    n_rows: int
