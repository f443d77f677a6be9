"""Which shards a prediction folder holds already, so that a second run need not predict them again.

``_predicted.json`` has for each prediction file, and for each of explanations, the model, the
columns kept, and the shard that it was made of, by path, size and time of its last change.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lstmfcn.errors import OutputError
from lstmfcn.files import whole_file
from lstmfcn.shards import Shard

PREDICTED = "_predicted.json"


class PredictedShards:
    """The record of one prediction folder.

    Args:
        folder: of the predictions.
        model_sha256: of the model that predicts now.
        keep: columns that are carried through now.

    Raises:
        OutputError: there is a record that cannot be read.
    """

    def __init__(self, folder: Path, model_sha256: str, keep: Sequence[str]) -> None:
        self._path = folder / PREDICTED
        self._now = {"model": model_sha256, "keep": list(keep)}
        self._known: dict[str, Any] = {}
        try:
            self._known = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            raise OutputError(f"{self._path}: cannot be read ({error}); remove it") from error

    def rows(self, shard: Shard, output: Path) -> int | None:
        """The rows of a prediction file that need not be written again; None where it must."""
        entry = self._known.get(self._name(output))
        if entry is None or not output.exists():
            return None
        return entry["rows"] if entry == self._entry(shard, entry["rows"]) else None

    def add(self, shard: Shard, output: Path, rows: int) -> None:
        """A prediction file was written.

        Raises:
            OutputError: the record cannot be.
        """
        self._known[self._name(output)] = self._entry(shard, rows)
        with whole_file(self._path) as path:
            path.write_text(json.dumps(self._known, indent=1) + "\n", encoding="utf-8")

    def _name(self, output: Path) -> str:
        return output.relative_to(self._path.parent).as_posix()

    def _entry(self, shard: Shard, rows: int) -> dict[str, Any]:
        return {
            "shard": shard.path,
            "bytes": shard.size,
            "modified": shard.modified_ns,
            "rows": rows,
            **self._now,
        }
