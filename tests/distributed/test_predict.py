"""Predictions of shards by the process of the command: what is written, kept and refused."""

import gzip
import logging

import pandas as pd
import pytest
import torch

import lstmfcn.distributed.predict
from lstmfcn.data.reader import open_dataset, read_header
from lstmfcn.data.shards import Shard, find_shards
from lstmfcn.distributed.predict import evaluate, predict
from lstmfcn.distributed.train import train
from lstmfcn.errors import DataError, ModelError, OutputError, ResourceError
from lstmfcn.inference.predict_shards import explain_shard
from lstmfcn.inference.predictor import Classifier
from lstmfcn.model.artifact import Artifact
from tests.helpers.problems import TINY, waves, write


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    longer = TINY.model_copy(update={"epochs": 10})
    data = write(folder / "data", waves(240))
    train(str(data), str(folder / "run"), hyperparameters=longer)
    return folder / "run" / "model"


def test_a_rerun_writes_the_same_and_leaves_nothing_else(tmp_path, model):
    data = write(tmp_path / "data", waves(60, seed=1), 2)
    table = pd.read_csv(data / "part-001.csv")
    (data / "part-001.csv").unlink()
    (data / "part-001.csv.gz").write_bytes(gzip.compress(table.to_csv(index=False).encode()))
    table.to_parquet(data / "part-002.parquet")
    contents = []
    for _ in range(2):
        assert predict(str(data), model=str(model), output=str(tmp_path / "out")).rows == 90
        contents.append({p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()})
    assert contents[0] == contents[1]
    names = {"part-000.csv", "part-001.csv.gz", "part-002.csv", "_predicted.jsonl"}
    assert set(contents[0]) == names
    assert gzip.decompress(contents[0]["part-001.csv.gz"]) == contents[0]["part-002.csv"]


def test_a_bad_shard_is_named_and_leaves_no_file_of_its_own(tmp_path, model):
    data = write(tmp_path / "data", waves(60, seed=1), 2)
    shard = data / "part-001.csv"
    table = pd.read_csv(shard)
    table.loc[3, "x_7"] = None
    table.to_csv(shard, index=False)
    with pytest.raises(DataError, match=r"part-001.csv, row 4, column x_7: found an empty cell"):
        predict(str(data), model=str(model), output=str(tmp_path / "out"))
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left <= {"part-000.csv", "_predicted.jsonl"}


def test_finished_shards_are_not_predicted_again(tmp_path, model):
    data, out = write(tmp_path / "data", waves(60, seed=1), 3), tmp_path / "out"
    assert predict(str(data), model=str(model), output=str(out)).rows == 60
    written = {path.name: path.stat().st_mtime_ns for path in out.glob("*.csv")}
    (out / "part-000.csv").unlink()
    table = pd.read_csv(data / "part-001.csv")
    table.to_csv(data / "part-001.csv", index=False)
    assert predict(str(data), model=str(model), output=str(out)).rows == 60
    again = {path.name: path.stat().st_mtime_ns for path in out.glob("*.csv")}
    assert {name for name in written if again[name] == written[name]} == {"part-002.csv"}
    predict(str(data), model=str(model), output=str(out))
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("*.csv")} == again


def test_explanations_stand_beside_and_are_not_written_again(tmp_path, model):
    data, out = write(tmp_path / "data", waves(60, seed=1), 2), tmp_path / "out"
    predict(str(data), model=str(model), output=str(out))
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.glob("*.csv")}
    made = predict(data, model=model.parent, output=out, explain=True)  # the folder of the run
    assert (made.output, made.rows) == (out, 60)
    names = ("part-000.csv", "part-001.csv")
    assert made.files == tuple(out / name for name in names)
    assert made.explanations == tuple(out / "explanations" / name for name in names)
    found = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.glob("*.csv")}
    assert found == before
    explained = out / "explanations"
    assert {path.name for path in explained.iterdir()} == set(before)
    classifier = Classifier.load(model)
    for shard in find_shards(str(data)):
        explain_shard(classifier, shard, tmp_path / "alone.csv")
        assert (explained / shard.name).read_bytes() == (tmp_path / "alone.csv").read_bytes()
        labels = pd.read_csv(out / shard.name)[["y_1", "y_2", "y_3"]].idxmax(axis=1)
        assert pd.read_csv(explained / shard.name)["explained"].tolist() == labels.tolist()
    written = (explained / "part-001.csv").stat().st_mtime_ns
    (explained / "part-000.csv").unlink()
    assert predict(str(data), model=str(model), output=str(out), explain=True).rows == 60
    assert (explained / "part-000.csv").exists()
    assert (explained / "part-001.csv").stat().st_mtime_ns == written


