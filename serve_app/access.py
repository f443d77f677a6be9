"""Who may ask, by host name, origin and token; and what every answer tells a browser.

A web page may make a name of its own stand for 127.0.0.1 (DNS rebinding) and then ask whatever
listens there. That needs a name, so requests to literal addresses and to localhost are answered,
and of other names only those that are allowed. Ports do not count: they change on the way.
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

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lstmfcn.errors import ResourceError
from serve_app.request_errors import RequestError

OPEN_PATH = "/ping"
"""The one route that needs no token: it says nothing but that somebody answers."""

_EVERY_ANSWER = {
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"cross-origin-resource-policy": b"same-origin",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
}
_CHALLENGES = ('Basic realm="lstmfcn", charset="UTF-8"', "Bearer")
"""In a header each: Chromium looks at the first of one header only."""
_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]{0,5})?")
_ORIGIN = re.compile(r"https?://[^/\s?#@*]+")

_EXPOSED = ("retry-after", "x-amzn-invoked-production-variant", "x-model-version")

Refused = Callable[[int], None]
"""Told the status of each refusal."""


def guards(
    token: str, allow_hosts: Sequence[str], allow_origins: Sequence[str], refused: Refused
) -> list[Middleware]:
    """What stands before the routes, the outermost first."""
    allow_origins = [origin.lower() for origin in allow_origins]  # as browsers send them
    found = [Middleware(Gate, allow_hosts, allow_origins, refused)]
    if allow_origins:
        found.append(
            Middleware(
                CORSMiddleware,
                allow_origins,
                allow_methods=("GET", "POST"),
                allow_headers=("authorization", "x-amzn-sagemaker-enable-explanations"),
                expose_headers=_EXPOSED,
            )
        )
    if token:
        found.append(Middleware(TokenCheck, token, refused))
    return found


def own_names(host: str) -> list[str]:
    """The names by which others reach what listens on a host: none for a literal address."""
    if host in ("0.0.0.0", "::", ""):
        return list(dict.fromkeys([socket.gethostname().lower(), socket.getfqdn().lower()]))
    return [] if _is_address(host) else [host.lower()]


def refuse_no_origins(origins: Sequence[str]) -> None:
    """Refuse what no browser sends as Origin.

    Raises:
        ResourceError: names the first.
    """
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise ResourceError(
                f"--allow-origin {origin}: found no origin; give one as in https://app.example.com"
            )


class Gate:
    """Answers only what was asked by a name that is allowed, from a page that is allowed.

    Args:
        app: what is behind.
        allow_hosts: names beside localhost; ``*`` for all, ``*.example.com`` for those below one.
        allow_origins: of pages elsewhere, as browsers send them.
        refused: where to count.
    """

    def __init__(
        self,
        app: ASGIApp,
        allow_hosts: Sequence[str],
        allow_origins: Sequence[str],
        refused: Refused,
    ) -> None:
        self._app, self._refused = app, refused
        self._hosts = {"localhost", *(name.lower() for name in allow_hosts)}
        self._origins = set(allow_origins)
        self._is_allowed = lru_cache(256)(self._allows)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it with 400, 403, 417 or 421."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"] = list(message.get("headers", ()))
                there = {name for name, _ in headers}
                headers += [pair for pair in _EVERY_ANSWER.items() if pair[0] not in there]
            await send(message)

        if refusal := self._refusal(scope):
            await _refuse(refusal, self._refused, scope, receive, send_told)
        else:
            await self._app(scope, receive, send_told)

    def _refusal(self, scope: Scope) -> RequestError | None:
        hosts, origins = [], []
        for name, value in scope["headers"]:
            if name == b"host":
                hosts.append(value.decode("latin-1").lower())
            elif name == b"origin":
                origins.append(value.decode("latin-1"))
            elif name == b"expect" and value.lower() != b"100-continue":
                return RequestError(417, "found an Expect other than 100-continue; leave it out")
        if len(hosts) > 1 or (not hosts and scope["http_version"] != "1.0"):
            return RequestError(400, f"found {len(hosts)} times Host; send it once")
        host = hosts[0] if hosts else ""
        if hosts and not self._is_allowed(host):
            return RequestError(
                421, f"found Host {host!r}; ask by address, or serve with --allow-host NAME"
            )
        for origin in origins:
            own = origin.lower() in (f"http://{host}", f"https://{host}")
            if not own and origin not in self._origins:
                return RequestError(
                    403, f"found Origin {origin!r}; serve with --allow-origin to let its pages ask"
                )
        return None

    def _allows(self, host: str) -> bool:
        """Whether a Host names an address, or a name that is allowed."""
        if not (found := _AUTHORITY.fullmatch(host)):
            return False
        name = found[1] or found[2].rstrip(".")
        if _is_address(name) or not self._hosts.isdisjoint((name, "*")):
            return True
        return any(one[:2] == "*." and name.endswith(one[1:]) for one in self._hosts)


class TokenCheck:
    """Answers only who has the token: as Bearer, or as the password of any user, as browsers ask.

    Args:
        app: what is behind.
        token: it.
        refused: where to count.
    """

    def __init__(self, app: ASGIApp, token: str, refused: Refused) -> None:
        self._app, self._token, self._refused = app, token.encode(), refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it with 401."""
        if scope["type"] == "lifespan" or scope["path"] == OPEN_PATH or self._knows(scope):
            await self._app(scope, receive, send)
            return
        fix = "send Authorization: Bearer TOKEN, or the token as the password of any user"
        self._refused(401)
        answer = JSONResponse(RequestError(401, fix).body, 401)
        for challenge in _CHALLENGES:
            answer.headers.append("WWW-Authenticate", challenge)
        await answer(scope, receive, send)

    def _knows(self, scope: Scope) -> bool:
        sent = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, found = sent.partition(b" ")
        found = found.strip()
        if scheme.lower() == b"basic":
            try:
                found = base64.b64decode(found, validate=True).partition(b":")[2]
            except binascii.Error:
                return False
        elif scheme.lower() != b"bearer":
            return False
        return hmac.compare_digest(found, self._token)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _refuse(
    refusal: RequestError, refused: Refused, scope: Scope, receive: Receive, send: Send
) -> None:
    refused(refusal.status)
    await JSONResponse(refusal.body, refusal.status, refusal.headers)(scope, receive, send)
