"""What is told of the data, once all of it has been read and checked."""

from __future__ import annotations

import logging
from pathlib import Path

from lstmfcn.counts import number, size
from lstmfcn.distributed.prepare import Prepared, Summary
from lstmfcn.run_folder import ROWS

_SHOWN_CLASSES = 12

logger = logging.getLogger(__name__)


def tell_data(prepared: Prepared, granted_bytes: int, folder: Path) -> None:
    """Rows and classes, whether rows are in memory or streamed, and why."""
    purposes = {"training": prepared.training}
    if prepared.validation:
        purposes["validation"] = prepared.validation
    for purpose, data in purposes.items():
        _tell(purpose, data)
    kept = sum(data.value_bytes for data in purposes.values() if not data.streamed)
    if kept:
        logger.info("%s of rows kept in memory, of %s granted", size(kept), size(granted_bytes))
    for purpose, data in purposes.items():
        if data.streamed:
            logger.info(
                "%s rows take %s, more than the %s granted: packed in %s and streamed, shuffled in "
                "windows",
                purpose,
                size(data.value_bytes),
                size(granted_bytes),
                folder / ROWS,
            )


def _tell(purpose: str, data: Summary) -> None:
    shown = [f"{name} {count}" for name, count in data.classes.items()]
    logger.info(
        "%s: %s of %s%s from %s (%s)",
        purpose,
        number(data.rows, "row"),
        f"{data.n_channels} channels of " if data.n_channels > 1 else "",
        number(data.n_timepoints, "timepoint"),
        number(data.shards, "shard"),
        ", ".join(shown[:_SHOWN_CLASSES]) + (", ..." if len(shown) > _SHOWN_CLASSES else ""),
    )