def test_explanations_are_never_written_over_an_input(tmp_path, model):
    data = write(tmp_path / "explanations", waves(9))
    with pytest.raises(OutputError, match=r"is an input shard; name another --output"):
        predict(str(data), model=str(model), output=str(tmp_path), explain=True)


def test_columns_are_kept_as_they_are(tmp_path, model):
    data = write(tmp_path / "data", waves(20, seed=1), 1)
    table = pd.read_csv(data / "part-000.csv")
    table.insert(3, "id", [f"beat, {i:03}" for i in range(len(table))])
    table.insert(0, "where", "Køge")
    table.to_csv(data / "part-000.csv", index=False)
    table.to_parquet(data / "part-001.parquet")
    predict(str(data), model=str(model), output=str(tmp_path / "out"), keep_columns=["id", "where"])
    predict(str(data), model=str(model), output=str(tmp_path / "plain"))
    for name in ("part-000.csv", "part-001.csv"):
        found = pd.read_csv(tmp_path / "out" / name)
        assert list(found.columns[:2]) == ["id", "where"]
        assert found[["id", "where"]].equals(table[["id", "where"]])
        assert found.iloc[:, 2:].equals(pd.read_csv(tmp_path / "plain" / name))
    plain = {"model": model, "output": tmp_path / "out"}
    with pytest.raises(OutputError, match=r"part-000.csv: exists already; add --ov"):
        predict(data, **plain)
    assert predict(data, **plain, overwrite=True).rows == 40
    for name in ("part-000.csv", "part-001.csv"):
        found = (tmp_path / "out" / name).read_bytes()
        assert found == (tmp_path / "plain" / name).read_bytes()
    for keep, message in (("x_1", "--keep-columns x_1"), ("elsewhere", "no column 'elsewhere'")):
        with pytest.raises(DataError, match=message):
            predict(
                str(data), model=str(model), output=str(tmp_path / "refused"), keep_columns=[keep]
            )


