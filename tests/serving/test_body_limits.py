import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect, Request

from serve_app.body_limits import Bodies
from serve_app.errors import RequestError

MOST, TOGETHER = 100, 250


def request_of(parts, delay=0.0, headers=()):
    """A request whose body arrives in these parts; None is a client that leaves."""
    coming = iter(parts)

    async def receive():
        await asyncio.sleep(delay)
        part = next(coming, b"")
        if part is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": part, "more_body": part != b""}

    return Request({"type": "http", "headers": list(headers)}, receive)


async def status_of(bodies, request, held_for=0.0):
    """The status of a request, and its body."""
    try:
        body = await bodies.receive(request, MOST)
        await asyncio.sleep(held_for)
        bodies.release(body)
        return 200, body
    except RequestError as error:
        return error.status, error.headers
    except ClientDisconnect:
        return 0, b""


def test_a_body_is_received_whole():
    found = asyncio.run(status_of(Bodies(TOGETHER, 9), request_of([b"ab", b"c"])))
    assert found == (200, b"abc")


def test_a_slow_body_is_refused():
    began = [b"a"] * 50
    found = asyncio.run(status_of(Bodies(TOGETHER, 0.05), request_of(began, delay=0.02)))
    assert found == (408, {"Connection": "close"})


def test_a_long_body_gets_more_time():
    large = [b"a" * (3 << 19)] * 4  # 1.5 s more each
    bodies = Bodies(1 << 30, 0.3)

    found = asyncio.run(bodies.receive(request_of(large, delay=0.1), 1 << 30))
    assert len(found) == 12 << 19


@pytest.mark.parametrize(("encoding", "status"), [(b"identity", 200), (b"", 200), (b"gzip", 415)])
def test_compressed_bodies_are_refused(encoding, status):
    request = request_of([b"a"], headers=[(b"content-encoding", encoding)])
    assert asyncio.run(status_of(Bodies(TOGETHER, 9), request))[0] == status


def test_too_large_a_content_length_is_refused_before_the_body():
    request = request_of([], headers=[(b"content-length", b"101")])
    assert asyncio.run(status_of(Bodies(TOGETHER, 9), request))[0] == 413


@given(st.lists(st.lists(st.one_of(st.none(), st.binary(min_size=1, max_size=130)), max_size=4)))
def test_all_bodies_together_have_a_limit_and_are_released(requests):
    bodies = Bodies(TOGETHER, 9)

    async def ask_all():
        statuses = [status_of(bodies, request_of(parts), 0.001) for parts in requests]
        return await asyncio.gather(*statuses)

    answers = asyncio.run(ask_all())
    assert bodies.held == 0
    assert sum(len(found) for status, found in answers if status == 200) <= TOGETHER or all(
        status in (0, 200, 413, 503) for status, _ in answers
    )
    for parts, (status, found) in zip(requests, answers, strict=True):
        if status == 200:
            assert found == b"".join(parts)
        elif status == 503:
            assert found == {"Retry-After": "1"}
        else:
            assert status == (0 if None in parts else 413)
