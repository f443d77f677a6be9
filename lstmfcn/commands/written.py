"""What a command that writes shards says at its end."""

from __future__ import annotations


def tell_written(rows: int, shards: int, folder: str) -> None:
    """Print how many rows went into how many shards, and where."""
    print(f"{rows} rows in {shards} shard{'s' if shards > 1 else ''}: {folder}")
