"""Train on arrays, in this process and without Ray."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from lstmfcn.artifact import Artifact
from lstmfcn.batches import EvaluationBatches, training_batches
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.model import LSTMFCN
from lstmfcn.rows import Rows
from lstmfcn.scaling import Scaler
from lstmfcn.schema import FloatArray, SeriesSchema
from lstmfcn.task import class_weights, task_of
from lstmfcn.training import Report, fit
from lstmfcn.training_state import Training

Labelled = tuple[FloatArray, npt.NDArray[np.str_]]
"""Series, float32 (N, T), and their class names (N,)."""


def train_arrays(
    train: Labelled,
    hyperparameters: Hyperparameters,
    validation: Labelled | None = None,
    report: Report = lambda _: None,
) -> Artifact:
    """What ``lstmfcn train`` makes of shards with these rows, by one worker on the CPU.

    Args:
        train: training rows, in the order of the shards.
        hyperparameters: of the model and its training; the task must be multiclass.
        validation: rows that decide which epoch is kept; the training loss does without them.
        report: called with each epoch's metrics.

    Raises:
        TrainingError: the loss is no longer finite.
    """
    values, names = train
    columns = ["y", *(f"x_{i}" for i in range(1, values.shape[1] + 1))]
    schema = SeriesSchema.from_header(columns, "multiclass").with_classes(
        sorted(set(names.tolist()))
    )
    scaler = Scaler.fit(hyperparameters.scaling, values)
    rows = _rows(train, schema, scaler)
    weights = class_weights(hyperparameters.class_weight, schema, rows.labels)
    task = task_of(schema, weights, hyperparameters.label_smoothing)
    torch.manual_seed(hyperparameters.seed)
    network = LSTMFCN(hyperparameters, schema.n_timepoints, task.n_outputs)
    training = Training(network, hyperparameters.lr, weight_decay=hyperparameters.weight_decay)
    batches = training_batches(
        rows,
        hyperparameters.batch_size,
        hyperparameters.seed,
        rows_per_epoch=hyperparameters.rows_per_epoch,
    )
    held_out = EvaluationBatches(_rows(validation, schema, scaler)) if validation else None
    fit(training, task, batches, held_out, hyperparameters, report)
    return Artifact(hyperparameters, schema, scaler, training.best_weights, training.best)


def _rows(labelled: Labelled, schema: SeriesSchema, scaler: Scaler) -> Rows:
    values, names = labelled
    places = {name: place for place, name in enumerate(schema.classes)}
    return Rows(scaler.transform(values), np.array([places[name] for name in names.tolist()]))
