"""One training in one process: what it writes, continues from, refuses."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from lstmfcn.distributed.predict import predict
from lstmfcn.distributed.requests import Resources
from lstmfcn.errors import DataError, HyperparameterError, OutputError, TrainingError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.inference.predictor import Classifier
from lstmfcn.model.artifact import Artifact
from lstmfcn.training.in_memory import train_arrays
from lstmfcn.training.metrics_log import read_metrics
from tests.helpers.problems import TINY, waves, write
from tests.helpers.runs import assert_same_weights, train_run

ROWS = 101  # leaves a remainder for every number of shards, workers and batches below


def test_a_run_learns_keeps_its_best_epoch_and_writes_what_it_promises(tmp_path, capsys):
    data = write(tmp_path / "train", waves(240), 2)
    validation = write(tmp_path / "validation", waves(90, seed=1))
    longer = TINY.model_copy(update={"epochs": 12})
    output, kept = train_run(tmp_path, data, hyperparameters=longer, validation=str(validation))

    assert {path.name for path in output.iterdir()} == {
        "model",
        "metrics.jsonl",
        "learning_curve.png",
        "run.json",
        "checkpoints",
    }
    history = read_metrics(output / "metrics.jsonl")
    assert [epoch["epoch"] for epoch in history] == list(range(1, 13))
    assert kept == min(history, key=lambda epoch: epoch["valid_loss"])
    artifact = Artifact.load(output / "model")
    assert artifact.metrics == kept
    assert artifact.training["train_rows"] == 240
    assert artifact.training["validation_rows"] == 90

    test = waves(300, seed=2)
    predicted = Classifier(artifact).predict(test.filter(like="x_"))
    truth = np.array(["y_1", "y_2", "y_3"])[test.filter(like="y_").to_numpy().argmax(axis=1)]
    assert (predicted == truth).mean() > 0.9
    printed = capsys.readouterr().out
    assert f"epoch: 12 train_loss: {history[11]['train_loss']:.8f}" in printed


def test_rows_in_are_rows_trained_and_rows_predicted_in_any_layout(tmp_path):
    outputs = []
    for n_shards in (1, 7):
        data = write(tmp_path / f"data{n_shards}", waves(ROWS), n_shards)
        output, _ = train_run(tmp_path, data, f"run{n_shards}")
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
        outputs.append(output)
    assert_same_weights(*outputs)


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


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_other_tasks_train_and_predict_their_columns(tmp_path, task):
    table = waves(60)
    if task == "binary":
        table = table.drop(columns=["y_2", "y_3"])
    else:
        table["y_3"] = 1 - table["y_3"]
    data = write(tmp_path / "data", table)
    longer = TINY.model_copy(update={"task": task, "epochs": 30})
    output, kept = train_run(tmp_path, data, hyperparameters=longer)
    predict(str(data), model=str(output / "model"), output=str(tmp_path / "predictions"))
    predicted = pd.read_csv(tmp_path / "predictions" / "part-000.csv")

    labels = [name for name in table if name.startswith("y")]
    shares = [f"p{name[1:]}" for name in labels]
    assert list(predicted) == labels + shares
    assert ((predicted[shares].to_numpy() > 0.5) == predicted[labels].to_numpy()).all()
    assert (predicted[labels].to_numpy() == table[labels].to_numpy()).mean() > 0.9
    assert ("train_exact_match" in kept) == (task == "multilabel")


def test_training_continues_from_a_model_and_says_what_applies(tmp_path, caplog):
    data = write(tmp_path / "data", waves(120))
    first, before = train_run(tmp_path, data, "first")
    given = Hyperparameters(epochs=3, lr=0.005, hidden_size=99, scaling="none")
    with caplog.at_level("INFO"):
        second, after = train_run(
            tmp_path, data, "second", hyperparameters=given, model=str(first / "model")
        )
    assert "lr 0.005 applies (the model was trained with 0.01)" in caplog.messages
    assert "epochs 3 applies (the model was trained with 2)" in caplog.messages
    assert "hidden-size 99 is overridden by the model's 4" in caplog.messages
    assert "scaling none is overridden by the model's global" in caplog.messages
    history = read_metrics(second / "metrics.jsonl")
    assert len(history) == 3
    assert history[0]["train_loss"] < read_metrics(first / "metrics.jsonl")[0]["train_loss"]
    assert after["train_loss"] < before["train_loss"]
    old, new = Artifact.load(first / "model"), Artifact.load(second / "model")
    assert new.scaler == old.scaler
    assert new.hyperparameters.hidden_size == 4
    assert new.training["continued_from"] == old.training["train_sha256"]

    table = waves(60, seed=5)
    table.loc[:, "x_1":] *= 3
    other = write(tmp_path / "other", table)
    third = {"hyperparameters": given, "model": first / "model", "overwrite": True}
    with pytest.raises(OutputError, match=r"holds the model to continue from, which would be lost"):
        train_run(tmp_path, other, "first", **third)
    assert Artifact.load(first / "model").sha256 == old.sha256
    replaced, _ = train_run(tmp_path, other, "second", **third)  # in place of the second one
    third = Artifact.load(replaced / "model")
    assert third.scaler == old.scaler
    assert third.training["train_sha256"] != new.training["train_sha256"]
    strange = write(tmp_path / "strange", waves(60).rename(columns={"x_12": "x_99"}))
    with pytest.raises(DataError, match=r"\(missing: x_12; unexpected: x_99\)"):
        train_run(tmp_path, strange, "fourth", model=str(first / "model"))
    fewer = write(tmp_path / "fewer", waves(60).drop(columns="y_3"))
    with pytest.raises(
        DataError, match=r"found 2 label columns \(missing: y_3\); .* y_1, y_2, y_3"
    ):
        train_run(tmp_path, fewer, "fifth", model=str(first / "model"))
    assert not (tmp_path / "fourth").exists()
    assert not (tmp_path / "fifth").exists()


def test_an_absent_class_is_refused_before_anything_is_written(tmp_path):
    table = waves(30)
    data = write(tmp_path / "data", table[table.y_2 == 0])
    with pytest.raises(DataError, match=r"data: found no row of the class y_2; add training rows"):
        train_run(tmp_path, data)
    assert not (tmp_path / "run").exists()


def test_a_diverging_training_ends_with_one_line_and_no_model(tmp_path):
    data = write(tmp_path / "data", waves(30))
    wild = TINY.model_copy(update={"lr": 1e38, "epochs": 20})
    with pytest.raises(TrainingError, match=r"train_loss became .* in epoch \d+; try a smaller"):
        train_run(tmp_path, data, hyperparameters=wild)
    assert {path.name for path in (tmp_path / "run").iterdir()} <= {"metrics.jsonl", "run.json"}


def test_a_used_output_and_too_small_a_batch_are_refused(tmp_path):
    data = write(tmp_path / "data", waves(30))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text(json.dumps({"epoch": 1}) + "\n")
    with pytest.raises(OutputError, match=r"found metrics.jsonl of an earlier run; add --resume"):
        train_run(tmp_path, data)
    small = TINY.model_copy(update={"batch_size": 1})
    with pytest.raises(HyperparameterError, match="batch-size: found 1; it must be at least 2"):
        train_run(tmp_path, data, "other", hyperparameters=small)
    assert not (tmp_path / "other").exists()
