"""Which types of bodies there are, what a request says that it is, and what it accepts."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from serve_app.request_errors import RequestError

CSV, JSON, JSON_LINES = "text/csv", "application/json", "application/jsonlines"
TYPES = (CSV, JSON, JSON_LINES)

_QUALITY = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?")
_HEADER = {"present": True, "absent": False}


class ContentType(NamedTuple):
    """The type of a body.

    Attributes:
        name: among `TYPES`.
        has_header: of CSV, whether its first line names columns; None where that is not said.
    """

    name: str
    has_header: bool | None = None


@lru_cache(64)
def content_type_of(header: str | None) -> ContentType:
    """The type of a request's body.

    Raises:
        RequestError: 415 for a type that is not among `TYPES`; 400 where CSV's parameter ``header``
            (RFC 4180) is neither present nor absent.
    """
    name, *parameters = (part.strip().lower() for part in (header or "").split(";"))
    if name not in TYPES:
        found = repr(name) if name else "no content type"
        raise RequestError(415, f"found {found}; send Content-Type {', '.join(TYPES)}")
    has_header = None
    for parameter in parameters:
        key, _, value = (part.strip(' "') for part in parameter.partition("="))
        if name == CSV and key == "header":
            if value not in _HEADER:
                raise RequestError(400, f"found header={value}; send header=present or absent")
            has_header = _HEADER[value]
    return ContentType(name, has_header)


@lru_cache(64)
def answer_type_of(accept: str | None, content_type: str, explains: bool = False) -> str:
    """The type of the answer: of those that the client accepts most, the first that it names.

    Each type has the quality of the most specific range that fits it (RFC 9110, section 12.5.1).
    Of types in one range, the request's own comes first.

    Raises:
        RequestError: 406 where the client accepts none, or CSV with explanations.
    """
    found = _accepted(accept, content_type)
    if found is None:
        raise RequestError(406, f"found Accept {accept!r}; answers are {', '.join(TYPES)}")
    if explains and found == CSV:
        raise RequestError(406, f"found explanations asked for in {CSV}; send Accept: {JSON}")
    return found


def _accepted(accept: str | None, content_type: str) -> str | None:
    ranges = _ranges(accept or "*/*")
    best, best_rank = None, (0.0, 0)
    for kind in (content_type, *TYPES):
        for name in (kind, f"{kind.partition('/')[0]}/*", "*/*"):
            if name in ranges:
                quality, place = ranges[name]
                if quality and (quality, -place) > best_rank:
                    best, best_rank = kind, (quality, -place)
                break
    return best


def _ranges(accept: str) -> dict[str, tuple[float, int]]:
    """The quality of each media range, and its place among them."""
    found: dict[str, tuple[float, int]] = {}
    for place, part in enumerate(accept.lower().split(",")):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        weights = [value[2:].strip() for value in parameters if value.startswith("q=")]
        quality = float(weights[0]) if weights and _QUALITY.fullmatch(weights[0]) else 1.0
        found.setdefault(name, (quality, place))
    return found
