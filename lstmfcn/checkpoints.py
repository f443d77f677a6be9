"""Checkpoints of a training: a folder each, written whole, checked when read, the newest two kept.

``state.pt`` holds tensors and plain values only and is read with ``weights_only=True``;
``checkpoint.json`` holds the checksum. The folder's name says how far training had come.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import pickle
import re
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lstmfcn.files import open_regular, read_regular, remove_folder, sync, whole_folder
from lstmfcn.quoting import one_line, shown

STATE_FILE, DESCRIPTION_FILE = "state.pt", "checkpoint.json"
FORMAT_VERSION = 2
_KEPT = 2
_MOST_BYTES = 1 << 16
"""Of a description."""

_LONGEST_REASON = 200
_NO_STATE = (
    pickle.UnpicklingError,
    RuntimeError,
    ValueError,
    EOFError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    OverflowError,
    RecursionError,
    MemoryError,
    OSError,
    AssertionError,
)
"""What PyTorch raises for a file that holds no state, or more than tensors and plain values."""

_NAME = re.compile(r"epoch-\d+-step-\d+")

State = dict[str, Any]

logger = logging.getLogger(__name__)


class Position(NamedTuple):
    """How far training has come: epochs done, and steps done in the one after them."""

    epoch: int = 0
    step: int = 0

    def __str__(self) -> str:
        return f"epoch {self.epoch}" + (f" and {self.step} steps" if self.step else "")


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: holds a folder for each checkpoint, and nothing else.
        every_s: seconds between checkpoints.
        sync_first: a file that must be durable before a checkpoint is, such as metrics.jsonl.
        stop_file: training is to stop once this file is there.
        clock: seconds, from any origin.
    """

    def __init__(
        self,
        folder: Path,
        every_s: float = 30.0,
        sync_first: Path | None = None,
        stop_file: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._every_s, self._sync_first = folder, every_s, sync_first
        self._stop_file = stop_file
        self._clock, self._last = clock, clock()

    def due(self) -> bool:
        """Whether the time for the next checkpoint, or the end, has come."""
        return self._clock() - self._last >= self._every_s or self.stopped()

    def stopped(self) -> bool:
        """Whether training is to stop."""
        return self._stop_file is not None and self._stop_file.exists()

    def save(self, position: Position, state: State) -> None:
        """Write a checkpoint, then remove all but the newest two.

        Raises:
            OutputError: it cannot be written; what was there before is still there.
        """
        import torch  # not needed to look for checkpoints

        if self._sync_first:
            sync(self._sync_first)
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getvalue()
        name = f"epoch-{position.epoch:07d}-step-{position.step:08d}"
        description = {"format_version": FORMAT_VERSION, "sha256": _checksum(name, content)}
        with whole_folder(self._folder / name) as unfinished:
            (unfinished / STATE_FILE).write_bytes(content)
            text = json.dumps(description, indent=2)
            (unfinished / DESCRIPTION_FILE).write_text(text + "\n", encoding="utf-8")
        for old in [*_folders(self._folder)[_KEPT:], *self._folder.glob(".epoch-*")]:
            remove_folder(old)
        self._last = self._clock()

    def newest(self) -> tuple[Position, State] | None:
        """The newest whole checkpoint; None where there is none."""
        return next(self.whole(logger.debug), None)

    def whole(
        self, tell: Callable[[str], None] = logger.warning
    ) -> Iterator[tuple[Position, State]]:
        """The whole checkpoints, the newest first.

        Args:
            tell: is told of each that is passed over, and why.
        """
        import torch

        for path, position, content in _whole(self._folder, tell):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of pickles that it then refuses
                    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            except _NO_STATE as error:
                tell(_passed_over(path, f"holds no state ({_first_line(error)})"))
                continue
            if isinstance(state, dict):
                yield position, state
            else:
                tell(_passed_over(path, "holds no state"))


def find_newest(
    folder: Path, tell: Callable[[str], None] = logger.debug
) -> tuple[Position, bytes] | None:
    """Position and content of the newest whole checkpoint; None where there is none.

    Args:
        folder: as `Checkpoints` has it.
        tell: is told of each checkpoint that is passed over, and why.
    """
    for _, position, content in _whole(folder, tell):
        return position, content
    return None


def _whole(folder: Path, tell: Callable[[str], None]) -> Iterator[tuple[Path, Position, bytes]]:
    """Path, position and content of the checkpoints whose checksums are right, newest first."""
    for path in _folders(folder):
        try:
            description = json.loads(read_regular(path / DESCRIPTION_FILE, _MOST_BYTES))
            with open_regular(path / STATE_FILE) as file:
                content = file.read()
            if description["format_version"] != FORMAT_VERSION:
                fault = f"has format version {shown(description['format_version'])}"
            elif description["sha256"] != _checksum(path.name, content):
                fault = "is damaged (its checksum differs)"
            else:
                yield path, _position(path.name), content
                continue
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            fault = f"is incomplete ({type(error).__name__}: {_first_line(error)})"
        tell(_passed_over(path, fault))


def _passed_over(path: Path, fault: str) -> str:
    return f"{path}: {fault}; falling back to the one before it"


def _first_line(error: Exception) -> str:
    """Of PyTorch's messages, which go on for paragraphs."""
    return one_line(str(error).partition("\n")[0][:_LONGEST_REASON])


def newest_position(folder: Path, tell: Callable[[str], None] = logger.debug) -> Position:
    """Where a training would go on: the newest whole checkpoint's position, else the beginning."""
    found = find_newest(folder, tell)
    return found[0] if found else Position()


def _checksum(name: str, content: bytes) -> str:
    """Of a checkpoint's name, which tells its position, and its state."""
    return hashlib.sha256(name.encode() + b"\n" + content).hexdigest()


def _position(name: str) -> Position:
    epoch, step = re.findall(r"\d+", name)
    return Position(int(epoch), int(step))


def _folders(folder: Path) -> list[Path]:
    """The checkpoints, newest first; unfinished ones have other names."""
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if _NAME.fullmatch(p.name)), reverse=True)
