"""Bodies of requests on their way in: bounded in bytes and in time, each of them and all together.

What is not bounded here is memory that a stranger fills: bodies that come slowly, or many at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from serve_app.request_errors import RequestError

_LEAST_RATE = 1 << 20
"""Bytes that earn one more second."""


class Bodies:
    """Receives bodies.

    Args:
        most_together: bytes of all bodies that are held at a time.
        timeout_s: in which a body must have come; each MiB of it that comes earns another second.
    """

    def __init__(self, most_together: int, timeout_s: float) -> None:
        self._most_together, self._timeout_s = most_together, timeout_s
        self._held = 0

    @asynccontextmanager
    async def received(self, request: Request, most: int) -> AsyncIterator[bytes]:
        """A request's body, which counts as held as long as this lasts.

        Raises:
            RequestError: 413, it has more than ``most`` bytes; 415, it is packed; 408, it does not
                come; 503, there are too many bodies at once.
            ClientDisconnect: it ended early.
        """
        encoding = request.headers.get("content-encoding", "identity")
        if encoding.strip().lower() not in ("identity", ""):
            raise RequestError(415, f"found Content-Encoding {encoding!r}; send the body as it is")
        stated = request.headers.get("content-length", "")
        if stated.isdecimal() and int(stated) > most:
            raise _too_long(most)
        parts: list[bytes] = []
        try:
            await self._receive(request, most, parts)
            parts = [b"".join(parts)]
            yield parts[0]
        finally:
            self._held -= sum(map(len, parts))

    async def _receive(self, request: Request, most: int, parts: list[bytes]) -> None:
        size, started = 0, asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self._timeout_s) as limit:
                async for part in request.stream():
                    size += len(part)
                    if size > most:
                        raise _too_long(most)
                    self._hold(part, parts)
                    limit.reschedule(started + self._timeout_s + size / _LEAST_RATE)
        except TimeoutError as error:
            raise RequestError(
                408,
                f"the body did not come in {self._timeout_s:g} s; send it faster, or fewer rows",
                {"Connection": "close"},
            ) from error

    def _hold(self, part: bytes, parts: list[bytes]) -> None:
        if self._held + len(part) > self._most_together:
            raise RequestError(
                503, "too many large bodies are coming; try again in 1 s", {"Retry-After": "1"}
            )
        self._held += len(part)
        parts.append(part)


def _too_long(most: int) -> RequestError:
    return RequestError(413, f"found more than {most} bytes; send fewer rows a request")
