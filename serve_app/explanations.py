"""Explanations of predictions: whether a request asks for them, and their JSON.

A request asks by the parameter ``explain=true``, or by SageMaker's header, which holds a JMESPath
expression ("The EnableExplanations expression", SageMaker developer guide). Its constants true and
false are understood, with the backquotes of a JMESPath literal and without.

Shapes: N rows, K outputs, T timepoints.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import numpy as np

from lstmfcn.data.table import FloatArray
from lstmfcn.inference.explanation import Explanation, outputs_to_explain
from lstmfcn.inference.predictor import Classifier
from serve_app.errors import RequestError

PARAMETER, HEADER = "explain", "X-Amzn-SageMaker-Enable-Explanations"
CONSTANTS = {"true": True, "false": False, "`true`": True, "`false`": False}
SPELLINGS = {"true": True, "True": True, "1": True, "yes": True} | {
    "false": False,
    "False": False,
    "0": False,
    "no": False,
}
"""The values of the parameter: as JavaScript, Python and people write them."""

MAX_NUMBERS = 1 << 18
"""Numbers in the explanations of one answer: some 3 MB of JSON, which take half a second to write.
A plain answer with the most rows has a tenth of that."""


def wants_explanations(parameters: Sequence[str], header: str | None) -> bool:
    """Whether a request asks for explanations.

    Args:
        parameters: each ``explain`` of the URL.

    Raises:
        RequestError: 400 for anything but true or false.
    """
    if len(parameters) > 1:
        raise RequestError(400, f"found {PARAMETER} {len(parameters)} times; send it once")
    if parameters and parameters[0] not in SPELLINGS:
        raise RequestError(400, f"found {PARAMETER}={parameters[0]}; send true or false")
    if header is not None and header.strip() not in CONSTANTS:
        raise RequestError(400, f"found {HEADER} {header!r}; send `true` or `false`")
    by_header = header is not None and CONSTANTS[header.strip()]
    return by_header or any(SPELLINGS[parameter] for parameter in parameters)


def refuse_too_many_rows(classifier: Classifier, n_rows: int) -> None:
    """Refuse (413) rows whose explanations would hold more than `MAX_NUMBERS`."""
    schema = classifier.schema
    max_rows = max(1, MAX_NUMBERS // (len(outputs_to_explain(schema)) * schema.n_timepoints))
    if n_rows > max_rows:
        raise RequestError(
            413,
            f"found {n_rows} rows; send at most {max_rows} per request with explanations, "
            "or use lstmfcn predict --explain",
        )


def pack(explanation: Explanation) -> FloatArray:
    """Put an explanation into one array (N, K, 3 + T), whose rows can be cut and joined."""
    logits, bias, lstm, timepoints = explanation
    each = np.stack([logits, np.broadcast_to(bias, logits.shape), lstm], axis=-1)
    return np.concatenate([each, timepoints], axis=-1)


def unpack(packed: FloatArray) -> Explanation:
    """Take the explanation of one row or more out of a packed array (N, K, 3 + T)."""
    return Explanation(packed[..., 0], packed[0, :, 1], packed[..., 2], packed[..., 3:])


def to_json_objects(classifier: Classifier, explanation: Explanation) -> list[str]:
    """Write each row's explanation as JSON.

    Numbers have the fewest digits that give back the same 32-bit number.
    """
    names = [json.dumps(name) for name in outputs_to_explain(classifier.schema)]
    bias = _by_output(names, map(str, explanation.bias))
    return [
        f'{{"bias": {bias}, "lstm": {_by_output(names, map(str, lstm))}, '
        f'"timepoints": {_by_output(names, map(_to_list, timepoints))}, '
        f'"logits": {_by_output(names, map(str, logits))}}}'
        for logits, lstm, timepoints in zip(
            explanation.logits, explanation.lstm, explanation.timepoints, strict=True
        )
    ]


def _by_output(names: list[str], texts: Iterable[str]) -> str:
    return "{" + ", ".join(map("{}: {}".format, names, texts)) + "}"


def _to_list(numbers: FloatArray) -> str:
    return "[" + ", ".join(map(str, numbers)) + "]"
