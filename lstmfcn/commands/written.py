"""What a command that writes shards, or a model, says at its end."""

from __future__ import annotations

import shlex
from pathlib import Path

from lstmfcn.counts import number
from lstmfcn.terminal import tell_result


def model_lines(model: Path) -> list[str]:
    """Where the model is, and what to do with it."""
    return [
        f"model: {model}",
        f"next: lstmfcn evaluate --model {shlex.quote(str(model))} --data DATA",
    ]


def tell_written(rows: int, shards: int, folder: str) -> None:
    """Print how many rows went into how many shards, and where."""
    tell_result(
        f"{number(rows, 'row')} in {number(shards, 'shard')}: {folder}",
        output=str(Path(folder).absolute()),
        rows=rows,
        shards=shards,
    )
