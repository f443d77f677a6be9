"""Read and check all rows of shards, into memory or into blocks on all machines.

One process reads small data, with all its CPUs. `read_blocks` is for what does not fit into memory,
or takes long: Ray Data reads the shards on all machines, one task per shard. Its blocks end where
shards end, so a task for each of ours cuts and joins them, and computes what is known of the block.
(Ray Data's ``repartition`` gave the same blocks, but took 5 times as long, and the statistics would
need a pass of their own.) Our blocks have equal numbers of rows, whatever the shards are. They stay
in the object stores of the machines; Ray moves to local disks what does not fit there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import ray

from lstmfcn.data.dataset import (
    BLOCK_BYTES,
    FLOAT_BYTES,
    BlockArray,
    BlockStatistics,
    Dataset,
    LoadedData,
    RowBuffer,
    StatisticsSum,
    rows_of_block,
)
from lstmfcn.data.parquet import count_parquet_rows
from lstmfcn.data.reader import ShardedDataset, read_pieces, readable
from lstmfcn.data.shards import Shard
from lstmfcn.data.table import Array, FloatArray
from lstmfcn.distributed.capacity import alive_nodes, available_cpus
from lstmfcn.distributed.cluster import silence_logger
from lstmfcn.distributed.failures import reporting_ray_errors

if TYPE_CHECKING:
    import pyarrow as pa
    import ray.data

_BYTES_WORTH_ALL_MACHINES = 400 << 20
"""Ray Data takes 3.5 s to start, beside workers that start too; one machine parses 0.4 GB then."""

_PACKING_RATIO = 4
"""Bytes of CSV per compressed byte; 3.7 for MIT-BIH's .csv.gz."""

_MOST_VALUE_BYTES = 16
"""Bytes of float32 values in a byte of a file, at the most, if it is not a strange one."""

_SAMPLE_BYTES = 1 << 20

_TASKS_PER_READER = 2
"""Blocks that are made at a time, for each process that reads."""

_FETCHED_AT_ONCE = 4
"""Blocks that a worker fetches at a time."""

_ENDLESS = float(1 << 60)

_Bounds = tuple[int, int]
"""The first row of a part, and the row after its last."""


class _Piece(NamedTuple):
    """A reference to a block of Ray Data, and the number of its rows."""

    ref: Any
    n_rows: int


def read_rows(dataset: ShardedDataset, memory_bytes: int) -> LoadedData:
    """Read and check every row of a data argument whose headers have been read.

    Args:
        dataset: the shards.
        memory_bytes: the most that the values may take in memory.

    Raises:
        DataError: a shard breaks the data contract.
        MemoryLimitError: the values take more memory.
    """
    schema = dataset.schema
    label_parts, buffer = [], RowBuffer(schema.n_values, memory_bytes)
    for shard, header in zip(dataset.shards, dataset.headers, strict=True):
        for piece, labels in read_pieces(shard, header, schema, available_cpus()):
            buffer.add(piece)
            label_parts.append(labels)
    all_labels = np.concatenate(label_parts)
    if not schema.classes:
        names, codes = np.unique(all_labels, return_inverse=True)
        schema = schema.with_classes(names.tolist(), dataset.data)
        all_labels = schema.encode_names(names.tolist())[codes]
    return LoadedData(schema, Dataset(buffer.values(), all_labels), len(dataset.shards))


def needs_blocks(datasets: Sequence[ShardedDataset], memory_bytes: int) -> bool:
    """Whether all machines should read the rows, because of their memory or of the time it takes.

    Raises:
        DataError: a shard cannot be read.
    """
    if exceeds_memory(datasets, memory_bytes):
        return True
    shards = [shard for dataset in datasets for shard in dataset.shards]
    is_large = len(shards) > 1 and unpacked_bytes(shards) >= _BYTES_WORTH_ALL_MACHINES
    return is_large and ray.is_initialized() and len(alive_nodes()) > 1


