"""The learning rate of an epoch, from what was asked for and the losses so far.

A pure function, so a training that goes on from a checkpoint goes on with the same rates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from lstmfcn.hyperparameters import Hyperparameters

_WARM_UP, _START = 0.25, 25.0
"""One cycle: the share of the epochs in which the rate rises, and lr over the first rate (fastai's
``fit_one_cycle``, after Smith and Topin 2019, "Super-Convergence")."""

_PATIENCE, _FACTOR, _LEAST, _MIN_DELTA = 100, 2 ** (-1 / 3), 1e-4, 1e-4
"""Plateau: the authors' ``ReduceLROnPlateau`` (titu1994/LSTM-FCN, utils/keras_utils.py)."""


def learning_rate(hyperparameters: Hyperparameters, losses: Sequence[float]) -> float:
    """Of the epoch that follows those with these training losses."""
    lr, done = hyperparameters.lr, len(losses) / hyperparameters.epochs
    match hyperparameters.schedule:
        case "constant":
            return lr
        case "cosine":
            return lr * _falling(done)
        case "one-cycle":
            if done < _WARM_UP:
                return lr / _START + lr * (1 - 1 / _START) * _falling(1 - done / _WARM_UP)
            return lr * _falling((done - _WARM_UP) / (1 - _WARM_UP))
        case "plateau":
            return _after_plateaus(lr, losses)


def _falling(done: float) -> float:
    """Half a cosine from 1 to 0."""
    return (1 + math.cos(math.pi * done)) / 2


def _after_plateaus(lr: float, losses: Sequence[float]) -> float:
    best, waited = math.inf, 0
    for loss in losses:
        if loss < best - _MIN_DELTA:
            best, waited = loss, 0
            continue
        waited += 1
        if waited >= _PATIENCE:
            lr, waited = max(lr * _FACTOR, min(lr, _LEAST)), 0
    return lr
