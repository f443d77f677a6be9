"""Read shards with Ray Data into rows that all workers share.

Every shard is read by one task, which checks each cell and packs the value columns into one tensor
column at once: nothing downstream ever sees a wide table. The rows of all shards, in order, are
collected in memory where they fit what is granted, else in a file that training streams.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import ray
from ray.data import Dataset

from lstmfcn.distributed.runtime import own_error, quiet
from lstmfcn.distributed.shard_source import ShardSource
from lstmfcn.reading import ShardSet
from lstmfcn.rows import PIECE_ROWS, Rows, StoredValues, ValuesCollector
from lstmfcn.schema import SeriesSchema

_BYTES_WORTH_A_PROCESS = 16 << 20
"""A process takes as long to start as it does to parse so many bytes."""


class LoadedData(NamedTuple):
    """All rows of a data argument, unscaled, with the schema that they were read by."""

    schema: SeriesSchema
    rows: Rows
    n_shards: int

    @property
    def streamed(self) -> bool:
        """Whether the values did not fit into memory."""
        return isinstance(self.rows.values, StoredValues)

    def fingerprint(self) -> str:
        """SHA-256 over values and labels in row order; the same in any shard layout."""
        digest = hashlib.sha256()
        for start in range(0, len(self.rows), PIECE_ROWS):
            piece = self.rows.values[start : start + PIECE_ROWS]
            digest.update(np.ascontiguousarray(piece).data)
        digest.update(self.rows.labels.reshape(-1).data)
        return digest.hexdigest()


def load(shard_set: ShardSet, memory_bytes: int, store: Path) -> LoadedData:
    """Read and check every row of a surveyed data argument.

    Args:
        memory_bytes: the most that the values may take in memory.
        store: the file that they are packed in where they are larger.

    Raises:
        DataError: a fault in a shard.
        OutputError: the file cannot be written.
    """
    schema = shard_set.schema
    collector = ValuesCollector(schema.n_values, memory_bytes, store)
    parts = []
    for block in _blocks(_dataset(shard_set)):
        collector.add(block["x"])
        parts.append(np.array(block["y"]))  # a copy: the block leaves the object store
    labels = np.concatenate(parts)
    if not schema.classes:
        names, codes = np.unique(labels, return_inverse=True)
        schema = schema.with_classes(names.tolist(), shard_set.data)
        labels = schema.encode_names(names.tolist())[codes]
    return LoadedData(schema, Rows(collector.values(), labels), len(shard_set.shards))


def _dataset(shard_set: ShardSet) -> Dataset:
    """The shards' rows. Read tasks ask for no CPU: those may already be the workers'."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    n_shards = len(shard_set.shards)
    cpus = int(ray.cluster_resources().get("CPU", 1))
    worth = 1 + sum(shard.size for shard in shard_set.shards) // _BYTES_WORTH_A_PROCESS
    at_once = max(1, min(cpus, n_shards, worth))
    return ray.data.read_datasource(
        ShardSource(shard_set),
        override_num_blocks=n_shards,
        num_cpus=0,
        concurrency=at_once,
    )


def _blocks(dataset: Dataset) -> Iterator[dict[str, np.ndarray[Any, Any]]]:
    """All blocks, in order. Faults that a read task found come out as they were raised there."""
    try:
        with quiet("ray.data"):  # Ray would print the fault's traceback besides
            yield from dataset.iter_batches(batch_size=None, batch_format="numpy")
    except ray.exceptions.RayError as error:
        raise own_error(error) or error from None
