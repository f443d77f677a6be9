"""``model.json``, read and checked: a description that passes is that of a model that can answer.

What it says of the weights is checked against these in `lstmfcn.weights_file`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, StrictFloat, StrictInt, TypeAdapter, ValidationError

from lstmfcn.decision import Decision
from lstmfcn.errors import ModelError
from lstmfcn.files import read_regular
from lstmfcn.hyperparameters import Hyperparameters, explain
from lstmfcn.quoting import shown
from lstmfcn.scaling import Scaler
from lstmfcn.schema import SeriesSchema
from lstmfcn.task import task_of
from lstmfcn.weight_shapes import Tensor, tensors_of
from lstmfcn.weights_file import damaged

FORMAT_VERSION = 1

_MOST_BYTES = 1 << 26
"""Of the file: enough for a series of 500,000 values, each with its name, mean and deviation."""

_LARGEST = 1 << 53
_Number = (
    Annotated[StrictInt, Field(ge=-_LARGEST, le=_LARGEST)]
    | Annotated[StrictFloat, Field(allow_inf_nan=False)]
)
_Part = TypeVar("_Part")

_HYPERPARAMETERS, _SCHEMA = TypeAdapter(Hyperparameters), TypeAdapter(SeriesSchema)
_SCALER, _DECISION = TypeAdapter(Scaler), TypeAdapter(Decision)
_METRICS = TypeAdapter(dict[str, _Number])
_TRAINING = TypeAdapter(dict[str, Any])
_CHECKSUM = TypeAdapter(Annotated[str, Field(pattern="^[0-9a-f]{64}$")])


@dataclass(frozen=True)
class Description:
    """What a model.json says; as `lstmfcn.artifact.Artifact` has it.

    Attributes:
        sha256: of the description.
        weights_sha256: of the weights' file.
    """

    hyperparameters: Hyperparameters
    schema: SeriesSchema
    scaler: Scaler
    decision: Decision
    metrics: dict[str, Any]
    training: dict[str, Any]
    weights_sha256: str
    sha256: str

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Name, type and shape of each of the weights."""
        n_outputs = task_of(self.schema).n_outputs
        schema = self.schema
        return tensors_of(self.hyperparameters, schema.n_timepoints, n_outputs, schema.n_channels)


def read_description(path: Path) -> Description:
    """Read a model.json.

    Raises:
        ModelError: it is damaged, of another format version, or describes no model that can answer.
        OSError: it cannot be read.
    """
    written = _verified(read_regular(path, _MOST_BYTES), path)
    described = Description(
        hyperparameters=_part(written, "hyperparameters", _HYPERPARAMETERS, path),
        schema=_part(written, "schema", _SCHEMA, path),
        scaler=_part(written, "scaler", _SCALER, path),
        decision=_part({"decision": {}, **written}, "decision", _DECISION, path),
        metrics=_part(written, "metrics", _METRICS, path),
        training=_part(written, "training", _TRAINING, path),
        weights_sha256=_part(written, "weights_sha256", _CHECKSUM, path),
        sha256=checksum(written),
    )
    for fault in _faults(described):
        raise ModelError(f"{path}: {fault}; copy the model directory again or train anew")
    return described


def checksum(description: dict[str, Any]) -> str:
    """That of a description, of all fields but its own.

    Raises:
        ValueError: it holds nan or an infinite number.
    """
    text = json.dumps(description, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _verified(text: bytes, path: Path) -> dict[str, Any]:
    """The JSON object, of this format version, whose checksum is right."""
    try:
        written = json.loads(text)
        if not isinstance(written, dict) or "format_version" not in written:
            raise ModelError(f"{path}: found no lstmfcn model description; name a model directory")
        version = written["format_version"]
        if type(version) is not int or version != FORMAT_VERSION:
            text_of = version if isinstance(version, str) else shown(version)
            raise ModelError(
                f"{path}: found format version {text_of}, this lstmfcn reads {FORMAT_VERSION}; "
                "load it with the lstmfcn that wrote it"
            )
        stated = written.pop("description_sha256", None)
        if stated != checksum(written):
            raise damaged(path)
    except (ValueError, RecursionError) as error:
        raise damaged(path) from error
    return written


def _part(written: dict[str, Any], name: str, kind: TypeAdapter[_Part], path: Path) -> _Part:
    if name not in written:
        raise ModelError(f"{path}: found no {name}; copy the model directory again or train anew")
    try:
        return kind.validate_python(written[name])
    except ValidationError as error:
        raise ModelError(f"{path}: {explain(error, name)}") from error


def _faults(described: Description) -> Iterator[str]:
    """What does not fit together."""
    schema, scaler = described.schema, described.scaler
    yield from _schema_faults(schema)
    hyperparameters = described.hyperparameters
    for name, there, here in (
        ("task", schema.task, hyperparameters.task),
        ("missing", schema.missing, hyperparameters.missing),
    ):
        if there != here:
            yield f"found both {here} and {there} as {name}"
    if scaler.kind in ("global", "series") and scaler.n_channels != schema.n_channels:
        yield f"found a scaler of {scaler.n_channels} channels for {schema.n_channels}"
    if scaler.kind == "timestep" and len(scaler.mean) != schema.n_values:
        yield f"found {len(scaler.mean)} means in the scaler for {schema.n_values} values"
    n_thresholds = len(described.decision.thresholds)
    if n_thresholds and (schema.task != "multilabel" or n_thresholds != len(schema.classes)):
        yield f"found {n_thresholds} thresholds for {len(schema.classes)} {schema.task} classes"


def _schema_faults(schema: SeriesSchema) -> Iterator[str]:
    labels, values, classes = schema.label_columns, schema.value_columns, schema.classes
    for kind, names in (("label", labels), ("value", values), ("class", classes)):
        if not names or not all(names):
            yield f"found no {kind} names, or an empty one"
    if len({*labels, *values}) < len(labels) + len(values):
        yield "found a column twice"
    if len(values) % schema.n_channels:
        yield f"found {len(values)} values for {schema.n_channels} channels"
    if len(set(schema.probability_columns)) < len(schema.probability_columns):
        yield "found two classes or label columns of one name"
    if schema.holds_names:
        fits = len(classes) > 1
    elif schema.task == "binary" and len(labels) == 1:
        fits = classes == ("0", "1")
    else:
        fits = classes == labels and (schema.task != "binary" or len(labels) == 2)
    if not fits:
        yield f"found classes that are not those of {len(labels)} {schema.task} label columns"
