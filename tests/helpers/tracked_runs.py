"""Trainings to track, without any training, and what trackers hold of those that there were."""

import json

import pytest

from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.tracking.base import TrackedRun
from lstmfcn.training.metrics_log import read_metrics

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


def mlflow_store(folder, monkeypatch):
    """MLflow's client, and its store in a file."""
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ours")
    monkeypatch.chdir(folder)  # where MLflow makes a folder for artifacts
    client = mlflow.MlflowClient()
    client.create_experiment("ours", artifact_location=(folder / "artifacts").as_uri())
    return client


def noted(folder, tag="train_loss"):
    """Epochs and values, in TensorBoard's eyes."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), purge_orphaned_data=False).Reload()
    return [(point.step, point.value) for point in events.Scalars(tag)]


def logged(folder):
    """The same of each epoch in metrics.jsonl."""
    history = read_metrics(folder / "metrics.jsonl")
    return [(m["epoch"], pytest.approx(m["train_loss"], rel=1e-6)) for m in history]
