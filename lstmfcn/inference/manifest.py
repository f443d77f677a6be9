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

from lstmfcn.data.shards import Shard
from lstmfcn.errors import OutputError
from lstmfcn.storage.files import atomic_write, refusing_write_errors

MANIFEST_FILE = "_predicted.jsonl"

_FORMER = "_predicted.json"
"""One JSON object of all files, until 2026-12; it is read, and goes with the next file written."""


class Manifest:
    """The record of one prediction folder.

    Args:
        folder: of the predictions.
        model_sha256: of the model that predicts now.
        keep: columns that are carried through now.

    Raises:
        OutputError: there is a record that cannot be read.
    """

    def __init__(self, folder: Path, model_sha256: str, keep: Sequence[str]) -> None:
        self._path, self._former = folder / MANIFEST_FILE, folder / _FORMER
        self._is_there = self._path.exists() or self._former.exists()
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

    def may_replace(self, output: Path) -> bool:
        """Whether a prediction file is of this model and these columns, or not there yet.

        A run that was killed may have written one that the record does not have.
        """
        if not output.exists():
            return True
        entry = self._known.get(self._name(output))
        entries = [entry] if entry else self._known.values()
        return self._is_there and all(each["made_by"] == self._made_by for each in entries)

    def add(self, shard: Shard, output: Path, rows: int) -> None:
        """A prediction file was written.

        Raises:
            OutputError: the record cannot be.
        """
        self.begin()
        entry = self._entry(shard, output, rows)
        self._known[entry["file"]] = entry
        with refusing_write_errors(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(_line(entry))

    def begin(self) -> None:
        """Write the record without a last line that was cut off; to be called before any file.

        Raises:
            OutputError: it cannot be written.
        """
        if self._is_begun:
            return
        with atomic_write(self._path) as path:
            path.write_text("".join(map(_line, self._known.values())), encoding="utf-8")
        with refusing_write_errors(self._former):
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
