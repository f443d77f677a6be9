"""Record which shards are predicted, so that a second run does not predict them again.

``_predicted.jsonl`` has one line per prediction file and per explanation file: its shard (path,
size, time of the last change), its number of rows, and a checksum of the model and the kept
columns. If a file has several lines, the last one counts.
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

_OLD_FILE = "_predicted.json"
"""The format until 2026-12, one JSON object; it is read, and removed when a file is written."""


MANIFEST_FILES = (MANIFEST_FILE, _OLD_FILE)


class Manifest:
    """The record of one prediction folder.

    Args:
        keep: columns that are copied to the predictions.

    Raises:
        OutputError: the folder has a record that cannot be read.
    """

    def __init__(self, folder: Path, model_sha256: str, keep: Sequence[str]) -> None:
        self._path, self._old_path = folder / MANIFEST_FILE, folder / _OLD_FILE
        self._is_there = self._path.exists() or self._old_path.exists()
        self._made_by = _checksum(model_sha256, keep)
        self._entries: dict[str, dict[str, Any]] = _read(self._old_path, _parse_old_entries)
        self._entries |= _read(self._path, _parse_entries)
        self._is_rewritten = False

    def rows(self, shard: Shard, output: Path) -> int | None:
        """Return the rows of an up-to-date prediction file; None if it must be written."""
        entry = self._entries.get(self._name(output))
        if entry is None or not output.exists():
            return None
        rows: int = entry["rows"]
        return rows if entry == self._entry(shard, output, rows) else None

    def may_replace(self, output: Path) -> bool:
        """Whether a prediction file is of this model and these columns, or does not exist.

        A run that was killed may have written a file that the record does not have.
        """
        if not output.exists():
            return True
        entry = self._entries.get(self._name(output))
        entries = [entry] if entry else self._entries.values()
        return self._is_there and all(each["made_by"] == self._made_by for each in entries)

    def add(self, shard: Shard, output: Path, rows: int) -> None:
        """Record a prediction file that was written; raises `OutputError` if that fails."""
        self.begin()
        entry = self._entry(shard, output, rows)
        self._entries[entry["file"]] = entry
        with refusing_write_errors(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(_line(entry))

    def begin(self) -> None:
        """Rewrite the record without a line that a killed run left incomplete, or `OutputError`."""
        if self._is_rewritten:
            return
        with atomic_write(self._path) as path:
            path.write_text("".join(map(_line, self._entries.values())), encoding="utf-8")
        with refusing_write_errors(self._old_path):
            self._old_path.unlink(missing_ok=True)
        self._is_rewritten = True

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
    """Read the entries of a record by file name; empty if there is no record."""
    try:
        return {entry["file"]: entry for entry in entries(path.read_text(encoding="utf-8"))}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise OutputError(f"{path}: cannot be read ({reason}); remove it") from error


def _parse_entries(text: str) -> list[dict[str, Any]]:
    """Parse one entry per line; an incomplete last line is from a run that was killed."""
    entries = [json.loads(line) for line in text.split("\n")[:-1]]
    return [{**entry, "rows": int(entry["rows"])} for entry in entries]


def _parse_old_entries(text: str) -> list[dict[str, Any]]:
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
    """Hash what a file depends on besides its shard; 64 of 256 bits."""
    made_by = json.dumps([model_sha256, list(keep)])
    return hashlib.sha256(made_by.encode()).hexdigest()[:16]
