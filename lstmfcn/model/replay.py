"""Run a function of tensors on a GPU as a CUDA graph: captured once, then replayed.

A training step is some 150 small kernels. Launched one by one they keep a GPU about a tenth busy;
a graph launches them together. What is captured must not read a tensor on the host, and must find
its inputs at the same addresses each time, so inputs are copied into tensors of the graph's own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

Function = Callable[..., Tensor]
"""A function of tensors, and of numbers that do not change what it returns the shape of."""

Run = Callable[[], Tensor]
"""Computes a result from, and into, tensors whose addresses do not change."""

_WARM_UPS = 3
"""Runs before a capture, in which libraries choose their kernels and take their memory."""

_MAX_GRAPHS = 16
"""Graphs of one function. Shapes beyond them are computed kernel by kernel."""

logger = logging.getLogger(__name__)


def graphed(
    function: Function,
    device: torch.device,
    name: str,
    state: Callable[[], Iterable[Tensor]] = tuple,
) -> Function:
    """Return a function that does the same, replayed from graphs if the device is a GPU.

    Args:
        function: computes on the device; it may also change the tensors of its state.
        name: what the function does, for the log.
        state: returns all tensors that outlive a call, and that the function changes.

    Returns:
        A function of the same arguments. What it returns is overwritten by its next call.
    """
    if device.type != "cuda":
        return function
    return GraphedFunction(function, name, state, capture)


class Pool:
    """Memory that several graphs share; it is taken by the first that is captured."""

    handle: Any = None


class GraphedFunction:
    """Replays a function from one graph for each shape of its inputs, and each of its numbers.

    Args:
        capture: makes the graph of a run, as `capture` does.
    """

    def __init__(
        self,
        function: Function,
        name: str,
        state: Callable[[], Iterable[Tensor]],
        capture: Callable[[Run, Pool], Run],
    ) -> None:
        self._function, self._name, self._state, self._capture = function, name, state, capture
        self._graphs: dict[tuple[Any, ...], _Graph] = {}
        self._captures, self._pool = True, Pool()

    def __call__(self, *arguments: Tensor | int) -> Tensor:
        """Compute the function; its result is overwritten by the next call."""
        key = tuple(a.shape if isinstance(a, Tensor) else a for a in arguments)
        graph = self._graphs.get(key)
        if graph is None and self._captures and len(self._graphs) < _MAX_GRAPHS:
            graph = self._try_to_capture(arguments)
            if graph:
                self._graphs[key] = graph
        if graph is None:
            return self._function(*arguments)
        for own, given in zip(graph.inputs, _tensors(arguments), strict=True):
            own.copy_(given, non_blocking=True)
        return graph.replay()

    def _try_to_capture(self, arguments: tuple[Tensor | int, ...]) -> _Graph | None:
        """Capture a graph; None, with a line in the log, where that is not possible.

        The runs before the capture are undone.
        """
        own = [a.clone() if isinstance(a, Tensor) else a for a in arguments]
        before = [(tensor, tensor.detach().clone()) for tensor in self._state()]
        try:
            replay = self._capture(lambda: self._function(*own), self._pool)
        except RuntimeError as error:  # also a lack of memory: kernel by kernel, less is needed
            reason = str(error).partition("\n")[0][:200]
            logger.warning(
                "%s cannot be captured as a CUDA graph (%s); it runs several times slower",
                self._name,
                reason,
            )
            self._captures = False
            return None
        finally:
            with torch.no_grad():
                for tensor, value in before:
                    tensor.copy_(value)
        return _Graph(_tensors(own), replay)


class _Graph(NamedTuple):
    inputs: list[Tensor]
    replay: Run


def _tensors(arguments: Iterable[Tensor | int]) -> list[Tensor]:
    return [argument for argument in arguments if isinstance(argument, Tensor)]


def capture(run: Run, pool: Pool) -> Run:
    """Run a few times on a stream of its own, then capture; PyTorch documents this order.

    Other threads may use the GPU meanwhile, as where an endpoint loads a model while it answers.

    Args:
        pool: the memory of graphs that are replayed one at a time, and whose results are used
            before the next one is replayed.
    """
    random = torch.cuda.get_rng_state()  # which the runs would change
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UPS):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool.handle, capture_error_mode="thread_local"):
        result = run()
    torch.cuda.set_rng_state(random)
    pool.handle = graph.pool()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay
