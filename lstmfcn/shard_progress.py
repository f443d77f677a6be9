"""Progress of what goes through shards one by one: a bar on a terminal."""

from __future__ import annotations

import logging
import time

from lstmfcn.counts import number
from lstmfcn.terminal import Bar

logger = logging.getLogger(__name__)


class ShardProgress(Bar):
    """Says that shards are gone through; shows in a bar how many have ended, and how fast.

    Args:
        doing: what is done to them, such as ``predicting``.
        n_shards: how many there are.
        explains: how many of them are explained, one after the other with them.
    """

    def __init__(self, doing: str, n_shards: int, explains: int = 0) -> None:
        also = f", explaining {explains:,}" if explains else ""
        logger.info("%s %s%s", doing, number(n_shards, "shard"), also)
        super().__init__("file" if explains else "shard", n_shards + explains)
        self._began, self._shards, self._rows = time.monotonic(), 0, 0

    def ended(self, rows: int) -> None:
        """A shard of so many rows has ended."""
        self._shards, self._rows = self._shards + 1, self._rows + rows
        speed = self._rows / (time.monotonic() - self._began)
        self.draw(f"{speed:,.0f} rows/s", self._shards)
