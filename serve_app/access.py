"""Decide which requests are accepted, by host name, origin and token, and add security headers.

A web page can make a host name of its own resolve to 127.0.0.1 (DNS rebinding), and then send
requests to anything that listens there. That needs a name, so requests to IP addresses and to
localhost are accepted, and of other names only those that are allowed. Ports are not compared,
because proxies change them.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lstmfcn.errors import ResourceError
from serve_app.errors import RequestError

OPEN_PATH = "/ping"
"""The one route that needs no token: it only says that the server answers."""

CountRefusal = Callable[[int], None]
"""Called with the HTTP status of each refused request."""

_SECURITY_HEADERS = {
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"cross-origin-resource-policy": b"same-origin",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
}

_CHALLENGES = ('Basic realm="lstmfcn", charset="UTF-8"', "Bearer")
"""Each goes into a header of its own: Chromium reads only the first challenge of a header."""

_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]{0,5})?")

_ORIGIN = re.compile(r"https?://[^/\s?#@*]+")

_EXPOSED_HEADERS = ("retry-after", "x-amzn-invoked-production-variant", "x-model-version")


def make_middleware(
    token: str,
    allow_hosts: Sequence[str],
    allow_origins: Sequence[str],
    count_refusal: CountRefusal,
) -> list[Middleware]:
    """The middleware that checks every request before its route, outermost first."""
    allow_origins = [origin.lower() for origin in allow_origins]  # as browsers send them
    middleware = [Middleware(Gate, allow_hosts, allow_origins, count_refusal)]
    if allow_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins,
                allow_methods=("GET", "POST"),
                allow_headers=("authorization", "x-amzn-sagemaker-enable-explanations"),
                expose_headers=_EXPOSED_HEADERS,
            )
        )
    if token:
        middleware.append(Middleware(TokenCheck, token, count_refusal))
    return middleware


class Gate:
    """Accepts requests to an allowed host name, from an allowed web page; adds security headers.

    Args:
        allow_hosts: names beside localhost; ``*`` for all, ``*.example.com`` for all below one.
        allow_origins: origins of other web pages, as browsers send them.
    """

    def __init__(
        self,
        app: ASGIApp,
        allow_hosts: Sequence[str],
        allow_origins: Sequence[str],
        count_refusal: CountRefusal,
    ) -> None:
        self._app, self._count_refusal = app, count_refusal
        self._hosts = {"localhost", *(name.lower() for name in allow_hosts)}
        self._origins = set(allow_origins)
        self._is_allowed = lru_cache(256)(self._check_host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it with 400, 403, 417 or 421."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"] = list(message.get("headers", ()))
                names = {name for name, _ in headers}
                headers += [pair for pair in _SECURITY_HEADERS.items() if pair[0] not in names]
            await send(message)

        if refusal := self._refusal(scope):
            self._count_refusal(refusal.status)
            answer = JSONResponse(refusal.body, refusal.status, refusal.headers)
            await answer(scope, receive, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> RequestError | None:
        hosts, origins = [], []
        for name, value in scope["headers"]:
            if name == b"host":
                hosts.append(value.decode("latin-1").lower())
            elif name == b"origin":
                origins.append(value.decode("latin-1"))
            elif name == b"expect" and value.lower() != b"100-continue":
                return RequestError(
                    417, "found an Expect header other than 100-continue; leave it out"
                )
        if len(hosts) > 1 or (not hosts and scope["http_version"] != "1.0"):
            return RequestError(400, f"found {len(hosts)} Host headers; send one")
        host = hosts[0] if hosts else ""
        if hosts and not self._is_allowed(host):
            return RequestError(
                421,
                f"found Host {host!r}, which is not allowed; use the server's IP address, or "
                "start the server with --allow-host NAME",
            )
        for origin in origins:
            is_same_host = origin.lower() in (f"http://{host}", f"https://{host}")
            if not is_same_host and origin not in self._origins:
                return RequestError(
                    403,
                    f"found Origin {origin!r}, which is not allowed; start the server with "
                    "--allow-origin to accept requests from its pages",
                )
        return None

    def _check_host(self, host: str) -> bool:
        """Whether a Host header names an IP address, or a name that is allowed."""
        if not (authority := _AUTHORITY.fullmatch(host)):
            return False
        name = authority[1] or authority[2].rstrip(".")
        if _is_address(name) or not self._hosts.isdisjoint((name, "*")):
            return True
        return any(allowed[:2] == "*." and name.endswith(allowed[1:]) for allowed in self._hosts)


class TokenCheck:
    """Accepts requests with the token: as Bearer, or as the password of any user, for browsers."""

    def __init__(self, app: ASGIApp, token: str, count_refusal: CountRefusal) -> None:
        self._app, self._token, self._count_refusal = app, token.encode(), count_refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it with 401."""
        if scope["type"] == "lifespan" or scope["path"] == OPEN_PATH or self._has_token(scope):
            await self._app(scope, receive, send)
            return
        fix = "send Authorization: Bearer TOKEN, or the token as the password of any user"
        self._count_refusal(401)
        answer = JSONResponse(RequestError(401, fix).body, 401)
        for challenge in _CHALLENGES:
            answer.headers.append("WWW-Authenticate", challenge)
        await answer(scope, receive, send)

    def _has_token(self, scope: Scope) -> bool:
        header = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, credentials = header.partition(b" ")
        credentials = credentials.strip()
        if scheme.lower() == b"basic":
            try:
                credentials = base64.b64decode(credentials, validate=True).partition(b":")[2]
            except binascii.Error:
                return False
        elif scheme.lower() != b"bearer":
            return False
        return hmac.compare_digest(credentials, self._token)


def read_token(file: Path | str) -> str:
    """Read the token in a file, without whitespace around it; without one `ResourceError`."""
    try:
        token = Path(file).read_text(encoding="utf-8").strip()
    except FileNotFoundError as error:
        raise ResourceError(
            f"--token-file {file}: found no file; write a token into one"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ResourceError(
            f"--token-file {file}: cannot be read ({error}); write a token of letters and digits "
            "into a file"
        ) from error
    if not token or not token.isascii() or not token.isprintable():
        raise ResourceError(
            f"--token-file {file}: found no token; write one line of letters and digits into it"
        )
    return token


def public_host_names(host: str) -> list[str]:
    """The names by which clients reach a server that listens on a host; none for an IP address."""
    if host in ("0.0.0.0", "::", ""):
        return list(dict.fromkeys([socket.gethostname().lower(), socket.getfqdn().lower()]))
    return [] if _is_address(host) else [host.lower()]


def refuse_invalid_origins(origins: Sequence[str]) -> None:
    """Refuse (`ResourceError`) an origin in a form that no browser sends."""
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise ResourceError(
                f"--allow-origin {origin}: is not an origin; write one like https://app.example.com"
            )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
