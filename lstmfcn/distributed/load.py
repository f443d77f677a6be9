"""Read, check and scale all data in one Ray task, while the training workers start.

Every shard is read by one process, which checks each cell and packs the value columns into one
array: nothing downstream sees a wide table. The rows of all shards, in order, are collected in
memory where they fit, else in a file that training streams. The task's results are the driver's
objects: they outlive the task's process, and are made again where a node that held them is lost.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lstmfcn.console import format_bytes, pluralize
from lstmfcn.data.batch_plan import batch_size_for, refuse_few_rows, refuse_small_batches
from lstmfcn.data.dataset import FLOAT_BYTES, PIECE_ROWS, Dataset, FileBackedArray, SpillingBuffer
from lstmfcn.data.reader import ShardedDataset, read_pieces
from lstmfcn.data.scaler import Scaler
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.distributed.cluster import silence_logger
from lstmfcn.distributed.losses import reporting_losses
from lstmfcn.hyperparameters import ScalingName
from lstmfcn.training.run_directory import ROWS, RunConfig

_SHOWN_CLASSES = 12

logger = logging.getLogger(__name__)


_BYTES_WORTH_A_PROCESS = 16 << 20
"""A process takes as long to start as it does to parse so many bytes."""

_BYTES_WORTH_RAY_DATA = 400 << 20
"""Ray Data takes 3.5 s to start, beside workers that start too; in these 0.4 GB are parsed here."""

_PACKING_RATIO = 4
"""Bytes of CSV in a packed byte; 3.7 in MIT-BIH's .csv.gz."""

_LESS_MEMORY = "if memory is short, lower --memory-gb, and run the command again"


def log_dataset(prepared: DatasetInfo, granted_bytes: int, folder: Path) -> None:
    """Rows and classes, whether rows are in memory or streamed, and why."""
    purposes = {"training": prepared.training}
    if prepared.validation:
        purposes["validation"] = prepared.validation
    for purpose, data in purposes.items():
        _log_split(purpose, data)
    kept = sum(data.value_bytes for data in purposes.values() if not data.streamed)
    if kept:
        logger.info(
            "%s of rows kept in memory, of %s granted",
            format_bytes(kept),
            format_bytes(granted_bytes),
        )
    for purpose, data in purposes.items():
        if data.streamed:
            logger.info(
                "%s rows take %s, more than the %s granted: packed in %s and streamed, shuffled in "
                "windows",
                purpose,
                format_bytes(data.value_bytes),
                format_bytes(granted_bytes),
                folder / ROWS,
            )


def _log_split(purpose: str, data: SplitInfo) -> None:
    shown = [f"{name} {count}" for name, count in data.classes.items()]
    logger.info(
        "%s: %s of %s%s from %s (%s)",
        purpose,
        pluralize(data.rows, "row"),
        f"{data.n_channels} channels of " if data.n_channels > 1 else "",
        pluralize(data.n_timepoints, "timepoint"),
        pluralize(data.shards, "shard"),
        ", ".join(shown[:_SHOWN_CLASSES]) + (", ..." if len(shown) > _SHOWN_CLASSES else ""),
    )


class LoadedData(NamedTuple):
    """All rows of a data argument, unscaled, with the schema that they were read by."""

    schema: SeriesSchema
    rows: Dataset
    n_shards: int

    @property
    def streamed(self) -> bool:
        """Whether the values did not fit into memory."""
        return isinstance(self.rows.values, FileBackedArray)

    def fingerprint(self) -> str:
        """SHA-256 over values and labels in row order; the same in any shard layout."""
        digest = hashlib.sha256()
        for start in range(0, len(self.rows), PIECE_ROWS):
            piece = self.rows.values[start : start + PIECE_ROWS]
            digest.update(np.ascontiguousarray(piece).data)
        digest.update(self.rows.labels.reshape(-1).data)
        return digest.hexdigest()


def load(shard_set: ShardedDataset, memory_bytes: int, store: Path) -> LoadedData:
    """Read and check every row of a surveyed data argument.

    Args:
        memory_bytes: the most that the values may take in memory.
        store: the file that they are packed in where they are larger.

    Raises:
        DataError: a fault in a shard.
        OutputError: the file cannot be written.
    """
    schema = shard_set.schema
    collector = SpillingBuffer(schema.n_values, memory_bytes, store)
    parts = []
    for values, part in _pieces(shard_set):
        collector.add(values)
        parts.append(part)
    labels = np.concatenate(parts)
    if not schema.classes:
        names, codes = np.unique(labels, return_inverse=True)
        schema = schema.with_classes(names.tolist(), shard_set.data)
        labels = schema.encode_names(names.tolist())[codes]
    return LoadedData(schema, Dataset(collector.values(), labels), len(shard_set.shards))


