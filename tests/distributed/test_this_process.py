"""One machine, no cluster: this process trains, evaluates and predicts, and no Ray runs."""

import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from lstmfcn import evaluate, predict, train
from lstmfcn.distributed.capacity import available_cpus
from lstmfcn.distributed.requests import Resources
from lstmfcn.errors import DataError, OutputError, ResourceError
from lstmfcn.inference.predictor import Classifier
from lstmfcn.model.artifact import Artifact
from lstmfcn.training.in_memory import train_arrays
from lstmfcn.training.metrics_log import read_metrics
from tests.helpers.checkout import REPOSITORY
from tests.helpers.killing import epochs_in, wait_until
from tests.helpers.problems import TINY, as_flags, waves, write
from tests.helpers.runs import small_disk

ONE_CPU = Resources(cpus_per_worker=1)
"""Two threads on a net so small would only wait for each other."""

LONG = TINY.model_copy(update={"epochs": 6, "batch_size": 8})
OFTEN = ["--cpus-per-worker", "1", "--checkpoint-every-s", "0"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data") / "data", waves(1200), 2)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A run that nothing interrupts."""
    output = tmp_path_factory.mktemp("whole") / "run"
    train(data, output, hyperparameters=LONG, resources=ONE_CPU)
    return output


def test_it_trains_evaluates_and_predicts_as_on_arrays(data, whole, tmp_path):
    artifact, rows = Artifact.load(whole / "model"), waves(1200)
    assert artifact.training["num_workers"] == 1
    assert artifact.training["device"] == ("cuda" if torch.cuda.is_available() else "cpu")
    values = rows.filter(like="x_").to_numpy(np.float32)
    names = rows.filter(like="y_").to_numpy() @ np.arange(3)
    torch.set_num_threads(1)
    expected = train_arrays((values, names.astype(str)), LONG)
    for name, tensor in artifact.weights.items():
        assert tensor.equal(expected.weights[name]), name
    found = evaluate(data, model=whole).metrics
    predicted = Classifier.load(whole / "model").predict(values)
    right = predicted == np.array(["y_1", "y_2", "y_3"])[names]
    assert found["accuracy"] == pytest.approx(right.mean())
    result = predict(data, model=whole, output=tmp_path / "out", explain=True)
    assert (result.rows, len(result.files), len(result.explanations)) == (1200, 2, 2)
    written = pd.concat([pd.read_csv(file) for file in result.files])
    assert (
        written.filter(like="y_").columns[written.filter(like="y_").to_numpy().argmax(1)].tolist()
        == predicted.tolist()
    )


def started(data, output, *flags):
    """`lstmfcn train` as a process that Ctrl-C reaches."""
    words = ["env", "--default-signal=INT", sys.executable, "-m", "lstmfcn", "train"]
    words += [data, "--output", output, *OFTEN, *flags]
    return subprocess.Popen(
        [str(word) for word in words],
        cwd=REPOSITORY,
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_training_that_is_ended_resumes_as_if_it_never_was(data, whole, tmp_path, number):
    output = tmp_path / "run"
    long = as_flags(LONG.model_copy(update={"epochs": 3000}).model_dump())
    with started(data, output, *long) as process:
        wait_until(lambda: epochs_in(output) >= 2, "epoch 2")
        os.kill(process.pid, number)
        _, told = process.communicate(timeout=60)
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130
        line = told.splitlines()[-1]
        assert line.startswith("lstmfcn: stopped after epoch ")
        assert line.endswith(" --resume")
    assert "Traceback" not in told
    assert not (output / "model").exists()
    epochs = epochs_in(output)
    result = train(
        None,
        output,
        hyperparameters=LONG.model_copy(update={"epochs": epochs + 1}),
        resources=ONE_CPU,
        resume=True,
    )
    assert result.metrics["epoch"].tolist() == list(range(1, epochs + 2))
    first = read_metrics(whole / "metrics.jsonl")[:2]
    assert [m["train_loss"] for m in result.history[:2]] == [m["train_loss"] for m in first]


def test_memory_that_is_not_there_is_told_in_a_line(data, tmp_path):
    greedy = LONG.model_copy(update={"hidden_size": 10_000_000})
    with pytest.raises(ResourceError, match=r"out of memory in a worker .*; lower --batch-size"):
        train(data, tmp_path / "run", hyperparameters=greedy, resources=ONE_CPU)
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_full_disk_is_told_in_a_line_and_the_run_resumes_with_more_room(data, whole, tmp_path):
    disk, output = tmp_path / "disk", tmp_path / "disk" / "run"
    disk.mkdir()
    given = {"hyperparameters": LONG, "resources": ONE_CPU, "checkpoint_every_s": 0}
    with small_disk(disk, "60k") as resize:
        with pytest.raises(OutputError, match=r"cannot be written \(No space left on device\)"):
            train(data, output, **given)
        assert not (output / "model").exists()
        resize("10m")
        train(data, output, **given, resume=True)
        expected = Artifact.load(whole / "model").weights
        for name, tensor in Artifact.load(output / "model").weights.items():
            assert tensor.equal(expected[name]), name


@pytest.mark.parametrize("memory_gb", [None, 0])
def test_a_faulty_shard_is_refused_and_leaves_nothing(tmp_path, memory_gb):
    data = write(tmp_path / "data", waves(300), 3)
    shard = data / "part-002.csv"
    shard.write_text(shard.read_text().rstrip() + ",7\n")
    with pytest.raises(DataError, match=r"part-002.csv, row 100"):
        train(
            data, tmp_path / "run", hyperparameters=LONG, resources=Resources(memory_gb=memory_gb)
        )
    assert not (tmp_path / "run").exists()


def test_streamed_rows_train_the_same_network_as_before(data, tmp_path):
    limits = Resources(cpus_per_worker=1, memory_gb=0)
    train(data, tmp_path / "run", hyperparameters=TINY, resources=limits)
    assert [m["rows"] for m in read_metrics(tmp_path / "run" / "metrics.jsonl")] == [1200] * 2


def test_cpus_are_those_that_this_process_may_use(monkeypatch, tmp_path):
    monkeypatch.setattr("lstmfcn.distributed.capacity._CGROUP", tmp_path)
    everything = available_cpus()
    assert 1 <= everything <= os.cpu_count()
    for written, cpus in (("max 100000", everything), ("150000 100000", 1), ("junk", everything)):
        (tmp_path / "cpu.max").write_text(written)
        assert available_cpus() == cpus
