"""What a command that writes shards says at its end."""

from __future__ import annotations

from pathlib import Path

from lstmfcn.counts import number
from lstmfcn.terminal import tell_result


def tell_written(rows: int, shards: int, folder: str) -> None:
    """Print how many rows went into how many shards, and where."""
    tell_result(
        f"{number(rows, 'row')} in {number(shards, 'shard')}: {folder}",
        output=str(Path(folder).absolute()),
        rows=rows,
        shards=shards,
    )
