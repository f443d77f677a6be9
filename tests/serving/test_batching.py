import asyncio
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.batching import Batcher
from serve_app.errors import RequestError

MOST = 8


class Steps:
    """Doubles each value, and remembers the rows of each step."""

    def __init__(self):
        self.rows = []

    def __call__(self, x):
        self.rows.append(len(x))
        if (x == 13).any():
            raise ZeroDivisionError("a bug")
        return 2 * x


def rows(n, start=0):
    return np.arange(start, start + n, dtype=np.float32).reshape(n, 1)


def run(*sizes, max_queued_rows=10**6):
    """The answers to simultaneous requests, and the rows of each step."""
    steps = Steps()

    async def all_at_once():
        batcher = Batcher(steps, MOST, max_queued_rows)
        requests = [batcher.predict(rows(n, 1000 * i + 20)) for i, n in enumerate(sizes)]
        return await asyncio.gather(*requests, return_exceptions=True)

    return asyncio.run(all_at_once()), steps.rows


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12))
def test_each_request_gets_its_own_rows(sizes):
    answers, steps = run(*sizes)
    for i, (n, answer) in enumerate(zip(sizes, answers, strict=True)):
        assert np.array_equal(answer, 2 * rows(n, 1000 * i + 20))
    assert sum(steps) == sum(sizes)
    assert steps == [MOST] * (sum(sizes) // MOST) + [sum(sizes) % MOST] * (sum(sizes) % MOST > 0)


@given(st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=1, max_size=12))
def test_requests_with_another_function_are_computed_separately(requests):
    doubled, tripled = Steps(), []

    def triple(x):
        tripled.append(len(x))
        return 3 * x

    async def all_at_once():
        batcher = Batcher(doubled, MOST, 10**6)
        requests_sent = [
            batcher.predict(rows(n, 1000 * i + 20), triple if other else None)
            for i, (n, other) in enumerate(requests)
        ]
        return await asyncio.gather(*requests_sent)

    answers = asyncio.run(all_at_once())
    for i, ((n, other), answer) in enumerate(zip(requests, answers, strict=True)):
        assert np.array_equal(answer, (3 if other else 2) * rows(n, 1000 * i + 20))
    assert sum(doubled.rows) == sum(n for n, other in requests if not other)
    assert sum(tripled) == sum(n for n, other in requests if other)
    assert max(doubled.rows + tripled) <= MOST


def test_a_bug_in_one_function_does_not_fail_the_other():
    async def ask():
        batcher = Batcher(Steps(), MOST, 10**6)
        requests_sent = (batcher.predict(rows(1, 13)), batcher.predict(rows(1, 13), lambda x: x))
        return await asyncio.gather(*requests_sent, return_exceptions=True)

    failed, answer = asyncio.run(ask())
    assert isinstance(failed, ZeroDivisionError)
    assert answer.tolist() == [[13]]


def test_a_single_request_is_cut_from_its_first_row():
    _, steps = run(19)
    assert steps == [8, 8, 3]


def test_small_requests_do_not_wait_for_a_large_one():
    done = []

    async def race():
        batcher = Batcher(Steps(), MOST, 10**6)

        async def ask(name, n):
            await batcher.predict(rows(n, 100))
            done.append(name)

        large = asyncio.create_task(ask("large", 400))
        await asyncio.sleep(0)
        await asyncio.gather(*(ask(f"small {i}", 1) for i in range(5)))
        assert not large.done()
        await large

    asyncio.run(race())
    assert done[-1] == "large"


def test_a_large_request_progresses_under_small_ones():
    async def race():
        batcher = Batcher(Steps(), MOST, 10**6)
        large = asyncio.create_task(batcher.predict(rows(80, 100)))

        async def keep_asking():
            while not large.done():
                await batcher.predict(rows(1, 100))

        await asyncio.wait_for(asyncio.gather(*(keep_asking() for _ in range(30))), 10)
        assert np.array_equal(await large, 2 * rows(80, 100))

    asyncio.run(race())


def test_a_bug_fails_only_its_step():
    steps = Steps()

    async def ask():
        batcher = Batcher(steps, MOST, 10**6)
        first = await asyncio.gather(batcher.predict(rows(1, 13)), return_exceptions=True)
        assert isinstance(first[0], ZeroDivisionError)
        assert (await batcher.predict(rows(2, 20))).tolist() == [[40], [42]]

    asyncio.run(ask())


def test_the_queue_has_a_limit_of_rows():
    answers, _ = run(100, 5, 3, max_queued_rows=107)
    refused = [answer for answer in answers if isinstance(answer, RequestError)]
    assert [type(answer) for answer in answers[:2]] == [np.ndarray, np.ndarray]
    assert len(refused) == 1
    assert refused[0].status == 503
    assert int(refused[0].headers["Retry-After"]) >= 1


def test_an_empty_queue_takes_a_request_of_any_size():
    answers, _ = run(50, max_queued_rows=10)
    assert len(answers[0]) == 50


def test_rows_of_clients_that_left_are_not_computed():
    steps = Steps()

    async def leave():
        batcher = Batcher(steps, MOST, 10**6)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await batcher.predict(rows(80))
        await asyncio.sleep(0.01)
        assert batcher.queued_rows == 0
        await batcher.predict(rows(1, 20))

    asyncio.run(leave())
    assert sum(steps.rows) < 80


def test_the_event_loop_turns_many_times_after_a_long_step():
    """Each turn accepts one connection, and many clients may connect at once."""

    async def ask():
        def slow(x):
            time.sleep(0.02)
            return x

        batcher = Batcher(slow, 4, 100)
        turns = 0

        async def turn():
            nonlocal turns
            while batcher.queued_rows or not turns:
                turns += 1
                await asyncio.sleep(0)

        await asyncio.gather(batcher.predict(rows(12, 1)), turn())
        return turns

    assert asyncio.run(ask()) >= 2 * 10


@given(st.lists(st.tuples(st.integers(1, 20), st.sampled_from(["ask", "leave", "fail", "turn"]))))
def test_waiting_rows_are_counted_correctly(events):
    async def go():
        batcher = Batcher(Steps(), MOST, 10**6)
        requests_sent = []
        for n, kind in events:
            if kind == "leave" and requests_sent:
                requests_sent[n % len(requests_sent)].cancel()
            elif kind != "turn":
                x = rows(n, 13 if kind == "fail" else 100)
                requests_sent.append(asyncio.create_task(batcher.predict(x)))
            await asyncio.sleep(0)
            assert batcher.queued_rows == sum(request.n_left for request in batcher._pending)
        await asyncio.gather(*requests_sent, return_exceptions=True)
        assert batcher.queued_rows == len(batcher._pending) == 0

    asyncio.run(go())
