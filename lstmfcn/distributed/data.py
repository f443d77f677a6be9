"""Read shards into rows that all workers share: with Ray Data, or here where they are small.

Every shard is read by one process, which checks each cell and packs the value columns into one
array at once: nothing downstream ever sees a wide table. The rows of all shards, in order, are
collected in memory where they fit what is granted, else in a file that training streams.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import ray

from lstmfcn.distributed.losses import telling_losses
from lstmfcn.distributed.runtime import quiet
from lstmfcn.reading import ShardSet, labelled_pieces
from lstmfcn.rows import PIECE_ROWS, Rows, StoredValues, ValuesCollector
from lstmfcn.schema import SeriesSchema

_BYTES_WORTH_A_PROCESS = 16 << 20
"""A process takes as long to start as it does to parse so many bytes."""
_BYTES_WORTH_RAY_DATA = 400 << 20
"""Ray Data takes 3.5 s to start, beside workers that start too; in these 0.4 GB are parsed here."""
_PACKING_RATIO = 4
"""Bytes of CSV in a packed byte; 3.7 in MIT-BIH's .csv.gz."""


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
    for values, part in _pieces(shard_set):
        collector.add(values)
        parts.append(part)
    labels = np.concatenate(parts)
    if not schema.classes:
        names, codes = np.unique(labels, return_inverse=True)
        schema = schema.with_classes(names.tolist(), shard_set.data)
        labels = schema.encode_names(names.tolist())[codes]
    return LoadedData(schema, Rows(collector.values(), labels), len(shard_set.shards))


def _pieces(shard_set: ShardSet) -> Iterator[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """All rows, in order: values and labels."""
    processes = _processes_worth(shard_set)
    if processes > 1:
        yield from _of_ray_data(shard_set, processes)
        return
    for shard, header in zip(shard_set.shards, shard_set.headers, strict=True):
        yield from labelled_pieces(shard, header, shard_set.schema)


def _processes_worth(shard_set: ShardSet) -> int:
    """How many processes to read by; one is this one."""
    shards = shard_set.shards
    csv_bytes = sum(s.size * (_PACKING_RATIO if s.layout.packing else 1) for s in shards)
    if csv_bytes < _BYTES_WORTH_RAY_DATA:
        return 1
    cpus = int(ray.cluster_resources().get("CPU", 1))
    return min(cpus, len(shards), 1 + csv_bytes // _BYTES_WORTH_A_PROCESS)


def _of_ray_data(
    shard_set: ShardSet, processes: int
) -> Iterator[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """Rows read by several processes. They ask for no CPU: those may already be the workers'."""
    import ray.data  # takes half a second

    from lstmfcn.distributed.shard_source import ShardSource

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    with (
        telling_losses("a process that reads shards"),
        quiet("ray.data"),  # Ray would print a fault's traceback besides
    ):
        dataset = ray.data.read_datasource(
            ShardSource(shard_set),
            override_num_blocks=len(shard_set.shards),
            num_cpus=0,
            concurrency=processes,
        )
        for block in dataset.iter_batches(batch_size=None, batch_format="numpy"):
            yield block["x"], np.array(block["y"])  # a copy: the block leaves the object store
