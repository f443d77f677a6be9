"""Read shards with Ray Data into arrays that all workers share.

Every shard is read by one task, which checks each cell and packs the value columns into one tensor
column at once: nothing downstream ever sees a wide table. The rows of all shards, in order, then
become one array in Ray's object store, where the workers of a node use the same memory.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Any, NamedTuple

import numpy as np
import ray
from ray.data import Dataset

from lstmfcn.batches import Rows
from lstmfcn.distributed.runtime import own_error
from lstmfcn.distributed.shard_source import ShardSource
from lstmfcn.reading import ShardSet
from lstmfcn.schema import SeriesSchema


class LoadedData(NamedTuple):
    """All rows of a data argument, unscaled, with the schema that they were read by."""

    schema: SeriesSchema
    rows: Rows
    n_shards: int

    def fingerprint(self) -> str:
        """SHA-256 over values and labels in row order; the same in any shard layout."""
        digest = hashlib.sha256(self.rows.values.reshape(-1).data)
        digest.update(self.rows.labels.reshape(-1).data)
        return digest.hexdigest()


def load(shard_set: ShardSet) -> LoadedData:
    """Read and check every row of a surveyed data argument.

    Raises:
        DataError: a fault in a shard.
    """
    schema = shard_set.schema
    blocks = _blocks(_dataset(shard_set))
    values = np.concatenate([block["x"] for block in blocks])
    labels = np.concatenate([block["y"] for block in blocks])
    if not schema.classes:
        names = labels.tolist()
        schema = schema.with_classes(sorted(set(names)), shard_set.data)
        labels = schema.encode_names(names)
    return LoadedData(schema, Rows(values, labels), len(shard_set.shards))


def _dataset(shard_set: ShardSet) -> Dataset:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    n_shards = len(shard_set.shards)
    return ray.data.read_datasource(ShardSource(shard_set), override_num_blocks=n_shards)


def _blocks(dataset: Dataset) -> list[dict[str, np.ndarray[Any, Any]]]:
    """All blocks, in order. Faults that a read task found come out as they were raised there."""
    console = logging.getLogger("ray.data")
    level = console.level
    console.setLevel(logging.CRITICAL)  # Ray would print the fault's traceback besides
    try:
        return list(dataset.iter_batches(batch_size=None, batch_format="numpy"))
    except ray.exceptions.RayError as error:
        raise own_error(error) or error from None
    finally:
        console.setLevel(level)
