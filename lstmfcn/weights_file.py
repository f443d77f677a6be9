"""``model.safetensors``: compared with what it is to hold before it is read into memory.

The format: the length of a header, 8 bytes; the header, JSON, of type, shape and place of each
tensor; the tensors (https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch
from safetensors import SafetensorError

from lstmfcn.errors import ModelError
from lstmfcn.files import open_regular
from lstmfcn.quoting import shown
from lstmfcn.weight_shapes import Tensor

_LENGTH_BYTES = 8
_LONGEST_HEADER = 100_000_000
"""That of the safetensors library itself (its MAX_HEADER_SIZE)."""


def read_weights(
    path: Path, sha256: str, expected: Iterable[tuple[str, Tensor]]
) -> dict[str, torch.Tensor]:
    """The tensors of a file.

    Args:
        path: the file.
        sha256: of its bytes.
        expected: name, type and shape of each tensor; may go on without end.

    Raises:
        ModelError: it holds anything else, or numbers that are not finite.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        size = file.seek(0, 2)
        header, start = _header(file, size, path)
        n_bytes = _refuse_others(header, expected, path)
        if size != start + n_bytes:
            raise damaged(path, "its length differs")
        file.seek(0)
        content = file.read(size)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise damaged(path)
    try:
        weights = safetensors.torch.load(content)
    except (SafetensorError, ValueError) as error:
        raise damaged(path, f"{error}") from error
    _refuse_infinite(weights, path)
    return weights


def damaged(path: Path, how: str = "its checksum differs") -> ModelError:
    """What to say of a file that is not what was saved."""
    return ModelError(
        f"{path}: found content that is not what was saved ({how}); "
        "copy the model directory again or train anew"
    )


def _header(file: BinaryIO, size: int, path: Path) -> tuple[dict[str, Any], int]:
    """What the file says of its tensors, and where these begin."""
    file.seek(0)
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    start = _LENGTH_BYTES + length
    if size < start or length > _LONGEST_HEADER:
        raise damaged(path, "it has no whole header")
    try:
        header = json.loads(file.read(length))
    except (ValueError, RecursionError) as error:
        raise damaged(path, "its header is no JSON") from error
    if not isinstance(header, dict):
        raise damaged(path, "its header names no tensors")
    header.pop("__metadata__", None)
    return header, start


def _refuse_others(
    header: dict[str, Any], expected: Iterable[tuple[str, Tensor]], path: Path
) -> int:
    """Refuse other tensors than these; returns how long they are."""
    n_bytes = n_tensors = 0
    for name, tensor in expected:
        n_bytes, n_tensors = n_bytes + tensor.n_bytes, n_tensors + 1
        found = header.get(name)
        if not isinstance(found, dict):
            raise _misfit(path, f"no {name}")
        if (found.get("dtype"), found.get("shape")) != (tensor.dtype, list(tensor.shape)):
            kind = f"{shown(found.get('dtype'))} {shown(found.get('shape'))}"
            raise _misfit(path, f"{name} as {kind}, not {tensor.dtype!r} {list(tensor.shape)}")
    if len(header) > n_tensors:
        raise _misfit(path, f"{len(header)} tensors, not {n_tensors}")
    return n_bytes


def _misfit(path: Path, found: str) -> ModelError:
    return ModelError(
        f"{path}: does not fit model.json: found {found}; copy both from one directory"
    )


def _refuse_infinite(weights: dict[str, torch.Tensor], path: Path) -> None:
    floats = {name: tensor for name, tensor in weights.items() if tensor.is_floating_point()}
    if torch.stack([tensor.sum() for tensor in floats.values()]).isfinite().all():
        return  # a sum is several times as fast as looking at each number
    for name, tensor in floats.items():
        if not tensor.isfinite().all():
            raise ModelError(f"{path}: found {name} with nan or an infinite number; train anew")
