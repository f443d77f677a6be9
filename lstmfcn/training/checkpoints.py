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
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lstmfcn.errors import one_line, shown
from lstmfcn.storage.files import open_regular, read_regular, remove_folder, write_directory

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


class SavedCheckpoint(NamedTuple):
    """A checkpoint as it was read: its folder, its position, and its state as bytes."""

    path: Path
    position: Position
    content: bytes

    def unpack(self, log: Callable[[str], None]) -> State | None:
        """Return the state; None, and a line in the log, if the bytes do not hold one."""
        import torch  # slow to import, and not needed to find checkpoints

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about pickles, which are then refused
                content = io.BytesIO(self.content)
                state = torch.load(content, map_location="cpu", weights_only=True)
        except _LOAD_ERRORS as error:
            log(_describe_fault(self.path, f"holds no state ({_first_line(error)})"))
            return None
        if isinstance(state, dict):
            return state
        log(_describe_fault(self.path, "holds no state"))
        return None


def write_checkpoint(folder: Path, position: Position, content: bytes) -> None:
    """Write a checkpoint, or raise `OutputError`; then remove all but the newest two."""
    name = f"epoch-{position.epoch:07d}-step-{position.step:08d}"
    description = {"format_version": FORMAT_VERSION, "sha256": _checksum(name, content)}
    text = json.dumps(description, indent=2) + "\n"
    write_directory(folder / name, {STATE_FILE: content, DESCRIPTION_FILE: text.encode()})
    for old in [*_list_checkpoints(folder)[_N_KEPT:], *folder.glob(".epoch-*")]:
        remove_folder(old)


def find_newest(folder: Path, log: Callable[[str], None] = logger.debug) -> SavedCheckpoint | None:
    """Return the newest intact checkpoint, or None; log damaged ones."""
    return next(read_checkpoints(folder, log), None)


def read_checkpoints(folder: Path, log: Callable[[str], None]) -> Iterator[SavedCheckpoint]:
    """Read the checkpoints whose checksums match, newest first; log a line for each other one."""
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
                yield SavedCheckpoint(path, _parse_position(path.name), content)
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
    return newest.position if newest else Position()


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
