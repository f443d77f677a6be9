"""Receive the bodies of requests, with limits of size and time for each and for all together.

Without these limits a stranger could fill the memory with bodies that arrive slowly, or with many
at once.
"""

from __future__ import annotations

import asyncio
import ctypes

from starlette.requests import ClientDisconnect, Request

from serve_app.errors import RequestError

_BYTES_PER_EXTRA_SECOND = 1 << 20
_LARGE, _TRIM_AFTER_S = 1 << 20, 1.0
"""A second after a body of this size, freed memory is given back to the system. Replicas set the C
library to keep it, which is right for the tensors of each step, but kept half a GB of a body."""


class Bodies:
    """Receives bodies and counts the memory that they hold.

    Args:
        max_bytes_held: the limit for all bodies that are held at a time.
        timeout_s: seconds in which a body must arrive; each MiB that arrives adds one more.

    Attributes:
        held: bytes of all bodies that are held now.
    """

    def __init__(self, max_bytes_held: int, timeout_s: float) -> None:
        self._max_bytes_held, self._timeout_s = max_bytes_held, timeout_s
        self.held = 0
        self._trim_timer: asyncio.TimerHandle | None = None

    async def receive(self, request: Request, max_bytes: int) -> bytes:
        """Receive a request's body, which counts as held until `release`.

        Raises:
            RequestError: 413, it has more than ``max_bytes``; 415, it is compressed; 408, it does
                not arrive in time; 503, too many bodies are held already.
            ClientDisconnect: it ended early.
        """
        encoding = request.headers.get("content-encoding", "identity")
        if encoding.strip().lower() not in ("identity", ""):
            raise RequestError(
                415, f"found Content-Encoding {encoding!r}; send the body uncompressed"
            )
        content_length = request.headers.get("content-length", "")
        if content_length.isdecimal() and int(content_length) > max_bytes:
            raise _too_long(max_bytes)
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(self._timeout_s) as timeout:
                await self._collect(request, max_bytes, parts, timeout)
        except TimeoutError as error:
            self.release(*parts)
            raise RequestError(
                408,
                f"the body did not arrive within {self._timeout_s:g} s; send it faster, or send "
                "fewer rows",
                {"Connection": "close"},
            ) from error
        except BaseException:
            self.release(*parts)
            raise
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def release(self, *parts: bytes) -> None:
        """Stop counting a body, or its parts, as held."""
        size = sum(map(len, parts))
        self.held -= size
        if size > _LARGE and self._trim_timer is None:
            self._trim_timer = asyncio.get_running_loop().call_later(_TRIM_AFTER_S, self._trim)

    async def _collect(
        self, request: Request, max_bytes: int, parts: list[bytes], timeout: asyncio.Timeout
    ) -> None:
        """Collect a body's parts as they arrive; ``request.stream`` would take longer."""
        size, has_more = 0, True
        while has_more:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            part, has_more = message.get("body", b""), message.get("more_body", False)
            size += len(part)
            if size > max_bytes:
                raise _too_long(max_bytes)
            self._hold(part, parts)
            if size > _BYTES_PER_EXTRA_SECOND and (until := timeout.when()) is not None:
                timeout.reschedule(until + len(part) / _BYTES_PER_EXTRA_SECOND)

    def _hold(self, part: bytes, parts: list[bytes]) -> None:
        if self.held + len(part) > self._max_bytes_held:
            raise RequestError(
                503, "too many large requests at once; try again in 1 s", {"Retry-After": "1"}
            )
        if part:
            self.held += len(part)
            parts.append(part)

    def _trim(self) -> None:
        self._trim_timer = None
        asyncio.get_running_loop().run_in_executor(None, _give_back_memory)


def _give_back_memory() -> None:
    """Give freed memory back to the system, if the C library can (glibc)."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def _too_long(max_bytes: int) -> RequestError:
    return RequestError(413, f"found more than {max_bytes} bytes; send fewer rows per request")
