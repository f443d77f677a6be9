"""Training loops with nothing around them, to compare the engine with.

Shapes: N rows, T timepoints, K classes.
"""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import ray
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.model import LSTMFCN
from lstmfcn.training import ADAM_EPSILON, autocast, choose_precision

CPU = torch.device("cpu")


class PlainLSTMFCN(nn.Module):
    """The net as it is usually written: ``Conv1d``, channels first."""

    def __init__(self, h: Hyperparameters, n_timepoints: int, n_classes: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(n_timepoints, h.hidden_size, h.num_layers, batch_first=True)
        self.dropout = nn.Dropout(h.dropout)
        filters = (1, h.filters_1, h.filters_2, h.filters_3)
        kernels = (h.kernel_size_1, h.kernel_size_2, h.kernel_size_3)
        blocks = zip(pairwise(filters), kernels, strict=True)
        self.fcn = nn.Sequential(
            *(
                nn.Sequential(nn.Conv1d(a, b, k, padding="same"), nn.BatchNorm1d(b), nn.ReLU())
                for (a, b), k in blocks
            )
        )
        self.head = nn.Linear(h.hidden_size + h.filters_3, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K) of series (N, T)."""
        lstm = self.dropout(self.lstm(x.unsqueeze(1))[0].squeeze(1))
        return self.head(torch.cat([lstm, self.fcn(x.unsqueeze(1)).mean(dim=2)], dim=1))


def bare_loop_s(
    shape: tuple[int, int, int], h: Hyperparameters, epochs: int, plain: bool, threads: int
) -> list[float]:
    """Seconds of each epoch over random rows in memory, in a Ray task of so many CPUs.

    Args:
        shape: N, T, K.
        plain: the net and loop as usually written, in fp32; else the engine's net, precision,
            memory layout and fused optimiser.
    """
    task = ray.remote(num_cpus=threads)(_plain_loop if plain else _same_loop)
    seconds: list[float] = ray.get(task.remote(shape, h, epochs, threads))
    return seconds


def _rows(shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    n_rows, n_timepoints, n_classes = shape
    random = np.random.default_rng(0)
    values = random.standard_normal((n_rows, n_timepoints)).astype(np.float32)
    return torch.from_numpy(values), torch.from_numpy(random.integers(0, n_classes, n_rows))


def _same_loop(
    shape: tuple[int, int, int], h: Hyperparameters, epochs: int, threads: int
) -> list[float]:
    torch.set_num_threads(threads)
    x, y = _rows(shape)
    model = LSTMFCN(h, shape[1], shape[2]).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=h.lr, eps=ADAM_EPSILON, fused=True)
    precision = choose_precision(h.precision, CPU)
    seconds = []
    for _ in range(epochs):
        started = time.perf_counter()
        for rows in torch.randperm(len(x)).split(h.batch_size):
            with autocast(precision, CPU):
                logits = model(x[rows])
            loss = F.cross_entropy(logits.float(), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seconds.append(time.perf_counter() - started)
    return seconds


def _plain_loop(
    shape: tuple[int, int, int], h: Hyperparameters, epochs: int, threads: int
) -> list[float]:
    torch.set_num_threads(threads)
    x, y = _rows(shape)
    model = PlainLSTMFCN(h, shape[1], shape[2]).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=h.lr)
    seconds = []
    for _ in range(epochs):
        started = time.perf_counter()
        for rows in torch.randperm(len(x)).split(h.batch_size):
            loss = F.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seconds.append(time.perf_counter() - started)
    return seconds
