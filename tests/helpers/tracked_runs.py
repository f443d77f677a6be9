"""Trainings to track, without any training."""

import json

from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.tracking.base import TrackedRun

HYPERPARAMETERS = Hyperparameters(lr=0.01, epochs=6)


def tracked(name="", state="running", reason="", hyperparameters=HYPERPARAMETERS):
    return TrackedRun(name, hyperparameters.to_flags(), state, reason)


def epochs(n):
    """What metrics.jsonl says of n epochs."""
    return [
        {
            "epoch": epoch,
            "train_loss": 1 / epoch,
            "valid_accuracy": epoch / 10,
            "lr": 0.01,
            "rows": 100,
            "rows_per_second": 1000.0 + epoch,
            "seconds": 0.1,
            "time": 1.7e9 + epoch,
        }
        for epoch in range(1, n + 1)
    ]


def write_metrics(folder, n):
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(metrics) + "\n" for metrics in epochs(n)]
    (folder / "metrics.jsonl").write_text("".join(lines))
