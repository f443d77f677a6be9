"""Explanations on their way: whether a request asks for them, their computing, their JSON.

They are asked for by the parameter ``explain=true``, or by SageMaker's header, which holds a
JMESPath expression ("The EnableExplanations expression", SageMaker developer guide). Its constants
true and false are understood, in the backquotes of a JMESPath literal and without.

Shapes: N rows, K outputs, T timepoints.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import numpy as np

from lstmfcn.cells import FloatArray
from lstmfcn.classifier import Classifier
from lstmfcn.explanation import Explanation, explained_outputs
from serve_app.request_errors import RequestError

PARAMETER, HEADER = "explain", "X-Amzn-SageMaker-Enable-Explanations"
CONSTANTS = {"true": True, "false": False, "`true`": True, "`false`": False}
SPELLINGS = {"true": True, "True": True, "1": True, "yes": True} | {
    "false": False,
    "False": False,
    "0": False,
    "no": False,
}
"""Of the parameter: as JavaScript and Python write it, and as people do."""

MOST_NUMBERS = 1 << 18
"""Timepoints' terms in one answer, of all its rows and outputs: some 3 MB of JSON, half a second of
writing. A plain answer of the most rows has a tenth of it."""


def is_asked_for(parameters: Sequence[str], header: str | None) -> bool:
    """Whether a request asks for explanations.

    Args:
        parameters: each ``explain`` of the URL.
        header: SageMaker's, where there is one.

    Raises:
        RequestError: 400 for what is neither true nor false.
    """
    if len(parameters) > 1:
        raise RequestError(400, f"found {len(parameters)} times {PARAMETER}; give it once")
    if parameters and parameters[0] not in SPELLINGS:
        raise RequestError(400, f"found {PARAMETER}={parameters[0]}; give true or false")
    if header is not None and header.strip() not in CONSTANTS:
        raise RequestError(400, f"found {HEADER} {header!r}; send `true` or `false`")
    by_header = header is not None and CONSTANTS[header.strip()]
    return by_header or any(SPELLINGS[parameter] for parameter in parameters)


def refuse_many(classifier: Classifier, n_rows: int) -> None:
    """Refuse rows whose explanations would fill more than `MOST_NUMBERS`.

    Raises:
        RequestError: 413.
    """
    schema = classifier.schema
    most = max(1, MOST_NUMBERS // (len(explained_outputs(schema)) * schema.n_timepoints))
    if n_rows > most:
        raise RequestError(
            413,
            f"found {n_rows} rows; send at most {most} a request with explanations, "
            "or use lstmfcn predict --explain",
        )


def packed(explanation: Explanation) -> FloatArray:
    """An explanation as one array, (N, K, 3 + T), whose rows can be cut and joined."""
    logits, bias, lstm, timepoints = explanation
    each = np.stack([logits, np.broadcast_to(bias, logits.shape), lstm], axis=-1)
    return np.concatenate([each, timepoints], axis=-1)


def unpacked(found: FloatArray) -> Explanation:
    """The explanation of one row or more."""
    return Explanation(found[..., 0], found[0, :, 1], found[..., 2], found[..., 3:])


def json_objects(classifier: Classifier, explanation: Explanation) -> list[str]:
    """Each row's explanation as JSON.

    Numbers have the fewest digits that give back the same 32-bit number.
    """
    names = [json.dumps(name) for name in explained_outputs(classifier.schema)]
    bias = _by_output(names, map(str, explanation.bias))
    return [
        f'{{"bias": {bias}, "lstm": {_by_output(names, map(str, lstm))}, '
        f'"timepoints": {_by_output(names, map(_list, timepoints))}, '
        f'"logits": {_by_output(names, map(str, logits))}}}'
        for logits, lstm, timepoints in zip(
            explanation.logits, explanation.lstm, explanation.timepoints, strict=True
        )
    ]


def _by_output(names: list[str], texts: Iterable[str]) -> str:
    return "{" + ", ".join(map("{}: {}".format, names, texts)) + "}"


def _list(numbers: FloatArray) -> str:
    return "[" + ", ".join(map(str, numbers)) + "]"
