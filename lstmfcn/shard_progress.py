"""Progress of what goes through shards one by one: a bar on a terminal."""

from __future__ import annotations

import logging
import time
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

from lstmfcn.terminal import bar

logger = logging.getLogger(__name__)


class ShardProgress:
    """Says that shards are gone through; shows in a bar how many have ended, and how fast.

    Args:
        doing: what is done to them, such as ``predicting``.
        n_shards: how many there are.
    """

    def __init__(self, doing: str, n_shards: int) -> None:
        logger.info("%s %d shard%s", doing, n_shards, "s" if n_shards > 1 else "")
        self._bar = bar(
            TextColumn("shard"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
        )
        self._task = self._bar.add_task(doing, total=n_shards, speed="")
        self._began, self._rows = time.monotonic(), 0

    def __enter__(self) -> ShardProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def ended(self, rows: int) -> None:
        """A shard of so many rows has ended."""
        self._rows += rows
        speed = self._rows / (time.monotonic() - self._began)
        self._bar.update(self._task, advance=1, speed=f"{speed:,.0f} rows/s")
