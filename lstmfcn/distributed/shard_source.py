"""Shards as a Ray Data source. Read tasks import this module, and so no PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa
from ray.data import Datasource
from ray.data.block import BlockAccessor, BlockMetadata
from ray.data.datasource import ReadTask

from lstmfcn.reading import ShardSet, labelled_pieces
from lstmfcn.schema import SeriesSchema
from lstmfcn.shards import Shard


class ShardSource(Datasource):
    """One read task a shard; blocks of a tensor column ``x`` and labels ``y``."""

    def __init__(self, shard_set: ShardSet) -> None:
        super().__init__()
        self._shard_set = shard_set

    def estimate_inmemory_data_size(self) -> int:
        """Bytes on disk: an upper bound for CSV."""
        return sum(shard.size for shard in self._shard_set.shards)

    def get_read_tasks(
        self,
        parallelism: int,  # noqa: ARG002 - a shard is never cut
        per_task_row_limit: int | None = None,
        data_context: Any = None,  # noqa: ARG002
    ) -> list[ReadTask]:
        """One task for each shard."""
        return [
            ReadTask(
                _Read(shard, header, self._shard_set.schema),
                BlockMetadata(
                    num_rows=None,
                    size_bytes=shard.size,
                    exec_stats=None,
                    task_exec_stats=None,
                    input_files=(shard.path,),
                ),
                per_task_row_limit=per_task_row_limit,
            )
            for shard, header in zip(self._shard_set.shards, self._shard_set.headers, strict=True)
        ]


class _Read(NamedTuple):
    """Read one shard as checked and packed blocks."""

    shard: Shard
    header: list[str]
    schema: SeriesSchema

    def __call__(self) -> Iterator[pa.Table]:
        for values, labels in labelled_pieces(self.shard, self.header, self.schema):
            yield BlockAccessor.batch_to_block({"x": values, "y": labels})
