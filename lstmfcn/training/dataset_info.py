"""What a training knows of its data set, apart from the rows, and the log lines about it."""

from __future__ import annotations

import logging
from typing import NamedTuple

from lstmfcn.console import format_bytes, pluralize
from lstmfcn.data.dataset import FLOAT_BYTES, BlockArray, LoadedData
from lstmfcn.data.scaler import Scaler
from lstmfcn.data.schema import SeriesSchema

_MAX_LOGGED_CLASSES = 12

logger = logging.getLogger(__name__)


class SplitInfo(NamedTuple):
    """What is known of the training or the validation rows once they have been read."""

    rows: int
    n_channels: int
    n_timepoints: int
    shards: int
    classes: dict[str, int]
    in_blocks: bool

    @classmethod
    def of(cls, data: LoadedData) -> SplitInfo:
        """Count the rows and classes."""
        schema = data.schema
        return cls(
            len(data.rows),
            schema.n_channels,
            schema.n_timepoints,
            data.n_shards,
            schema.class_counts(data.rows.labels),
            isinstance(data.rows.values, BlockArray),
        )

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


def log_dataset(info: DatasetInfo, memory_limit: int) -> None:
    """Log the rows and classes, and whether the rows are in memory or in blocks, and why.

    Args:
        info: what is known of the data set.
        memory_limit: bytes that it may take in memory.
    """
    splits = {"training": info.training}
    if info.validation:
        splits["validation"] = info.validation
    for name, split in splits.items():
        _log_split(name, split)
    limit = format_bytes(memory_limit)
    if in_memory := sum(split.value_bytes for split in splits.values() if not split.in_blocks):
        logger.info("data set in memory: %s (limit %s)", format_bytes(in_memory), limit)
    for name, split in splits.items():
        if split.in_blocks:
            logger.info(
                "%s rows take %s, more than the limit of %s: in blocks in Ray's object stores, "
                "shuffled in windows",
                name,
                format_bytes(split.value_bytes),
                limit,
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
