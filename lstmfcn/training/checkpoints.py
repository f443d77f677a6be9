"""Write and read the checkpoints of a training; the newest two are kept.

Each checkpoint is a folder that is written atomically and verified when read. ``state.pt`` holds
tensors and plain values only and is read with ``weights_only=True``; ``checkpoint.json`` holds the
checksum. The folder's name contains epoch and step.
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

from lstmfcn.errors import one_line, shown
from lstmfcn.storage.files import atomic_directory, open_regular, read_regular, remove_folder, sync

STATE_FILE, DESCRIPTION_FILE = "state.pt", "checkpoint.json"
FORMAT_VERSION = 2
_N_KEPT = 2
_MAX_DESCRIPTION_BYTES = 1 << 16
_MAX_REASON_LENGTH = 200
_LOAD_ERRORS = (
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
"""Errors of PyTorch for a damaged file, or one with more than tensors and plain values."""

_NAME = re.compile(r"epoch-\d+-step-\d+")

State = dict[str, Any]

logger = logging.getLogger(__name__)


class Position(NamedTuple):
    """The progress of a training: finished epochs, and finished steps of the current epoch."""

    epoch: int = 0
    step: int = 0

    def __str__(self) -> str:
        return f"epoch {self.epoch}" + (f" and {self.step} steps" if self.step else "")


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: contains one folder per checkpoint, and nothing else.
        sync_first: file to sync to disk before each checkpoint, such as metrics.jsonl.
        stop_file: training stops when this file exists.
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

    def is_due(self) -> bool:
        """Whether it is time for the next checkpoint, or to stop."""
        return self._clock() - self._last >= self._every_s or self.stop_requested()

    def stop_requested(self) -> bool:
        """Whether the user asked the training to stop."""
        return self._stop_file is not None and self._stop_file.exists()

    def save(self, position: Position, state: State) -> None:
        """Write a checkpoint, or raise `OutputError`; then remove all but the newest two."""
        import torch  # slow to import, and not needed to find checkpoints

        if self._sync_first:
            sync(self._sync_first)
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getvalue()
        name = f"epoch-{position.epoch:07d}-step-{position.step:08d}"
        description = {"format_version": FORMAT_VERSION, "sha256": _checksum(name, content)}
        with atomic_directory(self._folder / name) as unfinished:
            (unfinished / STATE_FILE).write_bytes(content)
            text = json.dumps(description, indent=2)
            (unfinished / DESCRIPTION_FILE).write_text(text + "\n", encoding="utf-8")
        for old in [*_list_checkpoints(self._folder)[_N_KEPT:], *self._folder.glob(".epoch-*")]:
            remove_folder(old)
        self._last = self._clock()

    def load_newest(self) -> tuple[Position, State] | None:
        """Load the newest valid checkpoint; None if there is none."""
        return next(self.load_all(logger.debug), None)

    def load_all(
        self, log: Callable[[str], None] = logger.warning
    ) -> Iterator[tuple[Position, State]]:
        """Load the valid checkpoints, the newest first; log a line for each invalid one."""
        import torch

        for path, position, content in _read_verified(self._folder, log):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # about pickles, which are then refused
                    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            except _LOAD_ERRORS as error:
                log(_describe_fault(path, f"holds no state ({_first_line(error)})"))
                continue
            if isinstance(state, dict):
                yield position, state
            else:
                log(_describe_fault(path, "holds no state"))


def find_newest(
    folder: Path, log: Callable[[str], None] = logger.debug
) -> tuple[Position, bytes] | None:
    """Return position and content of the newest intact checkpoint, or None; log damaged ones."""
    for _, position, content in _read_verified(folder, log):
        return position, content
    return None


def _read_verified(
    folder: Path, log: Callable[[str], None]
) -> Iterator[tuple[Path, Position, bytes]]:
    """Read the checkpoints whose checksums match, newest first: path, position and content."""
    for path in _list_checkpoints(folder):
        try:
            description = json.loads(read_regular(path / DESCRIPTION_FILE, _MAX_DESCRIPTION_BYTES))
            with open_regular(path / STATE_FILE) as file:
                content = file.read()
            if description["format_version"] != FORMAT_VERSION:
                fault = f"has format version {shown(description['format_version'])}"
            elif description["sha256"] != _checksum(path.name, content):
                fault = "is damaged (its checksum differs)"
            else:
                yield path, _parse_position(path.name), content
                continue
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            fault = f"is incomplete ({type(error).__name__}: {_first_line(error)})"
        log(_describe_fault(path, fault))


def _describe_fault(path: Path, fault: str) -> str:
    return f"{path}: {fault}; falling back to the one before it"


def _first_line(error: Exception) -> str:
    """Shorten PyTorch's messages, which are paragraphs long."""
    return one_line(str(error).partition("\n")[0][:_MAX_REASON_LENGTH])


def find_newest_position(folder: Path, log: Callable[[str], None] = logger.debug) -> Position:
    """Return the position from which a training would resume; without a checkpoint, the start."""
    newest = find_newest(folder, log)
    return newest[0] if newest else Position()


def _checksum(name: str, content: bytes) -> str:
    """Hash a checkpoint's state and its name, which contains its position."""
    return hashlib.sha256(name.encode() + b"\n" + content).hexdigest()


def _parse_position(name: str) -> Position:
    epoch, step = re.findall(r"\d+", name)
    return Position(int(epoch), int(step))


def _list_checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints, newest first; unfinished ones have other names."""
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if _NAME.fullmatch(p.name)), reverse=True)
