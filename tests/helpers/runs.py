"""Trainings, and places where they run out of room."""

import subprocess
from contextlib import contextmanager

from lstmfcn.distributed.train import train
from lstmfcn.training.metrics_log import read_metrics
from tests.helpers.problems import TINY


def train_run(folder, data, name="run", hyperparameters=TINY, **options):
    """Train into a folder of this name; returns it, and the best epoch's metrics."""
    result = train(data, folder / name, hyperparameters=hyperparameters, **options)
    assert (result.output, result.model) == (folder / name, folder / name / "model")
    assert result.metrics.to_dict("records") == read_metrics(folder / name / "metrics.jsonl")
    return folder / name, result.best


@contextmanager
def small_disk(folder, size):
    """A file system of this size inside the block; yields a function that gives it another size."""

    def resize(size):
        subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)

    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
    subprocess.run(mount, check=True)
    try:
        yield resize
    finally:
        subprocess.run(["umount", folder], check=True)
