"""Read, check and scale a data set in one Ray task, while the training workers start.

Without Ray, a thread of this process does it.

One process reads each shard: it checks every cell and packs the value columns into one array, so
nothing after it sees a wide table. The rows of all shards, in order, are collected in memory if
they fit, otherwise in a file that training streams. The results of the task belong to the driver:
they stay when the task's process ends, and Ray runs the task again if a node that held them is
lost.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

import numpy as np
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lstmfcn.console import format_bytes, pluralize
from lstmfcn.data.batch_plan import batch_size_for, refuse_few_rows, refuse_small_batches
from lstmfcn.data.dataset import FLOAT_BYTES, PIECE_ROWS, Dataset, FileBackedArray, SpillingBuffer
from lstmfcn.data.reader import ShardedDataset, read_pieces
from lstmfcn.data.scaler import Scaler
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.data.shards import Shard
from lstmfcn.distributed.cluster import silence_logger
from lstmfcn.distributed.failures import reporting_ray_errors
from lstmfcn.errors import ResourceError
from lstmfcn.hyperparameters import ScalingName
from lstmfcn.signals import in_thread
from lstmfcn.training.run_directory import ROWS

if TYPE_CHECKING:
    from lstmfcn.distributed.requests import TrainInputs

_BYTES_WORTH_A_PROCESS = 16 << 20
"""A process takes as long to start as it does to parse this many bytes."""

_BYTES_WORTH_RAY_DATA = 400 << 20
"""Ray Data takes 3.5 s to start, beside workers that start too; one process parses 0.4 GB then."""

_PACKING_RATIO = 4
"""Bytes of CSV per compressed byte; 3.7 for MIT-BIH's .csv.gz."""

_LESS_MEMORY = "if memory is short, lower --memory-gb, and run the command again"

_MAX_LOGGED_CLASSES = 12

logger = logging.getLogger(__name__)


class SplitInfo(NamedTuple):
    """What is known of the training or the validation rows once they have been read."""

    rows: int
    n_channels: int
    n_timepoints: int
    shards: int
    classes: dict[str, int]
    streamed: bool

    @property
    def value_bytes(self) -> int:
        """The size of all values, as float32."""
        return FLOAT_BYTES * self.rows * self.n_channels * self.n_timepoints


class DatasetInfo(NamedTuple):
    """What a training needs to know of its data set, apart from the rows."""

    schema: SeriesSchema
    scaler: Scaler
    train_sha256: str
    training: SplitInfo
    validation: SplitInfo | None


class DatasetRefs(NamedTuple):
    """References to a `DatasetInfo`, the scaled training rows, and the validation rows or None."""

    info: Any
    training: Any
    validation: Any

    def wait(self) -> DatasetInfo:
        """Wait until the data set has been read and checked.

        Raises:
            UserError: the training cannot use the data.
        """
        with reporting_ray_errors("the process that reads the data", _LESS_MEMORY):
            return cast(DatasetInfo, ray.get(self.info))

    def get(self) -> tuple[DatasetInfo, Dataset, Dataset | None]:
        """Wait for the data set and take it from the object store, without a copy."""
        return ray.get(self.info), ray.get(self.training), ray.get(self.validation)


class LoadingThread:
    """A data set that a thread of this process reads, checks and scales.

    Args:
        inputs: the shards, and the base model, whose scaler is used if there is one.
        memory_bytes: the most that all values may take in memory.
    """

    def __init__(self, inputs: TrainInputs, memory_bytes: int) -> None:
        scaler = inputs.base_model.scaler if inputs.base_model else None
        scaling = inputs.hyperparameters.scaling
        self._loaded = in_thread(lambda: _load_all(inputs, scaling, scaler, 1, memory_bytes))

    def wait(self) -> DatasetInfo:
        """Wait until the data set has been read and checked.

        Raises:
            UserError: the training cannot use the data, or it does not fit into memory.
        """
        try:
            return self._loaded.result()[0]
        except MemoryError as error:
            raise ResourceError(f"out of memory while reading; {_LESS_MEMORY}") from error

    def get(self) -> tuple[DatasetInfo, Dataset, Dataset | None]:
        """Wait for the data set, and return it."""
        return self._loaded.result()


TrainingData: TypeAlias = DatasetRefs | LoadingThread
"""A data set that is being read."""


