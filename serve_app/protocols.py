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
from typing import Any

import numpy.typing as npt

from lstmfcn.cells import FloatArray
from lstmfcn.classifier import Classifier
from lstmfcn.errors import DataError
from lstmfcn.explanation import Explanation
from lstmfcn.prediction import csv_line, prediction_columns, prediction_rows
from lstmfcn.schema import SeriesSchema
from serve_app.content_types import CSV, JSON_LINES, ContentType
from serve_app.csv_series import series_of_csv
from serve_app.explaining import json_objects
from serve_app.json_series import loaded, refuse_overlong, series_of
from serve_app.request_errors import RequestError, too_many_rows

Matrix = npt.NDArray[Any]

LONG_BODY = 1 << 18
"""Bytes from which on a body is read, and its answer written, beside the event loop."""

MOST_VALUES = 1 << 25
"""Values of a request, with those that pad short series: what a body of 64 MiB can hold."""

_BYTES_A_VALUE, _BYTES_BESIDE = 40, 1024
"""A value of 64 bits, its separator and indentation; what else a row may hold."""

_BOM = b"\xef\xbb\xbf"


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
            return series_of_csv(body.decode("utf-8-sig"), schema, max_rows, kind.has_header)
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
    return series_of(rows, schema)


def _instances(body: bytes, schema: SeriesSchema, _max_rows: int) -> list[Any]:
    content = loaded(body, schema)
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
    return [loaded(line, schema, row) for row, line in enumerate(lines, start=1)]


def encode(
    content_type: str,
    classifier: Classifier,
    probabilities: FloatArray,
    explanation: Explanation | None = None,
) -> bytes:
    """The answer to series with these probabilities (N, L), and perhaps their explanation."""
    columns = prediction_columns(classifier.schema)
    rows = prediction_rows(classifier, probabilities)
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
