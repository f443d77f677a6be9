"""One machine, no cluster: this process trains, evaluates and predicts, and no Ray runs."""

import os

import numpy as np
import pandas as pd
import pytest
import torch

from lstmfcn import evaluate, predict, train
from lstmfcn.distributed.capacity import available_cpus
from lstmfcn.distributed.requests import Resources
from lstmfcn.inference.predictor import Classifier
from lstmfcn.model.artifact import Artifact
from lstmfcn.training.in_memory import train_arrays
from tests.helpers.problems import TINY, waves, write
from tests.helpers.small_models import tiny_artifact, tiny_rows

LONG = TINY.model_copy(update={"epochs": 6, "batch_size": 8})


def test_it_trains_evaluates_and_predicts_as_on_arrays(tmp_path):
    rows, whole = waves(1200), tmp_path / "run"
    data = write(tmp_path / "data", rows, 2)
    train(data, whole, hyperparameters=LONG, resources=Resources(cpus_per_worker=1))
    artifact = Artifact.load(whole / "model")
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


def test_one_shard_is_predicted_in_this_process_however_large_it_is(tmp_path, monkeypatch, caplog):
    """Another process would be alone with it, and start first."""
    monkeypatch.setattr("lstmfcn.distributed.predict._BYTES_WORTH_RAY", 0)
    caplog.set_level("INFO")
    tiny_artifact().save(tmp_path / "model")
    columns = tiny_artifact().schema.value_columns
    data = tmp_path / "data.csv"
    pd.DataFrame(tiny_rows(n_rows=9).values, columns=columns).to_csv(data, index=False)
    assert predict(data, model=tmp_path / "model", output=tmp_path / "out").rows == 9
    assert "Ray is up" not in caplog.text


def test_cpus_are_those_that_this_process_may_use(monkeypatch, tmp_path):
    monkeypatch.setattr("lstmfcn.distributed.capacity._CGROUP", tmp_path)
    everything = available_cpus()
    assert 1 <= everything <= os.cpu_count()
    for written, cpus in (("max 100000", everything), ("150000 100000", 1), ("junk", everything)):
        (tmp_path / "cpu.max").write_text(written)
        assert available_cpus() == cpus