def start_loading(
    inputs: TrainInputs,
    num_workers: int,
    memory_bytes: int,
    scaling: ScalingName | None = None,
) -> DatasetRefs:
    """Start to read a data set on the driver's node, and return at once.

    Args:
        inputs: the shards, and the base model, whose scaler is used if there is one.
        num_workers: workers that share every batch; too few rows for them are an error.
        memory_bytes: the most that all values may take in memory.
        scaling: how to scale the rows; by default as the hyperparameters say.

    Returns:
        References that resolve once all rows are read, checked and scaled.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    task = ray.remote(num_cpus=0, num_returns=3, scheduling_strategy=here)(_load_all)
    scaler = inputs.base_model.scaler if inputs.base_model else None
    without_model = replace(inputs, base_model=None)  # its weights would import PyTorch there
    scaling = scaling or inputs.hyperparameters.scaling
    return DatasetRefs(*task.remote(without_model, scaling, scaler, num_workers, memory_bytes))


def log_dataset(info: DatasetInfo, memory_limit: int, folder: Path) -> None:
    """Log the rows and classes, and whether the rows are in memory or streamed, and why.

    Args:
        info: what is known of the data set.
        memory_limit: bytes that it may take in memory.
        folder: the run's, where streamed rows lie.
    """
    splits = {"training": info.training}
    if info.validation:
        splits["validation"] = info.validation
    for name, split in splits.items():
        _log_split(name, split)
    limit = format_bytes(memory_limit)
    if in_memory := sum(split.value_bytes for split in splits.values() if not split.streamed):
        logger.info("data set in memory: %s (limit %s)", format_bytes(in_memory), limit)
    for name, split in splits.items():
        if split.streamed:
            logger.info(
                "%s rows take %s, more than the limit of %s: streamed from %s, shuffled in windows",
                name,
                format_bytes(split.value_bytes),
                limit,
                folder / ROWS,
            )


def _log_split(name: str, split: SplitInfo) -> None:
    classes = [f"{label} {count}" for label, count in split.classes.items()]
    logger.info(
        "%s: %s of %s%s from %s (%s)",
        name,
        pluralize(split.rows, "row"),
        f"{split.n_channels} channels of " if split.n_channels > 1 else "",
        pluralize(split.n_timepoints, "timepoint"),
        pluralize(split.shards, "shard"),
        ", ".join(classes[:_MAX_LOGGED_CLASSES])
        + (", ..." if len(classes) > _MAX_LOGGED_CLASSES else ""),
    )


def _load_all(
    inputs: TrainInputs,
    scaling: ScalingName,
    scaler: Scaler | None,
    num_workers: int,
    memory_bytes: int,
) -> tuple[DatasetInfo, Dataset, Dataset | None]:
    """Read training and validation rows, and record the training rows' fingerprint in run.json."""
    files = inputs.folder / ROWS / scaling
    training = load(inputs.training, memory_bytes, files / "training.f32")
    training.schema.refuse_absent_classes(training.rows.labels, inputs.training.data)
    n_rows = len(training.rows)
    refuse_few_rows(n_rows, num_workers, inputs.training.data)
    batch_size = batch_size_for(inputs.hyperparameters.batch_size, n_rows, num_workers)
    refuse_small_batches(batch_size, num_workers)
    training_info = training.info()
    validation = None
    if inputs.validation:
        memory_left = 0 if training.streamed else memory_bytes - training_info.value_bytes
        shards = inputs.validation._replace(schema=training.schema)
        validation = load(shards, memory_left, files / "validation.f32")
    fingerprint = training.fingerprint()  # of the unscaled rows: scaling is done in place
    inputs.config.refuse_other_rows(fingerprint, inputs.training.data)
    scaler = scaler or Scaler.fit(scaling, training.rows.values, training.schema.n_channels)
    inputs.config.model_copy(update={"train_sha256": fingerprint}).save(inputs.folder)
    validation_info = validation.info() if validation else None
    return (
        DatasetInfo(training.schema, scaler, fingerprint, training_info, validation_info),
        training.rows.scaled(scaler),
        validation.rows.scaled(scaler) if validation else None,
    )


