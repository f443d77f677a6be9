"""Content types: decode the body of a request into series, encode predictions as its answer.

=========================  =======================================  ============================
content type               request                                  answer
=========================  =======================================  ============================
``text/csv``               rows, with or without a header           header, labels, probabilities
``application/json``       ``{"instances": [[1.5, ...], ...]}``     ``{"predictions": [{...}]}``
``application/jsonlines``  one ``[1.5, ...]`` per line              one ``{...}`` per line
=========================  =======================================  ============================

Explanations, if a request asks for them, are a list of objects under ``explanations`` in JSON, and
one object per line under ``explanation`` in JSON lines; CSV has no place for them.

A series of several channels is a flat list, channel after channel, or a list with one list per
channel. Rows count from 1. With a CSV header, values are matched by name and other columns are
ignored.

The size of a body is limited before it is received: see `max_request_bytes`.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any, NamedTuple

import numpy.typing as npt

from lstmfcn.data.schema import SeriesSchema
from lstmfcn.data.table import FloatArray
from lstmfcn.errors import DataError
from lstmfcn.inference.explanation import Explanation
from lstmfcn.inference.predict_shards import csv_line, format_predictions, list_prediction_columns
from lstmfcn.inference.predictor import Classifier
from serve_app.csv_codec import parse_csv_series
from serve_app.errors import RequestError, too_many_rows
from serve_app.explanations import to_json_objects
from serve_app.json_codec import parse_json, parse_json_series, refuse_overlong

CSV, JSON, JSON_LINES = "text/csv", "application/json", "application/jsonlines"
TYPES = (CSV, JSON, JSON_LINES)

Matrix = npt.NDArray[Any]

LONG_BODY = 1 << 18
"""A body of more bytes is decoded, and its answer encoded, in a thread beside the event loop."""

MAX_VALUES = 1 << 25
"""Values per request, with those that pad short series: what a body of 64 MiB can hold."""

_BYTES_PER_VALUE, _OTHER_BYTES_PER_ROW = 40, 1024
"""A 64-bit number, its separator and indentation; and what else a row may hold."""

_QUALITY = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?")
_HEADER_PARAMETER = {"present": True, "absent": False}
_BOM = b"\xef\xbb\xbf"


class ContentType(NamedTuple):
    """The type of a request's body.

    Attributes:
        name: one of `TYPES`.
        has_header: whether the first line of CSV names columns; None if the client does not say.
    """

    name: str
    has_header: bool | None = None


@lru_cache(64)
def request_type(header: str | None) -> ContentType:
    """Parse the Content-Type header of a request.

    Raises:
        RequestError: 415 for a type that is not one of `TYPES`; 400 if CSV's parameter ``header``
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
            if value not in _HEADER_PARAMETER:
                raise RequestError(400, f"found header={value}; send header=present or absent")
            has_header = _HEADER_PARAMETER[value]
    return ContentType(name, has_header)


@lru_cache(64)
def response_type(accept: str | None, content_type: str, explains: bool = False) -> str:
    """Choose the type of the answer: the one that the client's Accept header prefers.

    Each type has the quality of the most specific range that matches it (RFC 9110, section
    12.5.1). Among equals the first in the header wins; within one range, the request's own type.

    Raises:
        RequestError: 406 if the client accepts no type, or CSV with explanations.
    """
    chosen = _preferred_type(accept, content_type)
    if chosen is None:
        raise RequestError(406, f"found Accept {accept!r}; accept one of {', '.join(TYPES)}")
    if explains and chosen == CSV:
        raise RequestError(406, f"found a request for explanations in {CSV}; send Accept: {JSON}")
    return chosen


def _preferred_type(accept: str | None, content_type: str) -> str | None:
    ranges = _parse_ranges(accept or "*/*")
    best, best_rank = None, (0.0, 0)
    for kind in (content_type, *TYPES):
        for name in (kind, f"{kind.partition('/')[0]}/*", "*/*"):
            if name in ranges:
                quality, place = ranges[name]
                if quality and (quality, -place) > best_rank:
                    best, best_rank = kind, (quality, -place)
                break
    return best


