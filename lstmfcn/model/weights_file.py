"""Read ``model.safetensors``, after checking its header against the expected tensors.

The format: the length of the header (8 bytes); the header (JSON: dtype, shape and place of each
tensor); the tensors (https://github.com/huggingface/safetensors#format).
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

from lstmfcn.errors import ModelError, shown
from lstmfcn.model.weight_shapes import TensorShape
from lstmfcn.storage.files import open_regular

_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000
"""The limit of the safetensors library itself (its MAX_HEADER_SIZE)."""


def read_weights(
    path: Path, sha256: str, expected: Iterable[tuple[str, TensorShape]]
) -> dict[str, torch.Tensor]:
    """Read the tensors of a file.

    Args:
        expected: name, dtype and shape of each expected tensor; may be infinite.

    Raises:
        ModelError: the file holds other tensors, is damaged, or holds numbers that are not finite.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        size = file.seek(0, 2)
        header, start = _read_header(file, size, path)
        n_bytes = _check_tensors(header, expected, path)
        if size != start + n_bytes:
            raise damage_error(path, "its length differs")
        file.seek(0)
        content = file.read(size)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise damage_error(path)
    try:
        weights = safetensors.torch.load(content)
    except (SafetensorError, ValueError) as error:
        raise damage_error(path, f"{error}") from error
    _refuse_infinite(weights, path)
    return weights


def damage_error(path: Path, how: str = "its checksum differs") -> ModelError:
    """Make the error for a file that is not what was saved."""
    return ModelError(
        f"{path}: found content that is not what was saved ({how}); "
        "copy the model directory again or train a new model"
    )


def _read_header(file: BinaryIO, size: int, path: Path) -> tuple[dict[str, Any], int]:
    """Read the header; returns it and the offset at which the tensors begin."""
    file.seek(0)
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    start = _LENGTH_BYTES + length
    if size < start or length > _MAX_HEADER_BYTES:
        raise damage_error(path, "its header is incomplete")
    try:
        header = json.loads(file.read(length))
    except (ValueError, RecursionError) as error:
        raise damage_error(path, "its header is not JSON") from error
    if not isinstance(header, dict):
        raise damage_error(path, "its header names no tensors")
    header.pop("__metadata__", None)
    return header, start


def _check_tensors(
    header: dict[str, Any], expected: Iterable[tuple[str, TensorShape]], path: Path
) -> int:
    """Check that the header names exactly these tensors; returns their size in bytes."""
    n_bytes = n_tensors = 0
    for name, tensor in expected:
        n_bytes, n_tensors = n_bytes + tensor.n_bytes, n_tensors + 1
        entry = header.get(name)
        if not isinstance(entry, dict):
            raise _mismatch_error(path, f"no {name}")
        if (entry.get("dtype"), entry.get("shape")) != (tensor.dtype, list(tensor.shape)):
            kind = f"{shown(entry.get('dtype'))} {shown(entry.get('shape'))}"
            raise _mismatch_error(
                path, f"{name} as {kind}, not {tensor.dtype!r} {list(tensor.shape)}"
            )
    if len(header) > n_tensors:
        raise _mismatch_error(path, f"{len(header)} tensors, not {n_tensors}")
    return n_bytes


def _mismatch_error(path: Path, found: str) -> ModelError:
    return ModelError(
        f"{path}: does not fit model.json: found {found}; copy both from one directory"
    )


def _refuse_infinite(weights: dict[str, torch.Tensor], path: Path) -> None:
    floats = {name: tensor for name, tensor in weights.items() if tensor.is_floating_point()}
    if torch.stack([tensor.sum() for tensor in floats.values()]).isfinite().all():
        return  # a sum is several times as fast as a check of each number
    for name, tensor in floats.items():
        if not tensor.isfinite().all():
            raise ModelError(
                f"{path}: found {name} with nan or an infinite number; train a new model"
            )
