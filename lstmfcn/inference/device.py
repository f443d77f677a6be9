"""Compute logits on the CPU or on a GPU.

On a GPU a network is captured as CUDA graphs, one for each power of two of rows; fewer rows are
padded. While the GPU computes some rows, the CPU scales the next ones and finishes those before.

Shapes: N rows, V values, K outputs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from lstmfcn.data.table import FloatArray
from lstmfcn.errors import ResourceError
from lstmfcn.hyperparameters import DeviceName
from lstmfcn.model.replay import graphed

_CPU_VALUES, _GPU_VALUES = 1 << 14, 1 << 19
_CPU_ROWS, _GPU_ROWS = 128, 1 << 12
_MIN_ROWS = 8


def choose_device(requested: DeviceName) -> torch.device:
    """Return the device of that name; ``auto`` is the GPU if this process sees one.

    Raises:
        ResourceError: ``cuda`` without a GPU.
    """
    if requested == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if requested == "cuda":
        raise ResourceError(
            "this process has no GPU that PyTorch can use; leave the GPU out, or install a build "
            "of PyTorch for it (docs/how-to/gpu.md)"
        )
    return torch.device("cpu")


def chunk_rows(n_values: int, device_type: str = "cpu") -> int:
    """Return the rows per chunk; a fixed size makes equal input give equal output.

    On a CPU 128 rows of up to 128 values; larger chunks were no faster, as they do not fit its
    caches. On a GPU 4,096 such rows, a few milliseconds of work; always a power of two.
    """
    if device_type == "cpu":
        return max(_MIN_ROWS, min(_CPU_ROWS, _CPU_VALUES // n_values))
    fitting = max(_MIN_ROWS, min(_GPU_ROWS, _GPU_VALUES // n_values))
    return 1 << (fitting.bit_length() - 1)


class Network(Protocol):
    """A network that is fused for prediction."""

    def compute_logits(self, x: Tensor) -> Tensor:
        """Compute logits, float32 (N, K), of scaled series (N, V)."""


class LogitsOnCPU:
    """Computes logits on the CPU."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def compute(self, chunks: Iterable[FloatArray]) -> Iterator[tuple[FloatArray, Tensor]]:
        """Yield each chunk of scaled series (N, V) and its logits (N, K)."""
        for chunk in chunks:
            yield chunk, self._network.compute_logits(torch.tensor(chunk))


class LogitsOnGPU:
    """Computes logits on a GPU, in fp32 without TF32 where the network is in fp32.

    Args:
        device: the network's.
        max_rows: the most rows of a chunk, a power of two.
    """

    def __init__(
        self, network: Network, device: torch.device, max_rows: int, n_values: int, n_outputs: int
    ) -> None:
        self._device = device
        self._logits = graphed(_without_tf32(network), device, "the prediction")
        self._lock = threading.Lock()  # graphs and buffers serve one caller at a time
        self._buffers = [_Buffers.make(device, max_rows, n_values, n_outputs) for _ in range(2)]

    def compute(self, chunks: Iterable[FloatArray]) -> Iterator[tuple[FloatArray, Tensor]]:
        """Yield each chunk of scaled series (N, V) and its logits (N, K), on the CPU.

        The logits are overwritten once the chunk after the next has begun.
        """
        ahead: tuple[FloatArray, Callable[[], Tensor]] | None = None
        with self._lock:
            for number, chunk in enumerate(chunks):
                started = chunk, self._start(chunk, self._buffers[number % 2])
                if ahead:
                    yield ahead[0], ahead[1]()
                ahead = started
            if ahead:
                yield ahead[0], ahead[1]()

    def _start(self, chunk: FloatArray, buffers: _Buffers) -> Callable[[], Tensor]:
        """Begin to compute a chunk; returns a function that waits for its logits."""
        n_rows, padded = len(chunk), 1 << (len(chunk) - 1).bit_length()
        buffers.x[:n_rows].copy_(torch.from_numpy(np.ascontiguousarray(chunk)))
        logits = self._logits(buffers.x[:padded].to(self._device, non_blocking=True))
        buffers.logits[:n_rows].copy_(logits[:n_rows], non_blocking=True)
        wait = _mark(self._device)

        def finish() -> Tensor:
            wait()
            return buffers.logits[:n_rows]

        return finish


class _Buffers(NamedTuple):
    """Memory of the CPU, pinned, from and to which a GPU copies while the CPU goes on."""

    x: Tensor
    logits: Tensor

    @classmethod
    def make(cls, device: torch.device, n_rows: int, n_values: int, n_outputs: int) -> _Buffers:
        pinned = device.type == "cuda"
        return cls(
            torch.zeros(n_rows, n_values, pin_memory=pinned),
            torch.zeros(n_rows, n_outputs, pin_memory=pinned),
        )


def _mark(device: torch.device) -> Callable[[], None]:
    """Mark what the device has been given so far; returns a function that waits for it."""
    if device.type != "cuda":
        return lambda: None
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return event.synchronize


def _without_tf32(network: Network) -> Callable[[Tensor], Tensor]:
    """Compute convolutions in full fp32: TF32, PyTorch's choice on a GPU, has 10 bits."""

    def compute(x: Tensor) -> Tensor:
        if x.device.type != "cuda":
            return network.compute_logits(x)
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return network.compute_logits(x)

    return compute