def _parse_ranges(accept: str) -> dict[str, tuple[float, int]]:
    """The quality of each media range, and its place in the header."""
    ranges: dict[str, tuple[float, int]] = {}
    for place, part in enumerate(accept.lower().split(",")):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        weights = [value[2:].strip() for value in parameters if value.startswith("q=")]
        quality = float(weights[0]) if weights and _QUALITY.fullmatch(weights[0]) else 1.0
        ranges.setdefault(name, (quality, place))
    return ranges


def max_request_bytes(schema: SeriesSchema, max_rows: int) -> int:
    """The most bytes that a body of ``max_rows`` series, and a header, can need."""
    return (max_rows + 1) * (_BYTES_PER_VALUE * schema.n_values + _OTHER_BYTES_PER_ROW)


def is_slow_to_decode(body: bytes, schema: SeriesSchema) -> bool:
    """Whether a body is long, or may hold many short series, which are padded."""
    if len(body) > LONG_BODY:
        return True
    return schema.missing == "mask" and body.count(b"[") * schema.n_values > LONG_BODY


def decode(kind: ContentType, body: bytes, schema: SeriesSchema, max_rows: int) -> Matrix:
    """Decode the series of a request: numbers (N, V).

    Raises:
        DataError: the body cannot be read as that content type.
        RequestError: 413 if it holds more than ``max_rows``, or needs too much memory.
    """
    try:
        if kind.name == CSV:
            return parse_csv_series(body.decode("utf-8-sig"), schema, max_rows, kind.has_header)
        return _decode_json(kind.name, body.removeprefix(_BOM), schema, max_rows)
    except UnicodeDecodeError as error:
        raise DataError("bytes that are not UTF-8", "send the body as UTF-8") from error
    except MemoryError as error:
        raise RequestError(413, "found no memory for so large a body; send fewer rows") from error


def _decode_json(name: str, body: bytes, schema: SeriesSchema, max_rows: int) -> Matrix:
    if len(body) > LONG_BODY:
        refuse_overlong(body, schema, max_rows)
    rows = (_read_lines if name == JSON_LINES else _read_instances)(body, schema, max_rows)
    if len(rows) > max_rows:
        raise too_many_rows(len(rows), max_rows)
    if len(rows) * schema.n_values > MAX_VALUES:
        raise too_many_rows(len(rows), MAX_VALUES // schema.n_values)
    return parse_json_series(rows, schema)


def _read_instances(body: bytes, schema: SeriesSchema, _max_rows: int) -> list[Any]:
    content = parse_json(body, schema)
    rows = content.get("instances") if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise DataError("no list of instances", 'send {"instances": [[...], ...]}')
    if (n_times := body.count(b'"instances"')) > 1:
        raise DataError(f'"instances" {n_times} times', "send it once")
    return rows


def _read_lines(body: bytes, schema: SeriesSchema, max_rows: int) -> list[Any]:
    lines = [line for line in body.splitlines() if line.strip()]
    if len(lines) > max_rows:
        raise too_many_rows(len(lines), max_rows)
    return [parse_json(line, schema, row) for row, line in enumerate(lines, start=1)]


def encode(
    content_type: str,
    classifier: Classifier,
    probabilities: FloatArray,
    explanation: Explanation | None = None,
) -> bytes:
    """Encode the answer to series, with or without explanations.

    Args:
        content_type: of the answer, one of `TYPES`.
        probabilities: float32 (N, L).
    """
    columns = list_prediction_columns(classifier.schema)
    rows = format_predictions(classifier, probabilities)
    if content_type == CSV:
        return "".join(map(csv_line, [columns, *rows])).encode()
    names = [json.dumps(column) for column in columns]
    if classifier.schema.holds_names:
        rows = [[json.dumps(name), *numbers] for name, *numbers in rows]
    # what stands between the braces of each object; the cells are JSON numbers already
    members = [", ".join(map("{}: {}".format, names, row)) for row in rows]
    explanations = to_json_objects(classifier, explanation) if explanation else []
    if content_type == JSON_LINES:
        if explanations:
            members = [
                f'{row}, "explanation": {reasons}'
                for row, reasons in zip(members, explanations, strict=True)
            ]
        return "".join(f"{{{row}}}\n" for row in members).encode()
    predictions = ", ".join(f"{{{row}}}" for row in members)
    explained = f', "explanations": [{", ".join(explanations)}]' if explanations else ""
    return f'{{"predictions": [{predictions}]{explained}}}\n'.encode()
