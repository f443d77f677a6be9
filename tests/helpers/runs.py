"""Trainings, how they are compared, and places where they run out of room."""

import os
import subprocess
import sys
from contextlib import contextmanager

from lstmfcn.distributed.requests import Resources
from lstmfcn.distributed.train import train
from lstmfcn.model.artifact import Artifact
from lstmfcn.training.checkpoints import find_newest
from lstmfcn.training.metrics_log import read_metrics
from tests.helpers.checkout import REPOSITORY
from tests.helpers.problems import TINY, waves, write

LONG = TINY.model_copy(update={"epochs": 6, "batch_size": 8})
"""A training that can be interrupted on the rows of `write_long_data`."""

ONE_CPU = Resources(cpus_per_worker=1)
"""Two threads on a net so small would only wait for each other."""


def write_long_data(folder):
    """1,600 rows in two shards, of which `LONG` trains 200 steps an epoch."""
    return write(folder / "data", waves(1600), 2)


def train_run(folder, data, name="run", hyperparameters=TINY, **options):
    """Train into a folder of this name; returns it, and the best epoch's metrics."""
    result = train(data, folder / name, hyperparameters=hyperparameters, **options)
    assert (result.output, result.model) == (folder / name, folder / name / "model")
    assert result.metrics.to_dict("records") == read_metrics(folder / name / "metrics.jsonl")
    return folder / name, result.best


def start_train(*flags):
    """`lstmfcn train` on one CPU, as a process without a cluster that Ctrl-C reaches."""
    # a shell's background jobs ignore Ctrl-C, and so would what the tests start in one
    words = ["env", "--default-signal=INT", sys.executable, "-m", "lstmfcn", "train", *flags]
    return subprocess.Popen(
        [*map(str, words), "--cpus-per-worker", "1"],
        cwd=REPOSITORY,
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_as_if_never_interrupted(output, whole):
    """Same weights, bit for bit, and every epoch once, with the same losses."""
    assert_same_weights(output, whole)
    measured = ("epoch", "train_loss", "train_accuracy", "rows")
    assert [[m[k] for k in measured] for m in read_metrics(output / "metrics.jsonl")] == [
        [m[k] for k in measured] for m in read_metrics(whole / "metrics.jsonl")
    ]
    found, expected = (find_newest(run / "checkpoints") for run in (output, whole))
    assert len(found.content) == len(expected.content)
    assert {path.name for path in output.iterdir()} == {path.name for path in whole.iterdir()}


def assert_same_weights(output, whole):
    """Those of the models of two runs, bit for bit."""
    found, expected = (Artifact.load(run / "model").weights for run in (output, whole))
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert tensor.equal(found[name]), name


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
