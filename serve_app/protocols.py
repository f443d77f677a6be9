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
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from lstmfcn.cells import FloatArray
from lstmfcn.classifier import Classifier
from lstmfcn.csv_lines import refuse_first_fault
from lstmfcn.errors import DataError
from lstmfcn.explanation import Explanation
from lstmfcn.prediction import csv_line, prediction_columns, prediction_rows
from lstmfcn.schema import SeriesSchema
from serve_app.explaining import json_objects
from serve_app.json_series import series_of
from serve_app.request_errors import RequestError

CSV, JSON, JSON_LINES = "text/csv", "application/json", "application/jsonlines"
TYPES = (CSV, JSON, JSON_LINES)

Matrix = npt.NDArray[Any]

_HALF_WAY = 0x10000000
"""The bits of a 64-bit number, below those of a 32-bit one, where it lies between two of them."""


def content_type_of(header: str | None) -> str:
    """The type of a request's body.

    Raises:
        RequestError: 415 for a type that is not among `TYPES`.
    """
    name = (header or "").partition(";")[0].strip().lower()
    if name not in TYPES:
        found = repr(name) if name else "no content type"
        raise RequestError(415, f"found {found}; send Content-Type {', '.join(TYPES)}")
    return name


def answer_type_of(accept: str | None, content_type: str, explains: bool = False) -> str:
    """The type of the answer: the first that the client names, else the request's own.

    Raises:
        RequestError: 406 where the client accepts none, or CSV with explanations.
    """
    found = _accepted(accept, content_type)
    if explains and found == CSV:
        raise RequestError(406, f"found explanations asked for in {CSV}; send Accept: {JSON}")
    return found


def _accepted(accept: str | None, content_type: str) -> str:
    for part in (accept or "*/*").split(","):
        name = part.partition(";")[0].strip().lower()
        if name in TYPES:
            return name
        if name in ("*/*", ""):
            return content_type
        if name.endswith("/*"):
            matching = (kind for kind in (content_type, *TYPES) if kind.startswith(name[:-1]))
            if found := next(matching, None):
                return found
    raise RequestError(406, f"found Accept {accept!r}; answers are {', '.join(TYPES)}")


def decode(content_type: str, body: bytes, schema: SeriesSchema, max_rows: int) -> Matrix:
    """The series of a request, numbers (N, V).

    Raises:
        DataError: the body cannot be read as that.
        RequestError: 413 where it holds more than ``max_rows``.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError("bytes that are no UTF-8", "send the body as UTF-8") from error
    return _DECODERS[content_type](text, schema, max_rows)


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


def _decode_csv(text: str, schema: SeriesSchema, max_rows: int) -> Matrix:
    text = text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\n")
    try:
        return _decode_lines(text, schema, max_rows)
    except csv.Error as error:
        raise DataError(f"what is no CSV ({error})", "correct it") from error


def _decode_lines(text: str, schema: SeriesSchema, max_rows: int) -> Matrix:
    first, _, below = text.partition("\n")
    header = None
    if "x" in first or "y" in first:  # as in the names of columns, and in no number
        header = next(csv.reader([first]), [])
        schema.check_header(header, None, labels=False)
        text = below
    if not text.strip():
        raise DataError("no rows", "send at least one series")
    _refuse_too_many(text.rstrip("\n").count("\n") + 1, max_rows)
    columns = header or list(schema.value_columns)
    try:
        return _parse_csv(text, columns, schema)
    except ValueError:
        refuse_first_fault(csv.reader(io.StringIO(text)), columns, schema.value_columns, schema)
        return _parse_as_shards(text, columns, schema)


def _parse_csv(text: str, columns: list[str], schema: SeriesSchema) -> Matrix:
    """Values (N, V), in the schema's order; ValueError where a row is not as it should be.

    64-bit numbers that lie half way between two 32-bit ones were rounded already, and would be a
    second time: such bodies, next to none, are read as shards are.
    """
    usecols = None
    if tuple(columns) != schema.value_columns:
        places = {name: i for i, name in enumerate(columns)}
        usecols = [places[name] for name in schema.value_columns]
        if any(len(row) not in (0, len(columns)) for row in csv.reader(io.StringIO(text))):
            raise ValueError("ragged")  # which the parser does not mind in columns not used
    exact = np.loadtxt(
        io.StringIO(text),
        np.float64,
        comments=None,
        delimiter=",",
        quotechar='"',
        usecols=usecols,
        ndmin=2,
    )
    if exact.shape[1] != schema.n_values:
        raise ValueError("too few or too many cells")
    if ((exact.view(np.int64) & (2 * _HALF_WAY - 1)) == _HALF_WAY).any():
        return _parse_as_shards(text, columns, schema)
    return exact


def _parse_as_shards(text: str, columns: list[str], schema: SeriesSchema) -> Matrix:
    """The same slowly, straight to 32 bits; faults are named."""
    try:
        table = pa.csv.read_csv(
            pa.py_buffer(text.encode()),
            read_options=pa.csv.ReadOptions(column_names=columns, use_threads=False),
            convert_options=pa.csv.ConvertOptions(
                column_types=schema.column_types(labels=False),
                include_columns=list(schema.value_columns),
                null_values=schema.gap_texts,
            ),
        )
    except pa.ArrowInvalid as error:
        raise DataError("rows that cannot be read", "send numbers, separated by commas") from error
    return schema.encode_values(table)


def _decode_json(text: str, schema: SeriesSchema, max_rows: int) -> Matrix:
    content = _loaded(text)
    if not isinstance(content, dict) or not isinstance(content.get("instances"), list):
        raise DataError("no list of instances", 'send {"instances": [[...], ...]}')
    rows = content["instances"]
    _refuse_too_many(len(rows), max_rows)
    return series_of(rows, text, schema)


def _decode_json_lines(text: str, schema: SeriesSchema, max_rows: int) -> Matrix:
    lines = [line for line in text.splitlines() if line.strip()]
    _refuse_too_many(len(lines), max_rows)
    rows = [_loaded(line, row) for row, line in enumerate(lines, start=1)]
    return series_of(rows, text, schema)


def _loaded(text: str, row: int | None = None) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"what is no JSON ({error})", "correct it", row=row) from error


def _refuse_too_many(n_rows: int, max_rows: int) -> None:
    if n_rows > max_rows:
        raise RequestError(
            413, f"found {n_rows} rows; send at most {max_rows} a request, or use lstmfcn predict"
        )


_DECODERS: dict[str, Callable[[str, SeriesSchema, int], Matrix]] = {
    CSV: _decode_csv,
    JSON: _decode_json,
    JSON_LINES: _decode_json_lines,
}