class LoadedData(NamedTuple):
    """All rows of a data argument, unscaled, with the schema that they were read by."""

    schema: SeriesSchema
    rows: Dataset
    n_shards: int

    @property
    def streamed(self) -> bool:
        """Whether the values lie in a file, because they do not fit into memory."""
        return isinstance(self.rows.values, FileBackedArray)

    def info(self) -> SplitInfo:
        """The numbers of rows, timepoints, shards and classes."""
        return SplitInfo(
            len(self.rows),
            self.schema.n_channels,
            self.schema.n_timepoints,
            self.n_shards,
            self.schema.class_counts(self.rows.labels),
            self.streamed,
        )

    def fingerprint(self) -> str:
        """SHA-256 of values and labels in row order; it is the same in any shard layout."""
        digest = hashlib.sha256()
        for start in range(0, len(self.rows), PIECE_ROWS):
            piece = self.rows.values[start : start + PIECE_ROWS]
            digest.update(np.ascontiguousarray(piece).data)
        digest.update(self.rows.labels.reshape(-1).data)
        return digest.hexdigest()


def load(dataset: ShardedDataset, memory_bytes: int, file: Path) -> LoadedData:
    """Read and check every row of a data argument whose headers have been read.

    Args:
        dataset: the shards.
        memory_bytes: the most that the values may take in memory.
        file: where larger values are written, as float32.

    Raises:
        DataError: a shard breaks the data contract.
        OutputError: the file cannot be written.
    """
    schema = dataset.schema
    label_parts = []
    with SpillingBuffer(schema.n_values, memory_bytes, file) as buffer:
        for piece, labels in _read_pieces(dataset):
            buffer.add(piece)
            label_parts.append(labels)
        values = buffer.values()
    all_labels = np.concatenate(label_parts)
    if not schema.classes:
        names, codes = np.unique(all_labels, return_inverse=True)
        schema = schema.with_classes(names.tolist(), dataset.data)
        all_labels = schema.encode_names(names.tolist())[codes]
    return LoadedData(schema, Dataset(values, all_labels), len(dataset.shards))


def _read_pieces(
    dataset: ShardedDataset,
) -> Iterator[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """All rows of all shards, in order: values and labels."""
    processes = _processes_worth(dataset) if ray.is_initialized() else 1
    if processes > 1:
        yield from _read_with_ray_data(dataset, processes)
        return
    for shard, header in zip(dataset.shards, dataset.headers, strict=True):
        yield from read_pieces(shard, header, dataset.schema)


def _processes_worth(dataset: ShardedDataset) -> int:
    """How many processes read the shards fastest; 1 stands for this process."""
    if not is_worth_ray(dataset.shards):
        return 1
    cpus = int(ray.cluster_resources().get("CPU", 1))
    n_shards = len(dataset.shards)
    return min(cpus, n_shards, 1 + unpacked_bytes(dataset.shards) // _BYTES_WORTH_A_PROCESS)


def is_worth_ray(shards: Sequence[Shard]) -> bool:
    """Whether several processes read the shards so much faster that starting them pays."""
    return len(shards) > 1 and unpacked_bytes(shards) >= _BYTES_WORTH_RAY_DATA


def unpacked_bytes(shards: Sequence[Shard]) -> int:
    """The size of all shards, in bytes of CSV that is not compressed."""
    return sum(s.size * (_PACKING_RATIO if s.layout.packing else 1) for s in shards)


def _read_with_ray_data(
    dataset: ShardedDataset, processes: int
) -> Iterator[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """All rows, read by several processes, one task per shard.

    The tasks ask for no CPU, because the training workers may already hold all of them.
    """
    import ray.data  # takes half a second

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.raise_original_map_exception = True  # a DataError, not Ray Data's wrapping of it
    with (
        reporting_ray_errors("a process that reads shards"),
        silence_logger("ray.data"),  # Ray would also print the traceback of a DataError
    ):
        n_shards = len(dataset.shards)
        blocks = ray.data.from_items(range(n_shards), override_num_blocks=n_shards).map_batches(
            _read_shard,
            batch_size=1,
            fn_kwargs={"dataset": dataset},
            num_cpus=0,
            concurrency=processes,
        )
        for block in blocks.iter_batches(batch_size=None, batch_format="numpy"):
            yield block["x"], np.array(block["y"])  # a copy: the block leaves the object store


def _read_shard(
    batch: dict[str, np.ndarray[Any, Any]], dataset: ShardedDataset
) -> Iterator[dict[str, np.ndarray[Any, Any]]]:
    """One shard's rows, as blocks of a tensor column ``x`` and labels ``y``.

    Args:
        batch: the number of the shard, under ``item``.
        dataset: all shards.
    """
    [number] = batch["item"]
    shard, header = dataset.shards[number], dataset.headers[number]
    for values, labels in read_pieces(shard, header, dataset.schema):
        yield {"x": values, "y": labels}
