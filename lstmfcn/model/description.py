"""Read and validate ``model.json``; a description that passes belongs to a model that can predict.

`lstmfcn.model.weights_file` checks the weights against it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, StrictFloat, StrictInt, TypeAdapter, ValidationError

from lstmfcn.data.scaler import Scaler
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.errors import ModelError, shown
from lstmfcn.hyperparameters import Hyperparameters, format_validation_error
from lstmfcn.model.task import Decision, make_task
from lstmfcn.model.weight_shapes import TensorShape, expected_tensors
from lstmfcn.model.weights_file import damage_error
from lstmfcn.storage.files import read_regular

FORMAT_VERSION = 1

_MAX_BYTES = 1 << 26
"""File size limit: enough for 500,000 values per series, each with name, mean and deviation."""

_LARGEST = 1 << 53
_Number = (
    Annotated[StrictInt, Field(ge=-_LARGEST, le=_LARGEST)]
    | Annotated[StrictFloat, Field(allow_inf_nan=False)]
)
_Section = TypeVar("_Section")

_HYPERPARAMETERS, _SCHEMA = TypeAdapter(Hyperparameters), TypeAdapter(SeriesSchema)
_SCALER, _DECISION = TypeAdapter(Scaler), TypeAdapter(Decision)
_METRICS = TypeAdapter(dict[str, _Number])
_TRAINING = TypeAdapter(dict[str, Any])
_CHECKSUM = TypeAdapter(Annotated[str, Field(pattern="^[0-9a-f]{64}$")])


@dataclass(frozen=True)
class Description:
    """The content of a model.json, with its own checksum; see `lstmfcn.model.artifact.Artifact`."""

    hyperparameters: Hyperparameters
    schema: SeriesSchema
    scaler: Scaler
    decision: Decision
    metrics: dict[str, Any]
    training: dict[str, Any]
    weights_sha256: str
    sha256: str

    def tensors(self) -> Iterator[tuple[str, TensorShape]]:
        """Yield name, dtype and shape of each of the weights."""
        n_outputs = make_task(self.schema).n_outputs
        schema = self.schema
        return expected_tensors(
            self.hyperparameters, schema.n_timepoints, n_outputs, schema.n_channels
        )


def read_description(path: Path) -> Description:
    """Read a model.json.

    Raises:
        ModelError: it is damaged, has another format version, or its parts contradict each other.
        OSError: it cannot be read.
    """
    content = _parse_verified(read_regular(path, _MAX_BYTES), path)
    described = Description(
        hyperparameters=_validate_section(content, "hyperparameters", _HYPERPARAMETERS, path),
        schema=_validate_section(content, "schema", _SCHEMA, path),
        scaler=_validate_section(content, "scaler", _SCALER, path),
        decision=_validate_section({"decision": {}, **content}, "decision", _DECISION, path),
        metrics=_validate_section(content, "metrics", _METRICS, path),
        training=_validate_section(content, "training", _TRAINING, path),
        weights_sha256=_validate_section(content, "weights_sha256", _CHECKSUM, path),
        sha256=compute_checksum(content),
    )
    for fault in _find_faults(described):
        raise ModelError(f"{path}: {fault}; copy the model directory again or train a new model")
    return described


def compute_checksum(description: dict[str, Any]) -> str:
    """Return the checksum of a description without its own; nan and inf raise `ValueError`."""
    text = json.dumps(description, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _parse_verified(text: bytes, path: Path) -> dict[str, Any]:
    """Parse the JSON object, and check its format version and its checksum."""
    try:
        content = json.loads(text)
        if not isinstance(content, dict) or "format_version" not in content:
            raise ModelError(f"{path}: found no lstmfcn model description; name a model directory")
        version = content["format_version"]
        if type(version) is not int or version != FORMAT_VERSION:
            version_text = version if isinstance(version, str) else shown(version)
            raise ModelError(
                f"{path}: found format version {version_text}, this lstmfcn reads "
                f"{FORMAT_VERSION}; load it with the lstmfcn that wrote it"
            )
        stated_checksum = content.pop("description_sha256", None)
        if stated_checksum != compute_checksum(content):
            raise damage_error(path)
    except (ValueError, RecursionError) as error:
        raise damage_error(path) from error
    return content


def _validate_section(
    content: dict[str, Any], name: str, kind: TypeAdapter[_Section], path: Path
) -> _Section:
    if name not in content:
        raise ModelError(
            f"{path}: found no {name}; copy the model directory again or train a new model"
        )
    try:
        return kind.validate_python(content[name])
    except ValidationError as error:
        raise ModelError(f"{path}: {format_validation_error(error, name)}") from error


def _find_faults(described: Description) -> Iterator[str]:
    """Yield each contradiction between the sections."""
    schema, scaler = described.schema, described.scaler
    yield from _find_schema_faults(schema)
    hyperparameters = described.hyperparameters
    for name, of_schema, of_hyperparameters in (
        ("task", schema.task, hyperparameters.task),
        ("missing", schema.missing, hyperparameters.missing),
    ):
        if of_schema != of_hyperparameters:
            yield f"found both {of_hyperparameters} and {of_schema} as {name}"
    if scaler.kind in ("global", "series") and scaler.n_channels != schema.n_channels:
        yield f"found a scaler of {scaler.n_channels} channels for {schema.n_channels}"
    if scaler.kind == "timestep" and len(scaler.mean) != schema.n_values:
        yield f"found {len(scaler.mean)} means in the scaler for {schema.n_values} values"
    n_thresholds = len(described.decision.thresholds)
    if n_thresholds and (schema.task != "multilabel" or n_thresholds != len(schema.classes)):
        yield f"found {n_thresholds} thresholds for {len(schema.classes)} {schema.task} classes"


def _find_schema_faults(schema: SeriesSchema) -> Iterator[str]:
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
