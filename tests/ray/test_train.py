import json

import numpy as np
import pandas as pd
import pytest
import torch

from lstmfcn.distributed.predict import predict
from lstmfcn.distributed.requests import Resources
from lstmfcn.errors import DataError, HyperparameterError, OutputError, ResourceError
from lstmfcn.inference.predictor import Classifier
from lstmfcn.model.artifact import Artifact
from lstmfcn.training.in_memory import train_arrays
from lstmfcn.training.metrics_log import read_metrics
from tests.helpers.problems import TINY, waves, write
from tests.helpers.runs import train_run

pytestmark = pytest.mark.usefixtures("cluster")

ROWS = 101  # leaves a remainder for every number of shards, workers and batches below


@pytest.mark.parametrize("num_workers", [1, 2])
def test_rows_in_are_rows_trained_and_rows_predicted(tmp_path, num_workers):
    table = waves(ROWS)
    weights = []
    for n_shards in (1, 7):
        data = write(tmp_path / f"data{n_shards}", table, n_shards)
        output, _ = train_run(tmp_path, data, f"run{n_shards}", resources=Resources(num_workers))
        history = read_metrics(output / "metrics.jsonl")
        assert [epoch["rows"] for epoch in history] == [ROWS] * TINY.epochs

        predictions = tmp_path / f"predictions{n_shards}"
        assert predict(str(data), model=str(output / "model"), output=str(predictions)).rows == ROWS
        lengths = [
            (len(pd.read_csv(shard)), len(pd.read_csv(predictions / shard.name)))
            for shard in sorted(data.iterdir())
        ]
        assert len(lengths) == n_shards
        assert all(rows == predicted for rows, predicted in lengths)
        weights.append(Artifact.load(output / "model").weights)
    for other in weights[1:]:
        for name, tensor in weights[0].items():
            assert tensor.equal(other[name]), f"{name} depends on the shard layout"


def test_training_on_arrays_gives_the_same_weights(tmp_path):
    table = waves(ROWS)
    table["y"] = ["first", "second", "third"] * (ROWS // 3) + ["first"] * (ROWS % 3)
    table = table[["y", *(name for name in table if name.startswith("x"))]]
    hyperparameters = TINY.model_copy(
        update={
            "rows_per_epoch": 150,
            "schedule": "one-cycle",
            "weight_decay": 0.01,
            "label_smoothing": 0.1,
        }
    )
    data = write(tmp_path / "data", table, 2)
    output, _ = train_run(
        tmp_path, data, hyperparameters=hyperparameters, resources=Resources(cpus_per_worker=1)
    )
    values = table.drop(columns="y").to_numpy(np.float32)
    torch.set_num_threads(1)
    expected = train_arrays((values, table["y"].to_numpy(str)), hyperparameters).weights
    for name, tensor in Artifact.load(output / "model").weights.items():
        assert tensor.equal(expected[name]), name


def test_the_kept_weights_score_what_the_metrics_say(tmp_path):
    validation = waves(45, seed=1)
    output, kept = train_run(
        tmp_path,
        write(tmp_path / "train", waves(90)),
        validation=str(write(tmp_path / "validation", validation)),
        resources=Resources(2),
    )
    classifier = Classifier.load(output / "model")
    probabilities = classifier.predict_proba(validation.filter(like="x_"))
    truth = validation.filter(like="y_").to_numpy().argmax(axis=1)
    loss = -np.log(probabilities[np.arange(45), truth]).mean()

    assert kept["valid_loss"] == pytest.approx(loss, rel=1e-4)
    assert kept["valid_accuracy"] == pytest.approx((probabilities.argmax(axis=1) == truth).mean())


def test_a_used_output_and_too_large_a_wish_are_refused(tmp_path):
    data = write(tmp_path / "data", waves(30))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text(json.dumps({"epoch": 1}) + "\n")
    with pytest.raises(OutputError, match=r"found metrics.jsonl of an earlier run; add --resume"):
        train_run(tmp_path, data)
    with pytest.raises(
        ResourceError, match=r"no room for 3 workers of 2 CPUs: .* 4 CPUs and 0 GPUs;"
    ):
        train_run(tmp_path, data, "other", resources=Resources(3, cpus_per_worker=2))
    with pytest.raises(
        ResourceError, match=r"no room for 1 worker of 1 CPU and a GPU: .* or add --no-use-gpu"
    ):
        train_run(tmp_path, data, "other", resources=Resources(use_gpu=True))
    small = TINY.model_copy(update={"batch_size": 3})
    with pytest.raises(
        HyperparameterError,
        match="batch-size: found 3; it must be at least 4, two rows for each worker, because batch",
    ):
        train_run(tmp_path, data, "other", hyperparameters=small, resources=Resources(2))
    with pytest.raises(DataError, match=r"found 3 rows for 2 workers"):
        train_run(tmp_path, write(tmp_path / "few", waves(3)), "other", resources=Resources(2))
    assert not (tmp_path / "other").exists()
