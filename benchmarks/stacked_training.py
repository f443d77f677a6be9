"""Many networks of one shape trained side by side, as one: what a GPU is busy with.

The mathematics of the package's own training of a series of one channel: `LSTMFCN`, batch norm,
label smoothing, AdamW, the schedule, the order of rows, and the epoch that is kept. Only dropout
draws other numbers. A step of the whole stack is one CUDA graph, so that small networks cost what
they compute, and not what it takes to start them. ``benchmarks/small_sets.py --check`` compares it
with the package.

Shapes: K networks, B rows of a batch, T timepoints, F filters, H hidden units, C classes, M ways in
which batch norm's statistics remember.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lstmfcn.adam import EPSILON
from lstmfcn.batch_norm import BatchNorm
from lstmfcn.bounds import batch_bounds, batch_size_for
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.schedules import learning_rate

Memory = Callable[[Tensor], Tensor]
"""What the n-th batch weighs in batch norm's statistics."""

_BATCH_NORM_EPSILON = BatchNorm(1, 0.1).eps
_WARM_UPS = 3


class Rows(NamedTuple):
    """Scaled series (K, N, T) of each network, and their classes (K, N)."""

    x: Tensor
    classes: Tensor


class Stack:
    """K networks of one shape, their optimiser, and their batch norms' statistics.

    Args:
        states: each network's initial weights, as `LSTMFCN` names them.
        hyperparameters: of all of them; the seed is each network's own.
        seeds: of the networks.
        rows: that they train on.
        memories: what batches weigh in batch norm's statistics, of which there are several.
        precision: of convolutions.
    """

    def __init__(
        self,
        states: Sequence[dict[str, Tensor]],
        hyperparameters: Hyperparameters,
        seeds: Sequence[int],
        rows: Rows,
        memories: Sequence[Memory],
        precision: torch.dtype,
    ) -> None:
        self.h, self.seeds, self.rows, self.precision = hyperparameters, seeds, rows, precision
        self.memories = list(memories)
        device = rows.x.device
        stacked = {
            name: torch.stack([state[name].contiguous() for state in states]).to(device)
            for name in states[0]
            if "running" not in name and "tracked" not in name
        }
        used = {name: t for name, t in stacked.items() if "weight_hh" not in name}  # of one step
        self.weights = {name: tensor.requires_grad_() for name, tensor in used.items()}
        self.norms = [name for name in states[0] if name.endswith("running_mean")]
        sizes = [len(seeds) * len(states[0][name]) for name in self.norms]
        self.statistics = [torch.zeros(2, len(memories), n, device=device) for n in sizes]
        self.n = torch.zeros((), device=device)
        self.lr = torch.zeros((), device=device)
        parameters = list(self.weights.values())
        self._means = [torch.zeros_like(p) for p in parameters]
        self._squares = [torch.zeros_like(p) for p in parameters]
        self._steps = [torch.zeros((), device=device)] * len(parameters)
        self._decaying = [p for p in parameters if p.ndim > 2]
        self.losses = torch.zeros(len(seeds), device=device)

    def state(self) -> list[Tensor]:
        """All that a step changes."""
        changing = [*self.weights.values(), *self._means, *self._squares, self._steps[0]]
        return [t.detach() for t in (*changing, *self.statistics, self.n, self.losses)]

    def logits(self, x: Tensor, memory: int | None = None) -> Tensor:
        """Logits (K, B, C) of series (K, B, T); in training where no memory is named."""
        w, k = self.weights, len(self.seeds)
        at = 0
        if len(self.norms) > 3:  # what is seen is normalised first
            x = self._norm(x.reshape(k, 1, -1), 0, "view", memory).reshape(x.shape)
            at = 1
        gates = torch.baddbmm(
            (w["lstm.layers.0.bias_ih_l0"] + w["lstm.layers.0.bias_hh_l0"]).unsqueeze(1),
            x,
            w["lstm.layers.0.weight_ih_l0"].transpose(1, 2),
        )
        i, _, g, o = gates.chunk(4, dim=2)
        hidden = o.sigmoid() * (i.sigmoid() * g.tanh()).tanh()
        if memory is None:
            hidden = F.dropout(hidden, self.h.dropout)
        image = x.unsqueeze(1).to(self.precision if memory is None else torch.float32)
        shape = image.shape[2:]
        for block in range(3):
            name = f"fcn.blocks.{block}"
            weight = w[f"{name}.convolution.weight"]
            size = weight.shape[-1]
            padded = F.pad(image.reshape(k, -1, *shape), ((size - 1) // 2, size // 2))
            columns = padded.unfold(-1, size, 1).permute(0, 1, 4, 2, 3)
            image = torch.baddbmm(
                w[f"{name}.convolution.bias"].unsqueeze(2).to(image.dtype),
                weight.flatten(2).to(image.dtype),
                columns.reshape(k, weight.shape[2] * size, -1),
            )
            image = self._norm(image, at + block, name, memory).relu()
        pooled = image.reshape(k, -1, *shape).float().mean(dim=3).transpose(1, 2)
        both = torch.cat([hidden, pooled], dim=2)
        return torch.baddbmm(w["head.bias"].unsqueeze(1), both, w["head.weight"].transpose(1, 2))

    def _norm(self, image: Tensor, at: int, name: str, memory: int | None) -> Tensor:
        """Batch norm of (K, F, B * T); in training also the statistics of every memory."""
        w, shape = self.weights, image.shape
        weight, bias = (w[f"{name}.batch_norm.{kind}"].flatten() for kind in ("weight", "bias"))
        flat = image.reshape(1, len(weight), shape[2])
        if memory is not None:
            mean, variance = self.statistics[at][:, memory]
            return F.batch_norm(
                flat, mean, variance, weight, bias, eps=_BATCH_NORM_EPSILON
            ).reshape(shape)
        normed, mean, inverse = torch.native_batch_norm(
            flat, weight, bias, None, None, True, 0.0, _BATCH_NORM_EPSILON
        )
        with torch.no_grad():
            variance = (inverse.double() ** -2 - _BATCH_NORM_EPSILON).float()
            unbiased = variance * (shape[2] / (shape[2] - 1))
            found = torch.stack([mean, unbiased]).unsqueeze(1)
            shares = torch.stack([weigh(self.n) for weigh in self.memories])
            self.statistics[at].lerp_(found, shares[None, :, None])
        return normed.reshape(shape)

    def step(self, taken: Tensor) -> None:
        """One step of every network, on its rows of these indices (K, B)."""
        self.n.add_(1)
        x = self.rows.x.gather(1, taken.unsqueeze(2).expand(-1, -1, self.rows.x.shape[2]))
        logits = self.logits(x).transpose(1, 2)
        loss = F.cross_entropy(
            logits,
            self.rows.classes.gather(1, taken),
            reduction="none",
            label_smoothing=self.h.label_smoothing,
        )
        self.losses.add_(loss.detach().sum(dim=1))
        parameters = list(self.weights.values())
        gradients = torch.autograd.grad(loss.mean(dim=1).sum(), parameters)
        with torch.no_grad():
            torch._foreach_mul_(self._decaying, 1 - self.lr * self.h.weight_decay)
            self._steps[0].add_(1)
            torch._fused_adam_(
                parameters,
                [gradient.contiguous() for gradient in gradients],  # laid out as parameters are
                self._means,
                self._squares,
                [],
                self._steps,
                lr=self.lr,
                beta1=0.9,
                beta2=0.999,
                weight_decay=0.0,
                eps=EPSILON,
                amsgrad=False,
                maximize=False,
            )

    def fit(self) -> list[list[float]]:
        """Train all epochs, and keep of each network that of the least loss; losses by epoch."""
        n_rows = self.rows.x.shape[1]
        passes = max(1, math.ceil(self.h.rows_per_epoch / n_rows))
        bounds = batch_bounds(n_rows * passes, batch_size_for(self.h.batch_size, n_rows), 1)
        steps = self._steps_of({stop - start for start, stop in bounds})
        kept = [now.clone() for now, _ in self._kept()]
        least = torch.full_like(self.losses, math.inf)
        history: list[list[float]] = []
        for epoch in range(1, self.h.epochs + 1):
            self.lr.fill_(learning_rate(self.h, [0.0] * (epoch - 1)))
            order = self._order(epoch, n_rows, passes)
            self.losses.zero_()
            for start, stop in bounds:
                steps[stop - start](order[:, start:stop])
            losses = self.losses / (n_rows * passes)
            better = losses < least
            least = torch.where(better, losses, least)
            for (now, at), best in zip(self._kept(), kept, strict=True):
                ones = [1] * (now.ndim - at - 1)
                best.copy_(torch.where(better.reshape(-1, *ones), now, best))
            history.append(losses.tolist())
        for (now, _), best in zip(self._kept(), kept, strict=True):
            now.copy_(best)
        return history

    def _kept(self) -> list[tuple[Tensor, int]]:
        """What is kept of the best epoch, and which dimension is that of the networks."""
        k, m = len(self.seeds), len(self.memories)
        weights = [(tensor.detach(), 0) for tensor in self.weights.values()]
        return weights + [(tensor.view(2, m, k, -1), 2) for tensor in self.statistics]

    def _order(self, epoch: int, n_rows: int, passes: int) -> Tensor:
        orders = []
        for seed in self.seeds:
            random = np.random.default_rng([seed, epoch])
            orders.append(np.concatenate([random.permutation(n_rows) for _ in range(passes)]))
        return torch.from_numpy(np.stack(orders)).to(self.rows.x.device)

    def _steps_of(self, sizes: set[int]) -> dict[int, Callable[[Tensor], Any]]:
        """How a step of each number of rows is taken: on a GPU, by a graph."""
        if self.rows.x.device.type != "cuda":
            return dict.fromkeys(sizes, self.step)
        before = [t.clone() for t in self.state()]
        found = {size: self._graph(size) for size in sizes}
        for now, start in zip(self.state(), before, strict=True):
            now.copy_(start)
        return found

    def _graph(self, size: int) -> Callable[[Tensor], None]:
        taken = torch.zeros(len(self.seeds), size, dtype=torch.int64, device=self.rows.x.device)
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UPS):
                self.step(taken)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.step(taken)

        def run(indices: Tensor) -> None:
            taken.copy_(indices)
            graph.replay()

        return run
