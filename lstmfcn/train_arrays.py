"""Train on arrays, in this process and without Ray."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lstmfcn.artifact import Artifact
from lstmfcn.batches import EvaluationBatches
from lstmfcn.bounds import batch_size_for, refuse_small_batches
from lstmfcn.calibration import calibrated
from lstmfcn.cells import FloatArray, Source
from lstmfcn.channels import value_names
from lstmfcn.ensemble import ensemble_of
from lstmfcn.errors import DataError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.rows import Rows
from lstmfcn.scaling import Scaler
from lstmfcn.schema import SeriesSchema
from lstmfcn.series_input import swapped_axes
from lstmfcn.training import Report, fit
from lstmfcn.training_start import start_of

Labelled = tuple[FloatArray, npt.NDArray[np.str_]]
"""Series, float32 (N, T) or (N, channels, T), and their class names (N,)."""


def train_arrays(
    train: Labelled,
    hyperparameters: Hyperparameters,
    validation: Labelled | None = None,
    report: Report = lambda _: None,
    columns: Sequence[str] | None = None,
) -> Artifact:
    """What ``lstmfcn train`` makes of shards with these rows, by one worker on the CPU.

    Args:
        train: training rows, in the order of the shards.
        hyperparameters: of the model and its training; the task must be multiclass.
        validation: rows that decide which epoch is kept, the training loss does without them; and
            that the temperature is fitted on.
        report: called with each epoch's metrics.
        columns: names of the values, one channel after the other, of which the channels are read
            off as those of shards are; by default those of `value_names`.

    Raises:
        HyperparameterError: they ask for what needs validation rows, and there are none; or for
            batches of one row.
        DataError: a row without any value, where values may be missing; only one class; several
            channels of one timepoint, which are likely swapped axes.
        TrainingError: the loss is no longer finite.
    """
    hyperparameters.refuse_fitting(validation is not None)
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
    scaler = Scaler.fit(hyperparameters.scaling, _flat(values), schema.n_channels)
    rows = _rows(train, schema, scaler)
    held_out = _rows(validation, schema, scaler) if validation else None
    watched = EvaluationBatches(held_out) if held_out else None

    def trained(member: Hyperparameters) -> Artifact:
        training, task, batches = start_of(rows, schema, member)
        fit(training, task, batches, watched, member, report)
        return Artifact(member, schema, scaler, training.best_weights, training.best)

    members = [trained(member) for member in hyperparameters.of_members()]
    artifact = members[0]
    if len(members) > 1:
        judged = {"train": EvaluationBatches(rows)} | ({"valid": watched} if watched else {})
        artifact = ensemble_of(members, hyperparameters, judged)
    return calibrated(artifact, held_out) if held_out else artifact


def _rows(labelled: Labelled, schema: SeriesSchema, scaler: Scaler) -> Rows:
    values, names = labelled
    schema.refuse_empty_rows(_flat(values), Source())
    return Rows(scaler.transform(_flat(values)), schema.encode_names(names.tolist()))


def _flat(values: FloatArray) -> FloatArray:
    return values.reshape(len(values), -1)