def exceeds_memory(datasets: Sequence[ShardedDataset], memory_bytes: int) -> bool:
    """Whether all values together probably take more memory than they may.

    The first rows of some shards tell. Whoever reads the rows finds out if it is wrong.

    Raises:
        DataError: a shard cannot be read.
    """
    sizes = (shard.size for dataset in datasets for shard in dataset.shards)
    if _MOST_VALUE_BYTES * sum(sizes) <= memory_bytes:
        return False
    values = (dataset.schema.n_values * _estimate_rows(dataset.shards) for dataset in datasets)
    return FLOAT_BYTES * sum(values) > memory_bytes


def _estimate_rows(shards: Sequence[Shard]) -> float:
    """Estimate how many rows all shards have, from their sizes and a part of some of them."""
    samples = [shards[i] for i in sorted({0, len(shards) // 2, len(shards) - 1})]
    rows_per_byte = [_rows_per_byte(shard) for shard in samples]
    return sum(shard.size for shard in shards) * sum(rows_per_byte) / len(samples)


def _rows_per_byte(shard: Shard) -> float:
    with readable(shard):
        if shard.is_parquet:
            return count_parquet_rows(shard) / shard.size
        with shard.open() as stream:
            text = stream.read(_SAMPLE_BYTES)
    n_lines = max(1, text.count(b"\n"))
    rows_per_byte: float = n_lines / len(text) * unpacked_bytes([shard]) / shard.size
    return rows_per_byte


def unpacked_bytes(shards: Sequence[Shard]) -> int:
    """The size of all shards, in bytes of CSV that is not compressed."""
    return sum(s.size * (_PACKING_RATIO if s.layout.packing else 1) for s in shards)


class StoredBlocks:
    """Reads blocks from the object stores of the cluster.

    Args:
        refs: a reference to each block, float32 (K, V).
    """

    def __init__(self, refs: Sequence[Any]) -> None:
        self._refs = refs

    def __call__(self, numbers: Sequence[int], /) -> Iterator[FloatArray]:
        """Yield the blocks of these numbers, in order; they are read-only."""
        for start in range(0, len(numbers), _FETCHED_AT_ONCE):
            part = numbers[start : start + _FETCHED_AT_ONCE]
            yield from ray.get([self._refs[number] for number in part])


def read_blocks(
    dataset: ShardedDataset,
    with_moments: bool,
    check: Callable[[], None] = lambda: None,
    processes: int | None = None,
) -> LoadedData:
    """Read and check every row of a data argument, on all machines, into blocks.

    Args:
        dataset: the shards, whose headers have been read.
        with_moments: whether the moments of the values are needed.
        check: called between blocks; what it raises ends the reading.
        processes: how many shards are read at a time; by default as many as there are CPUs.

    Raises:
        DataError: a shard breaks the data contract.
        ResourceError: a machine, or the room for the rows, was lost.
    """
    schema = dataset.schema
    block_rows = rows_of_block(schema.n_values)
    cpus = int(ray.cluster_resources().get("CPU", 1))
    processes = min(processes or cpus, len(dataset.shards))
    total, refs = StatisticsSum(), []
    with (
        reporting_ray_errors("a process that reads shards"),
        closing(_read_pieces(dataset, processes)) as pieces,
    ):
        for block, statistics in _make_blocks(pieces, block_rows, with_moments, processes):
            check()
            refs.append(block)
            total.add(statistics)
    schema, labels, merged = total.finish(schema, dataset.data)
    values = BlockArray(StoredBlocks(refs), len(labels), schema.n_values, block_rows)
    return LoadedData(schema, Dataset(values, labels), len(dataset.shards), merged)


def _read_pieces(dataset: ShardedDataset, processes: int) -> Generator[_Piece]:
    """All rows of all shards, in order, as blocks of Ray Data."""
    with _ray_data(dataset, processes) as pieces:
        for bundle in pieces.iter_internal_ref_bundles():
            for ref, metadata in zip(bundle.block_refs, bundle.metadata, strict=True):
                if metadata.num_rows:
                    yield _Piece(ref, metadata.num_rows)


def _make_blocks(
    pieces: Iterable[_Piece], block_rows: int, with_moments: bool, processes: int
) -> Iterator[tuple[Any, BlockStatistics]]:
    """Make blocks of pieces, several at a time, each in a task where most of it is."""
    make = ray.remote(num_cpus=0, num_returns=2)(_make_block)
    pending: deque[list[Any]] = deque()
    for parts in join_pieces(pieces, block_rows):
        refs, bounds = zip(*parts, strict=True)
        pending.append(make.remote(bounds, with_moments, *refs))
        if len(pending) == _TASKS_PER_READER * processes:
            block, statistics = pending.popleft()
            yield block, ray.get(statistics)
    for block, statistics in pending:
        yield block, ray.get(statistics)


def join_pieces(pieces: Iterable[_Piece], block_rows: int) -> Iterator[list[tuple[Any, _Bounds]]]:
    """Say of which parts of which pieces each block consists; all blocks but the last are full."""
    parts: list[tuple[Any, _Bounds]] = []
    missing = block_rows
    for ref, n_rows in pieces:
        start = 0
        while start < n_rows:
            stop = min(n_rows, start + missing)
            parts.append((ref, (start, stop)))
            missing -= stop - start
            start = stop
            if not missing:
                yield parts
                parts, missing = [], block_rows
    if parts:
        yield parts


def _make_block(
    bounds: Sequence[_Bounds], with_moments: bool, *pieces: pa.Table
) -> tuple[FloatArray, BlockStatistics]:
    """Join parts of blocks of Ray Data; runs as a task.

    Args:
        bounds: the part of each piece.
    """
    from ray.data.block import BlockAccessor

    parts = [
        BlockAccessor.for_block(piece.slice(start, stop - start)).to_numpy(["x", "y"])
        for piece, (start, stop) in zip(pieces, bounds, strict=True)
    ]
    values = np.concatenate([part["x"] for part in parts])
    labels = np.concatenate([part["y"] for part in parts])
    if labels.dtype == object:
        labels = labels.astype(str)
    return values, BlockStatistics.of(values, labels, with_moments)


@contextmanager
def _ray_data(dataset: ShardedDataset, processes: int) -> Iterator[ray.data.Dataset]:
    """All rows as a data set of Ray Data, in small blocks, to be executed inside this block.

    The tasks ask for no CPU, because training workers may already hold all of them, also when a
    block that was lost is made again. They do not wait for whoever takes the blocks: Ray spills
    those that do not fit.
    """
    import ray.data  # takes half a second

    settings: dict[str, Any] = {
        "enable_progress_bars": False,
        "raise_original_map_exception": True,  # a DataError, not Ray Data's wrapping of it
        "target_max_block_size": BLOCK_BYTES,
        "execution_options": ray.data.ExecutionOptions(
            resource_limits=ray.data.ExecutionResources(object_store_memory=_ENDLESS),
            preserve_order=True,
        ),
    }
    context = ray.data.DataContext.get_current()
    before = {name: getattr(context, name) for name in settings}
    n_shards = len(dataset.shards)
    try:
        for name, value in settings.items():
            setattr(context, name, value)
        with silence_logger("ray.data"):  # Ray would also print the traceback of a DataError
            yield ray.data.from_items(range(n_shards), override_num_blocks=n_shards).map_batches(
                _read_shard,
                batch_size=1,
                fn_kwargs={"dataset": dataset},
                num_cpus=0,
                concurrency=processes,
            )
    finally:
        for name, value in before.items():
            setattr(context, name, value)


def _read_shard(batch: dict[str, Array], dataset: ShardedDataset) -> Iterator[dict[str, Array]]:
    """One shard's rows, as pieces of a tensor column ``x`` and labels ``y``.

    Args:
        batch: the number of the shard, under ``item``.
        dataset: all shards.
    """
    [number] = batch["item"]
    shard, header = dataset.shards[number], dataset.headers[number]
    for values, labels in read_pieces(shard, header, dataset.schema):
        yield {"x": values, "y": labels}
