"""One model directory: ``model.safetensors`` and ``model.json``, nothing pickled.

model.json holds the format version, hyperparameters, schema, scaler, the decision where one was
fitted, the best epoch's metrics, how the model was trained, library versions, the checksum of the
weights, and its own checksum.
"""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from pydantic import ValidationError
from torch import Tensor

import lstmfcn
from lstmfcn.decision import Decision
from lstmfcn.errors import ModelError
from lstmfcn.files import whole_folder
from lstmfcn.hyperparameters import Hyperparameters, explain
from lstmfcn.model import LSTMFCN, Ensemble, network_of
from lstmfcn.scaling import Scaler
from lstmfcn.schema import SeriesSchema
from lstmfcn.task import task_of

FORMAT_VERSION = 1
WEIGHTS_FILE, DESCRIPTION_FILE = "model.safetensors", "model.json"


@dataclass(frozen=True)
class Artifact:
    """Everything that prediction and further training need.

    Attributes:
        weights: the network's state, on the CPU.
        metrics: of the epoch that was kept.
        training: how it came to be: data, workers, precision, the model it began from.
        sha256: of the description that was loaded, which holds the weights' own.
        decision: temperature and thresholds; a model that was not calibrated has the default, and
            does not write it.
    """

    hyperparameters: Hyperparameters
    schema: SeriesSchema
    scaler: Scaler
    weights: dict[str, Tensor]
    metrics: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""
    decision: Decision = Decision()

    def network(self) -> LSTMFCN | Ensemble:
        """The network with these weights.

        Raises:
            ModelError: the weights are not those of the described network.
        """
        n_outputs = task_of(self.schema).n_outputs
        schema = self.schema
        network = network_of(
            self.hyperparameters, schema.n_timepoints, n_outputs, schema.n_channels
        )
        try:
            network.load_state_dict(self.weights)
        except RuntimeError as error:
            raise ModelError(
                f"{WEIGHTS_FILE} does not fit {DESCRIPTION_FILE}; copy both from one directory"
            ) from error
        return network

    def save(self, directory: Path | str) -> None:
        """Write the directory whole, in place of a model that stands there.

        Raises:
            OutputError: it cannot be written.
        """
        with whole_folder(Path(directory)) as unfinished:
            self._write(unfinished)

    def _write(self, directory: Path) -> None:
        tensors = {name: tensor.contiguous() for name, tensor in self.weights.items()}
        weights = safetensors.torch.save(tensors)
        description = {
            "format_version": FORMAT_VERSION,
            "hyperparameters": self.hyperparameters.flags(),
            "schema": self.schema.model_dump(mode="json"),
            "scaler": self.scaler.model_dump(mode="json"),
            **self._fitted_decision(),
            "metrics": self.metrics,
            "training": self.training,
            "versions": {
                "lstmfcn": lstmfcn.__version__,
                "python": platform.python_version(),
                "torch": torch.__version__,
                "numpy": np.__version__,
            },
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
        }
        description["description_sha256"] = _checksum(description)
        (directory / WEIGHTS_FILE).write_bytes(weights)
        text = json.dumps(description, indent=2, allow_nan=False)
        (directory / DESCRIPTION_FILE).write_text(text + "\n", encoding="utf-8")

    def _fitted_decision(self) -> dict[str, Any]:
        if self.decision == Decision():
            return {}
        return {"decision": self.decision.model_dump(mode="json")}

    @classmethod
    def load(cls, directory: Path | str) -> Artifact:
        """Read and verify a model directory.

        Raises:
            ModelError: it is missing, incomplete, damaged, or of another format version.
        """
        folder = Path(directory)
        description = _read_description(folder)
        weights = _read(folder, WEIGHTS_FILE)
        if hashlib.sha256(weights).hexdigest() != description["weights_sha256"]:
            raise _damaged(folder / WEIGHTS_FILE)
        try:
            return cls(
                hyperparameters=Hyperparameters.model_validate(description["hyperparameters"]),
                schema=SeriesSchema.model_validate(description["schema"]),
                scaler=Scaler.model_validate(description["scaler"]),
                weights=safetensors.torch.load(weights),
                metrics=description["metrics"],
                training=description["training"],
                sha256=_checksum(description),
                decision=Decision.model_validate(description.get("decision", {})),
            )
        except ValidationError as error:
            raise ModelError(f"{folder / DESCRIPTION_FILE}: {explain(error)}") from error


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION_FILE
    text = _read(folder, DESCRIPTION_FILE)
    try:
        description = json.loads(text)
        if not isinstance(description, dict) or "format_version" not in description:
            raise ModelError(f"{path}: found no lstmfcn model description; name a model directory")
        version = description["format_version"]
        if version != FORMAT_VERSION:
            raise ModelError(
                f"{path}: found format version {version}, this lstmfcn reads {FORMAT_VERSION}; "
                "load it with the lstmfcn that wrote it"
            )
        stated = description.pop("description_sha256", None)
        if stated != _checksum(description):
            raise _damaged(path)
    except (ValueError, RecursionError) as error:
        raise _damaged(path) from error
    return description


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise ModelError(
            f"{folder}: found no readable {name} ({error.strerror}); name a model directory, "
            "such as the model folder of a training output"
        ) from error


def _damaged(path: Path) -> ModelError:
    return ModelError(
        f"{path}: found content that is not what was saved (its checksum differs); "
        "copy the model directory again or train anew"
    )


def _checksum(description: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()
