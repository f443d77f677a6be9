"""Serve the pages at ``/`` and ``/docs``: the files in the folder `page/`.

The pages send requests to this endpoint only, and the policy below makes the browser enforce that.
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
"""Content-Security-Policy: only files and answers of this origin, and no text parsed as HTML."""


def page_routes() -> list[Route]:
    """One route per file, so no other file can be requested; HTML files have paths of their own."""
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
    """A handler that sends this content, or 304 to a browser that has it already."""
    etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {
        "cache-control": "no-cache",  # the browser keeps it, but asks whether it has changed
        "content-security-policy": _POLICY,
        "etag": etag,
    }

    async def send(request: Request) -> Response:
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(content, 200, headers, media_type)

    return send
