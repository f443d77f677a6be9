"""Which shards a prediction folder holds already, so that a second run need not predict them again.

``_predicted.jsonl`` has a line for each prediction file, and for each of explanations: the shard
that it was made of, by path, size and time of its last change, its rows, and by what it was made, a
checksum of the model's and of the columns kept. Of several lines of a file the last holds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lstmfcn.errors import OutputError
from lstmfcn.files import whole_file, writing
from lstmfcn.shards import Shard

PREDICTED = "_predicted.jsonl"

_FORMER = "_predicted.json"
"""One JSON object of all files, until 2026-12; it is read, and goes with the next file written."""


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
        self._path, self._former = folder / PREDICTED, folder / _FORMER
        self._made_by = _checksum(model_sha256, keep)
        self._known: dict[str, dict[str, Any]] = _read(self._former, _former_entries)
        self._known |= _read(self._path, _entries)
        self._is_begun = False

    def rows(self, shard: Shard, output: Path) -> int | None:
        """The rows of a prediction file that need not be written again; None where it must."""
        entry = self._known.get(self._name(output))
        if entry is None or not output.exists():
            return None
        rows: int = entry["rows"]
        return rows if entry == self._entry(shard, output, rows) else None

    def add(self, shard: Shard, output: Path, rows: int) -> None:
        """A prediction file was written.

        Raises:
            OutputError: the record cannot be.
        """
        if not self._is_begun:
            self._begin()
        entry = self._entry(shard, output, rows)
        self._known[entry["file"]] = entry
        with writing(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(_line(entry))

    def _begin(self) -> None:
        """Write what is known anew: a line each, none that a run that was killed left half."""
        with whole_file(self._path) as path:
            path.write_text("".join(map(_line, self._known.values())), encoding="utf-8")
        with writing(self._former):
            self._former.unlink(missing_ok=True)
        self._is_begun = True

    def _name(self, output: Path) -> str:
        return output.relative_to(self._path.parent).as_posix()

    def _entry(self, shard: Shard, output: Path, rows: int) -> dict[str, Any]:
        return {
            "file": self._name(output),
            "shard": shard.path,
            "bytes": shard.size,
            "modified": shard.modified_ns,
            "rows": rows,
            "made_by": self._made_by,
        }


def _read(path: Path, entries: Any) -> dict[str, dict[str, Any]]:
    """What a record holds, by the names of files; nothing where there is none.

    Raises:
        OutputError: it cannot be read.
    """
    try:
        return {entry["file"]: entry for entry in entries(path.read_text(encoding="utf-8"))}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise OutputError(f"{path}: cannot be read ({reason}); remove it") from error


def _entries(text: str) -> list[dict[str, Any]]:
    """One a line; what stands after the last line's end was cut off by a kill."""
    entries = [json.loads(line) for line in text.split("\n")[:-1]]
    return [{**entry, "rows": int(entry["rows"])} for entry in entries]


def _former_entries(text: str) -> list[dict[str, Any]]:
    return [
        {
            "file": name,
            **{key: entry[key] for key in ("shard", "bytes", "modified", "rows")},
            "made_by": _checksum(entry["model"], entry["keep"]),
        }
        for name, entry in json.loads(text).items()
    ]


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry) + "\n"


def _checksum(model_sha256: str, keep: Sequence[str]) -> str:
    """What tells apart what files are made by: 64 of 256 bits."""
    made_by = json.dumps([model_sha256, list(keep)])
    return hashlib.sha256(made_by.encode()).hexdigest()[:16]
