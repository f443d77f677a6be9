"""Save and load a model directory: ``model.safetensors`` and ``model.json``, nothing pickled.

model.json holds the format version, hyperparameters, schema, scaler, the decision if one was
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
from lstmfcn.data.scaler import Scaler
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.errors import ModelError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.model.description import FORMAT_VERSION, compute_checksum, read_description
from lstmfcn.model.network import LSTMFCN, Ensemble, build_network
from lstmfcn.model.task import Decision, make_task
from lstmfcn.model.weights_file import read_weights
from lstmfcn.storage.files import write_directory
from lstmfcn.storage.outputs import existing, fetched, output_folder
from lstmfcn.storage.places import Place, checked_place, shown_place, within

WEIGHTS_FILE, DESCRIPTION_FILE = "model.safetensors", "model.json"

_RUN, _MODEL = "run.json", "model"
"""A run's configuration and its model directory (`lstmfcn.training.run_directory`)."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Artifact:
    """A trained model: everything that prediction and further training need.

    Attributes:
        weights: the network's state dict, on the CPU.
        training: how the model was trained: data, workers, precision, the model it started from.
        sha256: checksum of the loaded model.json, which contains the checksum of the weights.
        decision: temperature and thresholds; the default, which is not written, if none was fitted.
    """

    hyperparameters: Hyperparameters
    schema: SeriesSchema
    scaler: Scaler
    weights: dict[str, Tensor]
    metrics: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""
    decision: Decision = Decision()

    def build_network(self) -> LSTMFCN | Ensemble:
        """Build the network with the weights; raises `ModelError` if they do not fit it."""
        n_outputs = make_task(self.schema).n_outputs
        schema = self.schema
        network = build_network(
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
        """Write the directory in place of an earlier model, or raise `OutputError`.

        A folder is replaced in one step; at a URI a reader may for a moment find no model.
        """
        with output_folder(directory) as folder:
            write_directory(folder, self.to_files())

    def to_files(self) -> dict[str, bytes]:
        """Return the content of the directory's files, by name."""
        tensors = {name: tensor.contiguous() for name, tensor in self.weights.items()}
        weights = safetensors.torch.save(tensors)
        fitted = {"decision": self.decision.model_dump(mode="json")}
        description = {
            "format_version": FORMAT_VERSION,
            "hyperparameters": self.hyperparameters.to_flags(),
            "schema": self.schema.model_dump(mode="json"),
            "scaler": self.scaler.model_dump(mode="json"),
            **(fitted if self.decision != Decision() else {}),
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
        description["description_sha256"] = compute_checksum(description)
        text = json.dumps(description, indent=2, allow_nan=False) + "\n"
        return {WEIGHTS_FILE: weights, DESCRIPTION_FILE: text.encode()}

    @classmethod
    def load(cls, directory: Path | str) -> Artifact:
        """Load and verify a model directory, or the one of a run or sweep, at a path or a URI.

        Raises:
            ModelError: it is missing, incomplete or damaged, has another format version, or
                describes a model that cannot predict.
        """
        place = find_model_folder(directory)
        with fetched(place, (DESCRIPTION_FILE, WEIGHTS_FILE), ModelError) as folder:
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


def find_model_folder(path: Place) -> Place:
    """Return the model directory that the user means: the place itself, or the model of that run.

    Raises:
        ModelError: the run has no model yet, or a URI cannot be read.
    """
    place = checked_place(path, ModelError)
    model = f"{_MODEL}/{DESCRIPTION_FILE}"
    found = existing(place, (DESCRIPTION_FILE, _RUN, model), ModelError)
    if DESCRIPTION_FILE in found or _RUN not in found:
        return place
    shown, inner = shown_place(place), within(place, _MODEL)
    if model not in found:
        raise ModelError(
            f"{shown}: this run has no model yet; wait until it ends, or resume it with --resume"
        )
    logger.info("%s is the folder of a run; using its model %s", shown, shown_place(inner))
    return inner


@contextmanager
def _readable(folder: Path, name: str) -> Iterator[Path]:
    try:
        yield folder / name
    except OSError as error:
        raise ModelError(
            f"{folder}: found no readable {name} ({error.strerror}); name a model directory, "
            "such as the model folder of a training output"
        ) from error
