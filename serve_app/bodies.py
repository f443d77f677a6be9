"""Bodies of requests on their way in: bounded in bytes and in time, each of them and all together.

What is not bounded here is memory that a stranger fills: bodies that come slowly, or many at once.
"""

from __future__ import annotations

import asyncio
import ctypes

from starlette.requests import ClientDisconnect, Request

from serve_app.request_errors import RequestError

_LEAST_RATE = 1 << 20
"""Bytes that earn one more second."""
_LARGE, _TRIM_AFTER_S = 1 << 20, 1.0
"""A second after so large a body, what was freed goes back to the system: replicas tell the C
library to keep it, which is right for the tensors of each step, and kept half a GB of a body."""


class Bodies:
    """Receives bodies.

    Args:
        most_together: bytes of all bodies that are held at a time.
        timeout_s: in which a body must have come; each MiB of it that comes earns another second.

    Attributes:
        held: bytes of all bodies that are held now.
    """

    def __init__(self, most_together: int, timeout_s: float) -> None:
        self._most_together, self._timeout_s = most_together, timeout_s
        self.held = 0
        self._trims: asyncio.TimerHandle | None = None

    async def receive(self, request: Request, most: int) -> bytes:
        """A request's body, which counts as held until `let_go`.

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
            async with asyncio.timeout(self._timeout_s) as limit:
                await self._collect(request, most, parts, limit)
        except TimeoutError as error:
            self.let_go(*parts)
            raise RequestError(
                408,
                f"the body did not come in {self._timeout_s:g} s; send it faster, or fewer rows",
                {"Connection": "close"},
            ) from error
        except BaseException:
            self.let_go(*parts)
            raise
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def let_go(self, *parts: bytes) -> None:
        """Count a body, or its parts, as held no more."""
        size = sum(map(len, parts))
        self.held -= size
        if size > _LARGE and self._trims is None:
            self._trims = asyncio.get_running_loop().call_later(_TRIM_AFTER_S, self._trim)

    async def _collect(
        self, request: Request, most: int, parts: list[bytes], limit: asyncio.Timeout
    ) -> None:
        """Collect a body's parts as they come; not by ``request.stream``, which costs more."""
        size, comes = 0, True
        while comes:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            part, comes = message.get("body", b""), message.get("more_body", False)
            size += len(part)
            if size > most:
                raise _too_long(most)
            self._hold(part, parts)
            if size > _LEAST_RATE and (until := limit.when()) is not None:
                limit.reschedule(until + len(part) / _LEAST_RATE)

    def _hold(self, part: bytes, parts: list[bytes]) -> None:
        if self.held + len(part) > self._most_together:
            raise RequestError(
                503, "too many large bodies are coming; try again in 1 s", {"Retry-After": "1"}
            )
        if part:
            self.held += len(part)
            parts.append(part)

    def _trim(self) -> None:
        self._trims = None
        asyncio.get_running_loop().run_in_executor(None, _give_back_memory)


def _give_back_memory() -> None:
    """Give freed memory back to the system, where the C library can (glibc)."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def _too_long(most: int) -> RequestError:
    return RequestError(413, f"found more than {most} bytes; send fewer rows a request")
