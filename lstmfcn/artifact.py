"""One model directory: ``model.safetensors`` and ``model.json``, nothing pickled.

model.json holds the format version, hyperparameters, schema, scaler, the decision where one was
fitted, the best epoch's metrics, how the model was trained, library versions, the checksum of the
weights, and its own checksum.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

import lstmfcn
from lstmfcn.decision import Decision
from lstmfcn.description import FORMAT_VERSION, checksum, read_description
from lstmfcn.errors import ModelError
from lstmfcn.files import local_path, whole_folder
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.model import LSTMFCN, Ensemble, network_of
from lstmfcn.run_folder import MODEL, RUN
from lstmfcn.scaling import Scaler
from lstmfcn.schema import SeriesSchema
from lstmfcn.task import task_of
from lstmfcn.weights_file import read_weights

WEIGHTS_FILE, DESCRIPTION_FILE = "model.safetensors", "model.json"

logger = logging.getLogger(__name__)


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
        with whole_folder(local_path(directory)) as unfinished:
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
        description["description_sha256"] = checksum(description)
        (directory / WEIGHTS_FILE).write_bytes(weights)
        text = json.dumps(description, indent=2, allow_nan=False)
        (directory / DESCRIPTION_FILE).write_text(text + "\n", encoding="utf-8")

    def _fitted_decision(self) -> dict[str, Any]:
        if self.decision == Decision():
            return {}
        return {"decision": self.decision.model_dump(mode="json")}

    @classmethod
    def load(cls, directory: Path | str) -> Artifact:
        """Read and verify a model directory, or that of a run's or sweep's folder.

        Raises:
            ModelError: it is missing, incomplete, damaged, of another format version, or no model
                that can answer.
        """
        folder = model_folder(directory)
        with _readable(folder, DESCRIPTION_FILE) as path:
            described = read_description(path)
        with _readable(folder, WEIGHTS_FILE) as path:
            weights = read_weights(path, described.weights_sha256, described.tensors())
        return cls(
            hyperparameters=described.hyperparameters,
            schema=described.schema,
            scaler=described.scaler,
            weights=weights,
            metrics=described.metrics,
            training=described.training,
            sha256=described.sha256,
            decision=described.decision,
        )


def model_folder(named: Path | str) -> Path:
    """The model directory that the user names, by itself or by the folder of its run or sweep.

    Raises:
        ModelError: it is a URI, or the run has no model yet.
    """
    folder = local_path(named, ModelError)
    if (folder / DESCRIPTION_FILE).exists() or not (folder / RUN).exists():
        return folder
    if not (folder / MODEL).exists():
        raise ModelError(
            f"{folder}: holds a run that has no model yet; let it end, or go on with it by --resume"
        )
    logger.info("%s: holds a run; its model is %s", folder, folder / MODEL)
    return folder / MODEL


@contextmanager
def _readable(folder: Path, name: str) -> Iterator[Path]:
    try:
        yield folder / name
    except OSError as error:
        raise ModelError(
            f"{folder}: found no readable {name} ({error.strerror}); name a model directory, "
            "such as the model folder of a training output"
        ) from error