def _pieces(
    shard_set: ShardedDataset,
) -> Iterator[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """All rows, in order: values and labels."""
    processes = _processes_worth(shard_set)
    if processes > 1:
        yield from _read_with_ray_data(shard_set, processes)
        return
    for shard, header in zip(shard_set.shards, shard_set.headers, strict=True):
        yield from read_pieces(shard, header, shard_set.schema)


def _processes_worth(shard_set: ShardedDataset) -> int:
    """How many processes to read by; one is this one."""
    shards = shard_set.shards
    csv_bytes = sum(s.size * (_PACKING_RATIO if s.layout.packing else 1) for s in shards)
    if csv_bytes < _BYTES_WORTH_RAY_DATA:
        return 1
    cpus = int(ray.cluster_resources().get("CPU", 1))
    return min(cpus, len(shards), 1 + csv_bytes // _BYTES_WORTH_A_PROCESS)


def _read_with_ray_data(
    shard_set: ShardedDataset, processes: int
) -> Iterator[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """Rows read by several processes. They ask for no CPU: those may already be the workers'."""
    import ray.data  # takes half a second

    from lstmfcn.distributed.shard_source import ShardSource

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    with (
        reporting_losses("a process that reads shards"),
        silence_logger("ray.data"),  # Ray would print a fault's traceback besides
    ):
        dataset = ray.data.read_datasource(
            ShardSource(shard_set),
            override_num_blocks=len(shard_set.shards),
            num_cpus=0,
            concurrency=processes,
        )
        for block in dataset.iter_batches(batch_size=None, batch_format="numpy"):
            yield block["x"], np.array(block["y"])  # a copy: the block leaves the object store


class LoadRequest(NamedTuple):
    """What is to be read, and how.

    Attributes:
        scaling: of the rows; a sweep may want several.
        scaler: of the model that training continues from; fitted where None.
        memory_bytes: the most that all values may take in memory.
        folder: of the run.
    """

    record: RunConfig
    training: ShardedDataset
    validation: ShardedDataset | None
    scaling: ScalingName
    scaler: Scaler | None
    num_workers: int
    memory_bytes: int
    folder: Path


class SplitInfo(NamedTuple):
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


class DatasetInfo(NamedTuple):
    """What a training needs to know of its data, besides the rows themselves."""

    schema: SeriesSchema
    scaler: Scaler
    train_sha256: str
    training: SplitInfo
    validation: SplitInfo | None


class DatasetRefs(NamedTuple):
    """References to `DatasetInfo`, the scaled training rows, and the validation rows or None."""

    prepared: Any
    training: Any
    validation: Any


def start_loading(wanted: LoadRequest) -> DatasetRefs:
    """Begin to read, on the driver's node; the references resolve when all is read and checked."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    task = ray.remote(num_cpus=0, num_returns=3, scheduling_strategy=here)(_load_all)
    return DatasetRefs(*task.remote(wanted))


def wait_for(data: DatasetRefs) -> DatasetInfo:
    """What is known of the data, once all of it has been read and checked.

    Raises:
        UserError: the data does not allow the training.
    """
    with reporting_losses("the process that reads the data", _LESS_MEMORY):
        return cast(DatasetInfo, ray.get(data.prepared))


def _load_all(wanted: LoadRequest) -> tuple[DatasetInfo, Dataset, Dataset | None]:
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
    prepared = DatasetInfo(
        data.schema, scaler, fingerprint, summary, _summary(held_out) if held_out else None
    )
    return (
        prepared,
        data.rows.scaled(scaler),
        held_out.rows.scaled(scaler) if held_out else None,
    )


def _summary(data: LoadedData) -> SplitInfo:
    schema = data.schema
    counts = schema.class_counts(data.rows.labels)
    return SplitInfo(
        len(data.rows),
        schema.n_channels,
        schema.n_timepoints,
        data.n_shards,
        counts,
        data.streamed,
    )


def _refuse_too_few(data: LoadedData, wanted: LoadRequest) -> None:
    refuse_few_rows(len(data.rows), wanted.num_workers, wanted.training.data)
    asked = wanted.record.hyperparameters.batch_size
    batch_size = batch_size_for(asked, len(data.rows), wanted.num_workers)
    refuse_small_batches(batch_size, wanted.num_workers)