def test_other_lengths_are_refused_before_any_prediction(tmp_path, model):
    data = write(tmp_path / "data", waves(9).drop(columns="x_12"))
    with pytest.raises(
        DataError, match=r"found 11 value columns \(missing: x_12\); the file must have the 12"
    ):
        predict(str(data), model=str(model), output=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_inputs_are_never_overwritten_and_a_model_must_be_one(tmp_path, model):
    data = write(tmp_path / "data", waves(9))
    with pytest.raises(OutputError, match=r"is an input shard; name another --output"):
        predict(str(data), model=str(model), output=str(data))
    with pytest.raises(ModelError, match=r"found no readable model.json"):
        predict(str(data), model=str(data), output=str(tmp_path / "out"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU")
@pytest.mark.parametrize("command", [predict, evaluate])
def test_a_gpu_that_is_not_there_is_refused_in_a_line_and_nothing_is_written(
    tmp_path, model, command
):
    data, output = write(tmp_path / "data", waves(9)), tmp_path / "out"
    asked = {"output": str(output)} if command is predict else {}
    with pytest.raises(ResourceError, match=r"^this process has no GPU that PyTorch can use; "):
        command(str(data), model=str(model), use_gpu=True, **asked)
    assert not output.exists()


@pytest.fixture
def nothing_started(monkeypatch):
    """Fails where Ray would be started, or the model loaded."""

    def fail(*_, **__):
        raise AssertionError("a prediction was started")

    monkeypatch.setattr(lstmfcn.distributed.predict, "_predicting", fail)


@pytest.mark.usefixtures("nothing_started")
def test_what_can_be_refused_before_any_start_is_and_leaves_nothing(tmp_path, model):
    data = write(tmp_path / "data", waves(9), 2)
    (tmp_path / "file").touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "part-001.csv").touch()
    before = sorted(tmp_path.rglob("*"))
    refused = {
        "/proc/lstmfcn/out": "cannot be written",
        str(tmp_path / "file"): "cannot be written",
        str(tmp_path / "mine"): "part-001.csv: exists already; add --overwrite",
        str(data): "part-000.csv: is an input shard; name another --output",
        str(data / "out"): f"lies in the input {data}, and the next run would read it as a shard",
    }
    for output, message in refused.items():
        with pytest.raises(OutputError, match=message):
            predict(str(data), model=str(model), output=output)
    with pytest.raises(DataError, match=r"part-000.csv: found no column 'id'; besides its values"):
        predict(str(data), model=str(model), output=str(tmp_path / "out"), keep_columns=["id"])
    with pytest.raises(DataError, match=r"part-001.csv: found a file that is given twice"):
        predict(
            [str(data), str(data / "part-001.csv")], model=str(model), output=str(tmp_path / "out")
        )
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("nothing_started")
def test_two_shards_of_one_name_are_told_apart(tmp_path, model, monkeypatch):
    data = write(tmp_path / "data", waves(9))
    named = [Shard(f"/{bucket}/a.csv", "a.csv", 1) for bucket in ("one", "two")]
    found = open_dataset(str(data), schema=Artifact.load(model).schema)._replace(
        shards=named, headers=found_headers(data) * 2
    )
    monkeypatch.setattr(lstmfcn.distributed.predict, "open_dataset", lambda *_, **__: found)
    with pytest.raises(OutputError, match=r"predictions of /one/a.csv and /two/a.csv would both"):
        predict(str(data), model=str(model), output=str(tmp_path / "out"))


def found_headers(data):
    return [read_header(shard) for shard in find_shards(str(data))]


def test_a_tree_and_several_arguments_are_mirrored_and_true_labels_kept(tmp_path, model, caplog):
    table = waves(12, seed=1).assign(when=pd.Timestamp("2024-05-06 07:08"), y_2_true="u")
    for folder in ("a", "b/deep"):
        write(tmp_path / folder, table, 1)
    table.to_parquet(tmp_path / "a" / "part-000.parquet")
    places = [str(tmp_path / "b"), str(tmp_path / "a")]
    with caplog.at_level(logging.INFO):
        predict(
            places, model=str(model), output=str(tmp_path / "out"), keep_columns=["y_1", "when"]
        )
    assert "predicted 36 rows of 3 shards in " in caplog.text
    files = sorted(path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.csv"))
    names = ["a/part-000.csv", "a/part-000.parquet.csv", "b/deep/part-000.csv"]
    assert [str(path) for path in files] == names
    for name in names:
        found = pd.read_csv(tmp_path / "out" / name)
        assert list(found.columns[:5]) == ["y_1_true", "when", "y_1", "y_2", "y_3"]
        assert found["y_1_true"].tolist() == table["y_1"].tolist()
        assert set(found["when"]) == {"2024-05-06 07:08:00"} or name.endswith("000.csv")
    with caplog.at_level(logging.INFO):
        assert (
            predict(
                places, model=str(model), output=str(tmp_path / "out"), keep_columns=["y_1", "when"]
            ).rows
            == 36
        )
    assert "36 rows of 3 shards were predicted by an earlier run" in caplog.text


def test_evaluation_agrees_with_the_predictions(tmp_path, model):
    table = waves(200, seed=3)
    data = write(tmp_path / "data", table, 3)
    evaluated = evaluate(data, model=model)
    assert evaluated.model == model
    found = evaluated.metrics
    predict(str(data), model=str(model), output=str(tmp_path / "out"))
    files = sorted((tmp_path / "out").glob("*.csv"))
    predicted = pd.concat([pd.read_csv(path) for path in files], ignore_index=True)
    labels = ["y_1", "y_2", "y_3"]
    right = (predicted[labels] == table[labels]).all(axis=1)

    assert found["rows"] == 200
    assert found["accuracy"] == pytest.approx(right.mean())
    assert found["accuracy"] > 0.9
    for i, name in enumerate(labels):
        assert sum(found["confusion_matrix"][i]) == table[name].sum()
        assert found["classes"][name]["support"] == table[name].sum()


def test_columns_that_are_named_give_what_columns_of_the_usual_names_give(tmp_path):
    usual = waves(60).rename(columns=lambda name: name.replace("y_", "y_is_"))
    named = usual.rename(columns=lambda name: name.replace("y_", "").replace("x_", "t"))
    named.insert(0, "xid", range(len(named)))  # is no value now
    flags = {"label_column": "is_*", "value_columns": "t*"}
    runs = {
        "usual": (write(tmp_path / "usual", usual), TINY),
        "named": (write(tmp_path / "named", named), TINY.model_copy(update=flags)),
    }
    found = {}
    for name, (data, hyperparameters) in runs.items():
        run = tmp_path / f"{name}-run"
        train(str(data), str(run), hyperparameters=hyperparameters)
        output = tmp_path / f"{name}-out"
        predict(str(data), model=str(run), output=str(output))
        metrics = evaluate(str(data), model=str(run)).metrics
        table = pd.read_csv(output / "part-000.csv")
        found[name] = (Artifact.load(run / "model").weights, metrics, table)
    assert all(torch.equal(w, found["named"][0][name]) for name, w in found["usual"][0].items())
    assert found["named"][1]["accuracy"] == found["usual"][1]["accuracy"]
    assert found["named"][2].columns.tolist() == [
        *("is_1", "is_2", "is_3"),
        *("p_is_1", "p_is_2", "p_is_3"),
    ]
    assert (found["named"][2].to_numpy() == found["usual"][2].to_numpy()).all()
