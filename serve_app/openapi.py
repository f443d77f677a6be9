"""Describe the endpoint in OpenAPI; the page at ``/docs`` shows it."""

from __future__ import annotations

from typing import Any

import lstmfcn
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.inference.explanation import outputs_to_explain
from lstmfcn.inference.predict_shards import list_prediction_columns
from lstmfcn.inference.predictor import Classifier
from serve_app.codecs import CSV, JSON, JSON_LINES
from serve_app.explanations import CONSTANTS, HEADER, PARAMETER, SPELLINGS

_STATUSES = {
    "400": "the body breaks the data contract; `row` and `column` say where",
    "401": "a token is needed",
    "403": "a web page of an origin that is not allowed",
    "404": "no endpoint has that name",
    "406": "no answer has that type",
    "408": "the body did not arrive in time",
    "413": "too many bytes or rows",
    "415": "the content type is not supported",
    "421": "a host name that is not allowed",
    "503": "too many rows or bytes wait; `Retry-After` says when to try again",
}

_EXPLAIN_PARAMETERS = [
    {
        "name": PARAMETER,
        "in": "query",
        "description": "whether to explain the predictions, in JSON or JSON lines",
        "schema": {"enum": list(SPELLINGS), "default": "false"},
    },
    {
        "name": HEADER,
        "in": "header",
        "description": f"the same as {PARAMETER}, for boto3's EnableExplanations",
        "schema": {"enum": list(CONSTANTS)},
    },
]


def describe_api(classifier: Classifier, needs_token: bool) -> dict[str, Any]:
    """The OpenAPI 3.1 description, with the series and labels of one model."""
    invocation = _invocation(_instances(classifier.schema), _predictions(classifier.schema))
    named = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    described: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "lstmfcn", "version": lstmfcn.__version__},
        "paths": {
            "/invocations": {"post": invocation},
            "/endpoints/{name}/invocations": {
                "post": {**invocation, "parameters": [named, *invocation["parameters"]]}
            },
            "/endpoints": {"get": _simple("List the endpoints", "401")},
            "/model": {"get": _simple("Describe the model", "401", "503")},
            "/endpoints/{name}/model": {
                "get": {**_simple("Describe a model", "401", "404", "503"), "parameters": [named]}
            },
            "/ping": {"get": _simple("Check that the endpoint answers", "503")},
        },
    }
    if needs_token:
        described["components"] = {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "password": {"type": "http", "scheme": "basic"},
            }
        }
        described["security"] = [{"token": []}, {"password": []}]
    return described


def _invocation(instances: dict[str, Any], predictions: dict[str, Any]) -> dict[str, Any]:
    text = {"schema": {"type": "string"}}
    return {
        "summary": "Predict series, and explain the predictions",
        "parameters": _EXPLAIN_PARAMETERS,
        "requestBody": {"required": True, "content": _content(instances, text)},
        "responses": {
            "200": {
                "description": "labels and probabilities, in the order of the series",
                "content": _content(predictions, text),
            },
            **_refusals(*_STATUSES),
        },
    }


def _content(json_schema: dict[str, Any], text: dict[str, Any]) -> dict[str, Any]:
    return {JSON: {"schema": json_schema}, CSV: text, JSON_LINES: text}


def _instances(schema: SeriesSchema) -> dict[str, Any]:
    number: dict[str, Any] = {"type": "number", "minimum": -1e30, "maximum": 1e30}
    shortest = schema.n_timepoints
    if schema.missing == "mask":
        number["type"], shortest = ["number", "null"], 1
    if schema.n_channels == 1:
        series = _array_of(number, schema.n_timepoints, shortest)
    else:
        channel = _array_of(number, schema.n_timepoints, shortest)
        flat = _array_of(number, schema.n_values, schema.n_values)
        series = {"anyOf": [flat, _array_of(channel, schema.n_channels, schema.n_channels)]}
    return _object_of({"instances": {"type": "array", "items": series, "minItems": 1}})


def _array_of(items: dict[str, Any], longest: int, shortest: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": shortest, "maxItems": longest}


def _predictions(schema: SeriesSchema) -> dict[str, Any]:
    columns = list_prediction_columns(schema)
    n_labels = len(schema.label_columns)
    label = {"type": "string"} if schema.holds_names else {"enum": [0, 1]}
    probability = {"type": "number", "minimum": 0, "maximum": 1}
    cells = [label] * n_labels + [probability] * (len(columns) - n_labels)
    prediction = _object_of(dict(zip(columns, cells, strict=True)))
    described = _object_of({"predictions": {"type": "array", "items": prediction}})
    described["properties"]["explanations"] = {"type": "array", "items": _explanation(schema)}
    return described


def _explanation(schema: SeriesSchema) -> dict[str, Any]:
    number = {"type": "number"}
    terms = _array_of(number, schema.n_timepoints, schema.n_timepoints)
    parts = {"bias": number, "lstm": number, "timepoints": terms, "logits": number}
    outputs = outputs_to_explain(schema)
    return _object_of({part: _object_of(dict.fromkeys(outputs, of)) for part, of in parts.items()})


def _object_of(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _simple(summary: str, *refusals: str) -> dict[str, Any]:
    return {
        "summary": summary,
        "responses": {"200": {"description": "the answer"}, **_refusals(*refusals)},
    }


def _refusals(*statuses: str) -> dict[str, Any]:
    return {status: {"description": _STATUSES[status]} for status in statuses}
