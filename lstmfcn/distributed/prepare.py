"""Read, check and scale all data in one Ray task, while the training workers start.

The task's results are the driver's objects: they outlive the task's process, and are made anew
where a node that held them is lost.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, cast

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lstmfcn.bounds import batch_size_for, refuse_few_rows, refuse_small_batches
from lstmfcn.distributed.data import LoadedData, load
from lstmfcn.distributed.losses import telling_losses
from lstmfcn.hyperparameters import ScalingName
from lstmfcn.reading import ShardSet
from lstmfcn.rows import FLOAT_BYTES, Rows
from lstmfcn.run_folder import ROWS, RunRecord
from lstmfcn.scaling import Scaler
from lstmfcn.schema import SeriesSchema

_LESS_MEMORY = "if memory is short, lower --memory-gb, and run the command again"


class Wanted(NamedTuple):
    """What is to be read, and how.

    Attributes:
        scaling: of the rows; a sweep may want several.
        scaler: of the model that training continues from; fitted where None.
        memory_bytes: the most that all values may take in memory.
        folder: of the run.
    """

    record: RunRecord
    training: ShardSet
    validation: ShardSet | None
    scaling: ScalingName
    scaler: Scaler | None
    num_workers: int
    memory_bytes: int
    folder: Path


class Summary(NamedTuple):
    """What is known of one data argument once it has been read."""

    rows: int
    n_channels: int
    n_timepoints: int
    shards: int
    classes: dict[str, int]
    streamed: bool

    @property
    def value_bytes(self) -> int:
        """What all values take."""
        return FLOAT_BYTES * self.rows * self.n_channels * self.n_timepoints


class Prepared(NamedTuple):
    """What a training needs to know of its data, besides the rows themselves."""

    schema: SeriesSchema
    scaler: Scaler
    train_sha256: str
    training: Summary
    validation: Summary | None


class PreparedRefs(NamedTuple):
    """References to `Prepared`, to the scaled training rows, and to the validation rows or None."""

    prepared: Any
    training: Any
    validation: Any


def start_preparing(wanted: Wanted) -> PreparedRefs:
    """Begin to read, on the driver's node; the references resolve when all is read and checked."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    task = ray.remote(num_cpus=0, num_returns=3, scheduling_strategy=here)(_prepare)
    return PreparedRefs(*task.remote(wanted))


def resolved(data: PreparedRefs) -> Prepared:
    """What is known of the data, once all of it has been read and checked.

    Raises:
        UserError: the data does not allow the training.
    """
    with telling_losses("the process that reads the data", _LESS_MEMORY):
        return cast(Prepared, ray.get(data.prepared))


def _prepare(wanted: Wanted) -> tuple[Prepared, Rows, Rows | None]:
    store = wanted.folder / ROWS / wanted.scaling
    data = load(wanted.training, wanted.memory_bytes, store / "training.f32")
    data.schema.refuse_absent_classes(data.rows.labels, wanted.training.data)
    _refuse_too_few(data, wanted)
    summary = _summary(data)
    left = 0 if data.streamed else wanted.memory_bytes - summary.value_bytes
    held_out = None
    if wanted.validation:
        validation = wanted.validation._replace(schema=data.schema)
        held_out = load(validation, left, store / "validation.f32")
    fingerprint = data.fingerprint()  # of unscaled rows; scaling is in place
    wanted.record.refuse_other_rows(fingerprint, wanted.training.data)
    scaler = wanted.scaler or Scaler.fit(wanted.scaling, data.rows.values, data.schema.n_channels)
    wanted.record.model_copy(update={"train_sha256": fingerprint}).save(wanted.folder)
    prepared = Prepared(
        data.schema, scaler, fingerprint, summary, _summary(held_out) if held_out else None
    )
    return (
        prepared,
        data.rows.scaled(scaler),
        held_out.rows.scaled(scaler) if held_out else None,
    )


def _summary(data: LoadedData) -> Summary:
    schema = data.schema
    counts = schema.class_counts(data.rows.labels)
    return Summary(
        len(data.rows),
        schema.n_channels,
        schema.n_timepoints,
        data.n_shards,
        counts,
        data.streamed,
    )


def _refuse_too_few(data: LoadedData, wanted: Wanted) -> None:
    refuse_few_rows(len(data.rows), wanted.num_workers, wanted.training.data)
    asked = wanted.record.hyperparameters.batch_size
    batch_size = batch_size_for(asked, len(data.rows), wanted.num_workers)
    refuse_small_batches(batch_size, wanted.num_workers)
