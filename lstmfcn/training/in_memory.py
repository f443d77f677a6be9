"""Train on arrays in memory, in this process and without Ray."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lstmfcn.data.batch_plan import batch_size_for, refuse_small_batches
from lstmfcn.data.columns import value_names
from lstmfcn.data.dataset import Dataset
from lstmfcn.data.scaler import Scaler
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.data.series_input import swapped_axes
from lstmfcn.data.table import FloatArray, RowOrigin
from lstmfcn.errors import DataError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.model.artifact import Artifact
from lstmfcn.training.batches import EvaluationLoader
from lstmfcn.training.calibration import calibrate
from lstmfcn.training.ensemble import combine_members
from lstmfcn.training.loop import Report, fit
from lstmfcn.training.state import set_up

Labelled = tuple[FloatArray, npt.NDArray[np.str_]]
"""Series, float32 (N, T) or (N, channels, T), and their class names (N,)."""


def train_arrays(
    train: Labelled,
    hyperparameters: Hyperparameters,
    validation: Labelled | None = None,
    report: Report = lambda _: None,
    columns: Sequence[str] | None = None,
) -> Artifact:
    """Train a model as ``lstmfcn train`` does on shards with these rows, with one CPU worker.

    Args:
        train: training rows, in the order of the shards.
        hyperparameters: of the model and its training; the task must be multiclass.
        validation: rows that select the best epoch and fit the temperature; without them, the
            training loss selects the best epoch.
        columns: names of the values, one channel after the other, from which the channels are
            parsed as for shards; by default those of `value_names`.

    Raises:
        HyperparameterError: a step after training needs validation rows, or batches have one row.
        DataError: a row has no value at all; there is only one class; or there are several channels
            of one timepoint, which are probably swapped axes.
        TrainingError: the loss is no longer finite.
    """
    hyperparameters.validate_post_training(validation is not None)
    values, names = train
    refuse_small_batches(batch_size_for(hyperparameters.batch_size, len(names)), world_size=1)
    if columns is None:
        if values.ndim == 3 and (swapped := swapped_axes(*values.shape[1:])):
            if values.shape[2] == 1:
                raise DataError(f"arrays of {swapped}", "or an array (N, timepoints)")
            warnings.warn(f"arrays of {swapped}", stacklevel=2)
        columns = value_names(values.shape[1] if values.ndim == 3 else 1, values.shape[-1])
    schema = SeriesSchema.from_header(
        ["y", *columns], "multiclass", missing=hyperparameters.missing
    )
    schema = schema.with_classes(sorted(set(names.tolist())))
    scaler = Scaler.fit(hyperparameters.scaling, _flatten(values), schema.n_channels)
    train_rows = _encode(train, schema, scaler)
    validation_rows = _encode(validation, schema, scaler) if validation else None
    validation_batches = EvaluationLoader(validation_rows) if validation_rows else None

    def train_member(member: Hyperparameters) -> Artifact:
        training, task, batches = set_up(train_rows, schema, member)
        fit(training, task, batches, validation_batches, member, report)
        return Artifact(member, schema, scaler, training.best_weights, training.best)

    members = [train_member(member) for member in hyperparameters.split_into_members()]
    artifact = members[0]
    if len(members) > 1:
        batches = {"train": EvaluationLoader(train_rows)}
        if validation_batches:
            batches["valid"] = validation_batches
        artifact = combine_members(members, hyperparameters, batches)
    return calibrate(artifact, validation_rows) if validation_rows else artifact


def _encode(labelled: Labelled, schema: SeriesSchema, scaler: Scaler) -> Dataset:
    values, names = labelled
    schema.refuse_empty_rows(_flatten(values), RowOrigin())
    return Dataset(scaler.transform(_flatten(values)), schema.encode_names(names.tolist()))


def _flatten(values: FloatArray) -> FloatArray:
    """Rows (N, V), row after row in memory: sums add in that order."""
    return np.ascontiguousarray(values).reshape(len(values), -1)
