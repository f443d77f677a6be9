"""What a request and its answer look like in bytes: CSV, JSON and JSON lines.

=========================  =======================================  ============================
content type               request                                  answer
=========================  =======================================  ============================
``text/csv``               rows, with or without a header           header, labels, probabilities
``application/json``       ``{"instances": [[1.5, ...], ...]}``     ``{"predictions": [{...}]}``
``application/jsonlines``  ``[1.5, ...]`` a line                    ``{...}`` a line
=========================  =======================================  ============================

Explanations, where they are asked for, are a list of objects under ``explanations`` in JSON, and
stand in each line under ``explanation`` in JSON lines; CSV has no place for them.

A series of several channels is a flat list, channel after channel, or a list of a list a channel.
Rows count from 1. With a CSV header, values are matched by name and other columns are ignored.

A body is bounded before it is read: `most_bytes` is what the rows of a request can need.
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
from serve_app.explanations import json_objects
from serve_app.json_codec import parse_json, parse_json_series, refuse_overlong

CSV, JSON, JSON_LINES = "text/csv", "application/json", "application/jsonlines"
TYPES = (CSV, JSON, JSON_LINES)

_QUALITY = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?")
_HEADER = {"present": True, "absent": False}


Matrix = npt.NDArray[Any]

LONG_BODY = 1 << 18
"""Bytes from which on a body is read, and its answer written, beside the event loop."""

MOST_VALUES = 1 << 25
"""Values of a request, with those that pad short series: what a body of 64 MiB can hold."""

_BYTES_A_VALUE, _BYTES_BESIDE = 40, 1024
"""A value of 64 bits, its separator and indentation; what else a row may hold."""

_BOM = b"\xef\xbb\xbf"


class ContentType(NamedTuple):
    """The type of a body.

    Attributes:
        name: among `TYPES`.
        has_header: of CSV, whether its first line names columns; None where that is not said.
    """

    name: str
    has_header: bool | None = None


@lru_cache(64)
def request_type(header: str | None) -> ContentType:
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
def response_type(accept: str | None, content_type: str, explains: bool = False) -> str:
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


def most_bytes(schema: SeriesSchema, max_rows: int) -> int:
    """What a body of ``max_rows`` series, and a header, can need."""
    return (max_rows + 1) * (_BYTES_A_VALUE * schema.n_values + _BYTES_BESIDE)


def is_long_to_read(body: bytes, schema: SeriesSchema) -> bool:
    """Whether a body is long, or may be of many short series, which are padded."""
    if len(body) > LONG_BODY:
        return True
    return schema.missing == "mask" and body.count(b"[") * schema.n_values > LONG_BODY


def decode(kind: ContentType, body: bytes, schema: SeriesSchema, max_rows: int) -> Matrix:
    """The series of a request, numbers (N, V).

    Raises:
        DataError: the body cannot be read as that.
        RequestError: 413 where it holds more than ``max_rows``, or needs more memory than there is.
    """
    try:
        if kind.name == CSV:
            return parse_csv_series(body.decode("utf-8-sig"), schema, max_rows, kind.has_header)
        return _decode_json(kind.name, body.removeprefix(_BOM), schema, max_rows)
    except UnicodeDecodeError as error:
        raise DataError("bytes that are no UTF-8", "send the body as UTF-8") from error
    except MemoryError as error:
        raise RequestError(413, "found no memory for so large a body; send fewer rows") from error


def _decode_json(name: str, body: bytes, schema: SeriesSchema, max_rows: int) -> Matrix:
    if len(body) > LONG_BODY:
        refuse_overlong(body, schema, max_rows)
    rows = (_lines if name == JSON_LINES else _instances)(body, schema, max_rows)
    if len(rows) > max_rows:
        raise too_many_rows(len(rows), max_rows)
    if len(rows) * schema.n_values > MOST_VALUES:
        raise too_many_rows(len(rows), MOST_VALUES // schema.n_values)
    return parse_json_series(rows, schema)


def _instances(body: bytes, schema: SeriesSchema, _max_rows: int) -> list[Any]:
    content = parse_json(body, schema)
    rows = content.get("instances") if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise DataError("no list of instances", 'send {"instances": [[...], ...]}')
    if (times := body.count(b'"instances"')) > 1:
        raise DataError(f'"instances" {times} times', "send it once")
    return rows


def _lines(body: bytes, schema: SeriesSchema, max_rows: int) -> list[Any]:
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
    """The answer to series with these probabilities (N, L), and perhaps their explanation."""
    columns = list_prediction_columns(classifier.schema)
    rows = format_predictions(classifier, probabilities)
    if content_type == CSV:
        return "".join(map(csv_line, [columns, *rows])).encode()
    names = [json.dumps(column) for column in columns]
    if classifier.schema.holds_names:
        rows = [[json.dumps(name), *shares] for name, *shares in rows]
    objects = [
        "{" + ", ".join(map("{}: {}".format, names, row)) + "}"  # the cells are numbers already
        for row in rows
    ]
    explained = json_objects(classifier, explanation) if explanation else []
    if content_type == JSON_LINES:
        if explained:
            objects = [
                f'{row[:-1]}, "explanation": {reasons}}}'
                for row, reasons in zip(objects, explained, strict=True)
            ]
        return "".join(f"{line}\n" for line in objects).encode()
    reasons = ', "explanations": [' + ", ".join(explained) + "]" if explained else ""
    return ('{"predictions": [' + ", ".join(objects) + "]" + reasons + "}\n").encode()
