"""Training loops with nothing around them, to compare the engine with.

Shapes: N rows, T timepoints, K classes.
"""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import ray
import torch
import torch.nn.functional as F
from commands import PLAIN
from torch import Tensor, nn

from lstmfcn.adam import EPSILON
from lstmfcn.batches import EvaluationBatches, training_batches
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.model import LSTMFCN
from lstmfcn.rows import Rows
from lstmfcn.scaling import Scaler
from lstmfcn.task import Multiclass
from lstmfcn.training import autocast, choose_precision, evaluate, fit
from lstmfcn.training_state import Training

CPU = torch.device("cpu")
SPLITS = ("TRAIN", "TEST")


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

    @torch.no_grad()
    def start_as(self, other: LSTMFCN) -> PlainLSTMFCN:
        """Take over the weights of the engine's net."""
        self.lstm.load_state_dict(other.lstm.layers[0].state_dict())
        self.head.load_state_dict(other.head.state_dict())
        for mine, theirs in zip(self.fcn, other.fcn.blocks, strict=True):
            mine[0].weight.copy_(theirs.convolution.weight.squeeze(2))
            mine[0].bias.copy_(theirs.convolution.bias)
        return self


def bare_loop_s(
    shape: tuple[int, int, int], h: Hyperparameters, epochs: int, plain: bool, threads: int
) -> list[float]:
    """Seconds of each epoch over random rows in memory, in a Ray task of so many CPUs.

    Args:
        shape: N, T, K.
        plain: the net and loop as usually written, in fp32; else the engine's net, precision,
            memory layout and fused optimiser.
    """
    task = ray.remote(num_cpus=threads)(_loop)
    seconds: list[float] = ray.get(task.remote(shape, h, epochs, plain, threads))
    return seconds


def _rows(shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    n_rows, n_timepoints, n_classes = shape
    random = np.random.default_rng(0)
    values = random.standard_normal((n_rows, n_timepoints)).astype(np.float32)
    return torch.from_numpy(values), torch.from_numpy(random.integers(0, n_classes, n_rows))


def _loop(
    shape: tuple[int, int, int], h: Hyperparameters, epochs: int, plain: bool, threads: int
) -> list[float]:
    torch.set_num_threads(threads)
    x, y = _rows(shape)
    if plain:
        model: nn.Module = PlainLSTMFCN(h, shape[1], shape[2])
        optimizer = torch.optim.Adam(model.parameters(), lr=h.lr)
    else:
        model = LSTMFCN(h, shape[1], shape[2])
        optimizer = torch.optim.Adam(model.parameters(), lr=h.lr, eps=EPSILON, fused=True)
    precision = "fp32" if plain else choose_precision(h.precision, CPU)
    model.train()
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


def accuracy_on(folder: Path, kind: str, seed: int, epochs: int) -> float:
    """Test accuracy of the epoch with the least training loss, on a set of the UCR archive.

    Args:
        folder: holds TRAIN.tsv and TEST.tsv.
        kind: ``plain``, the net as usually written in fp32; else the precision of the engine's.
    """
    train, test = (pd.read_csv(folder / f"{split}.tsv", sep="\t", header=None) for split in SPLITS)
    classes, codes = np.unique(train[0], return_inverse=True)
    values = [table.iloc[:, 1:].to_numpy(np.float32) for table in (train, test)]
    scaler = Scaler.fit("global", values[0])
    x, x_test = (scaler.transform(part) for part in values)
    precision = "fp32" if kind == "plain" else kind
    h = PLAIN.model_copy(update={"epochs": epochs, "seed": seed, "precision": precision})
    torch.manual_seed(seed)
    net: nn.Module = LSTMFCN(h, x.shape[1], len(classes))
    if kind == "plain":
        net = PlainLSTMFCN(h, x.shape[1], len(classes)).start_as(net)
    task = Multiclass(len(classes))
    batches = training_batches(Rows(x, codes), h.batch_size, seed)
    trained = Training(net, h.lr)
    fit(trained, task, batches, None, h, lambda _: None)
    net.load_state_dict(trained.best_weights)
    right = Rows(x_test, np.searchsorted(classes, test[0]))
    totals = evaluate(net, task, EvaluationBatches(right))
    return totals.right / totals.rows
