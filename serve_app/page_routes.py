"""The pages at ``/`` and ``/docs``, for people: a few files as they lie in `page/`.

They ask this endpoint and nothing else, which the policy below also holds the browser to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_TYPES = {
    "index.html": "text/html",
    "page.css": "text/css",
    "page.js": "text/javascript",
    "answers.js": "text/javascript",
    "card.js": "text/javascript",
    "docs.css": "text/css",
    "docs.html": "text/html",
    "docs.js": "text/javascript",
    "chart.js": "text/javascript",
    "series.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}

_PATHS = {"index.html": "/", "docs.html": "/docs"}

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Content-Security-Policy: files and answers of this origin only, and no text taken for HTML."""


def page_routes() -> list[Route]:
    """A route for each file; those of HTML have paths of their own. No other is looked up."""
    folder = files("serve_app") / "page"
    return [
        Route(
            _PATHS.get(name, f"/page/{name}"),
            _sender((folder / name).read_bytes(), media_type),
            methods=["GET"],
        )
        for name, media_type in _TYPES.items()
    ]


def _sender(content: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    """What answers with this content, or with 304 to a browser that has it."""
    etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {
        "cache-control": "no-cache",  # but ask whether it is still this one
        "content-security-policy": _POLICY,
        "etag": etag,
    }

    async def send(request: Request) -> Response:
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(content, 200, headers, media_type)

    return send
