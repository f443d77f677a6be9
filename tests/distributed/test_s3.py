"""Everything on ``s3://``: commands as users type them, killed and cut off."""

import json
import os
import re
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest

from lstmfcn.distributed.predict import predict
from lstmfcn.distributed.train import train
from lstmfcn.errors import ModelError, OutputError
from lstmfcn.estimator import LSTMFCNClassifier
from lstmfcn.inference.predictor import Classifier
from lstmfcn.model.artifact import Artifact
from tests.helpers.killing import wait_until
from tests.helpers.problems import TINY, TINY_FLAGS, flags_of, waves, write
from tests.helpers.runs import (
    LONG,
    ONE_CPU,
    assert_as_if_never_interrupted,
    assert_same_weights,
    train_run,
)
from tests.helpers.s3 import Bucket, Proxy, within_seconds
from tests.helpers.small_models import tiny_artifact

RUN = ["checkpoints", "learning_curve.png", "metrics.jsonl", "model", "run.json"]


@pytest.fixture(scope="module")
def filled(s3_address, tmp_path_factory):
    """A bucket with data, also in a local folder, and with a run that was trained there."""
    folder = tmp_path_factory.mktemp("data")
    write(folder / "train", waves(60), 2)
    write(folder / "valid", waves(30, seed=1))
    with Bucket(s3_address).in_use() as bucket:
        bucket.folder = folder
        bucket.put_folder(folder, "data")
        train(
            bucket.uri("data/train"),
            bucket.uri("run"),
            validation=bucket.uri("data/valid"),
            hyperparameters=TINY,
            resources=ONE_CPU,
        )
        yield bucket


def top(names):
    return sorted({name.partition("/")[0] for name in names})


def test_a_run_at_a_uri_is_the_same_as_in_a_folder(filled, tmp_path):
    local, _ = train_run(
        tmp_path,
        filled.folder / "train",
        validation=filled.folder / "valid",
        resources=ONE_CPU,
    )
    assert top(filled.names("run/")) == RUN
    there = filled.fetch("run", tmp_path / "there")
    assert_as_if_never_interrupted(there, local)
    record = json.loads((there / "run.json").read_text())
    assert record["train"] == [filled.uri("data/train")]


def test_a_result_names_uris_and_has_all_numbers(filled):
    result = train(
        filled.uri("data/train"), filled.uri("named"), hyperparameters=TINY, resources=ONE_CPU
    )
    assert (result.output, result.model) == (filled.uri("named"), filled.uri("named/model"))
    assert len(result.metrics) == TINY.epochs
    assert Artifact.load(result.model).metrics == result.best


def test_an_earlier_run_is_found_resumed_and_replaced(filled, tmp_path, job, refused):
    uri, data = filled.uri("again"), filled.uri("data/train")
    filled.put("again/notes.txt", b"mine")
    made = job("train", data, "--output", uri, *TINY_FLAGS)
    assert made.returncode == 0, made.stderr
    assert f"model: {uri}/model" in made.stdout
    assert f"lstmfcn serve {uri}" in made.stdout
    assert "/tmp" not in made.stdout + made.stderr
    line = refused("train", data, "--output", uri, *TINY_FLAGS)
    assert line.startswith(f"lstmfcn: {uri}: found model of an earlier run; add --resume")
    more = job("train", "--output", uri, "--resume", "--epochs", 4, "--json")
    assert more.returncode == 0, more.stderr
    assert f"{uri}: resuming after epoch 2 of 4 epochs" in more.stderr
    assert json.loads(more.stdout)["metrics_file"] == f"{uri}/metrics.jsonl"
    whole, _ = train_run(
        tmp_path, filled.folder / "train", hyperparameters=TINY.model_copy(update={"epochs": 4})
    )
    assert_same_weights(filled.fetch("again", tmp_path / "there"), whole)
    done = job("train", "--output", uri, "--resume")
    assert f"{uri}: all 4 epochs are already done" in done.stderr
    lost = refused("train", data, "--output", uri, "--overwrite", "--model", f"{uri}/model")
    assert lost.startswith(f"lstmfcn: {uri}: holds the model to continue from")
    assert "again/model/model.json" in filled.names()
    bad = refused("train", filled.uri("nowhere"), "--output", uri, "--overwrite", *TINY_FLAGS)
    assert bad == f"lstmfcn: {filled.uri('nowhere')}: found nothing; check the path"
    assert "again/model/model.json" in filled.names()
    assert job("train", data, "--output", uri, "--overwrite", *TINY_FLAGS).returncode == 0
    assert top(filled.names("again/")) == sorted([*RUN, "notes.txt"])
    assert len(filled.read("again/metrics.jsonl").splitlines()) == 2


def test_commands_read_and_write_uris_alone(filled, tmp_path, job, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, data = filled.uri("run"), filled.uri("data/valid")

    def run(*words):
        ended = job(*words)
        assert ended.returncode == 0, ended.stderr
        assert "/tmp" not in ended.stdout + ended.stderr
        return ended.stdout

    printed = run("evaluate", data, "--model", model, "--output", filled.uri("measured"))
    assert filled.read("measured/evaluation.json").decode() == printed
    assert run("predict", data, "--model", model, "--output", filled.uri("predicted"), "--explain")
    assert filled.names("predicted/") == [
        "_predicted.jsonl",
        "explanations/part-000.csv",
        "part-000.csv",
    ]
    run("export", model, "--output", filled.uri("model.onnx"))
    assert filled.read("model.onnx")
    run("report", data, "--model", model, "--output", filled.uri("report"))
    page = filled.read("report/report.html").decode()
    assert f"{model}/model" in page
    assert "/tmp/" not in page
    assert "report/learning_curves.png" in filled.names()  # from the run's metrics
    run("sample", "--output", filled.uri("sampled"), "--rows", 30)
    assert filled.names("sampled/") == ["part-000.csv", "part-001.csv", "part-002.csv"]
    run("sample", "--output", filled.uri("sampled"), "--rows", 30, "--shards", 1, "--overwrite")
    assert filled.names("sampled/") == ["part-000.csv"]
    run("check", data, "--fix", "--output", filled.uri("clean"))
    assert filled.names("clean/") == ["set_aside.csv", "train/part-000.csv"]
    run("split", data, "--output", filled.uri("parts"), "--test", 0.2)
    kept = ["split.json", "train/part-000.csv", "validation/part-000.csv"]
    assert filled.names("parts/") == sorted([*kept, "test/part-000.csv"])
    run("split", data, "--output", filled.uri("parts"), "--overwrite")
    assert filled.names("parts/") == kept
    filled.put("rows.tsv", b"1\t0.5\t0.25\n2\t0.5\t0.125\n")
    run("convert", filled.uri("rows.tsv"), "--output", filled.uri("converted"))
    assert filled.names("converted/") == ["part-000.csv"]
    assert list(tmp_path.iterdir()) == []


def test_predictions_at_a_uri_are_those_in_a_folder(filled, tmp_path):
    here = predict(filled.folder / "train", model=filled.uri("run"), output=tmp_path / "here")
    there = predict(filled.uri("data/train"), model=filled.uri("run"), output=filled.uri("p"))
    assert there.output == filled.uri("p")
    assert there.files == (filled.uri("p/part-000.csv"), filled.uri("p/part-001.csv"))
    for path, name in zip(here.files, filled.names("p/")[1:], strict=True):
        assert path.read_bytes() == filled.read(f"p/{name}")


def test_a_second_prediction_does_only_what_is_left(filled, caplog, refused):
    arguments = {"model": filled.uri("run"), "output": filled.uri("left")}
    predict(filled.uri("data/train"), **arguments)
    filled.client.delete_object(Bucket=filled.name, Key="left/part-001.csv")
    caplog.set_level("INFO")
    assert predict(filled.uri("data/train"), **arguments).rows == 60
    assert "30 rows of 1 shard were predicted by an earlier run" in caplog.messages
    filled.put_folder(filled.folder / "valid", "foreign")
    words = ("predict", filled.uri("data/train"), "--model", filled.uri("run"), "--output")
    line = refused(*words, filled.uri("foreign"))
    assert line.startswith(f"lstmfcn: {filled.uri('foreign/part-000.csv')}: exists already; add")
    line = refused(*words, filled.uri("data/train/out"))
    assert "/out/part-000.csv: lies in the input " in line
    line = refused(*words, filled.uri("data/train"), "--overwrite")
    assert "part-000.csv: lies in the input " in line


def test_models_are_saved_and_loaded_from_python(filled):
    uri = filled.uri("saved")
    for seed in (1, 2):
        tiny_artifact(seed=seed).save(uri)
        assert filled.names("saved/") == ["model.json", "model.safetensors"]
        assert Artifact.load(uri).weights.keys() == tiny_artifact(seed=seed).weights.keys()
    table = waves(30)
    rows, labels = table.loc[:, "x_1":].to_numpy(), table["y_1"].to_numpy()
    fitted = LSTMFCNClassifier(epochs=1, hidden_size=4).fit(rows, labels)
    fitted.save(filled.uri("fitted"))
    loaded = LSTMFCNClassifier.load(filled.uri("fitted"))
    assert (loaded.predict(rows) == fitted.predict(rows)).all()


def test_a_half_replaced_model_is_never_taken_for_a_whole_one(filled):
    uri = filled.uri("half")
    tiny_artifact(seed=1).save(uri)
    first = {name: filled.read(f"half/{name}") for name in filled.names("half/")}
    tiny_artifact(seed=2).save(uri)
    filled.put("half/model.safetensors", first["model.safetensors"])
    with pytest.raises(ModelError, match=rf"{uri}/model.safetensors"):
        Classifier.load(uri)
    filled.client.delete_object(Bucket=filled.name, Key="half/model.json")
    with pytest.raises(ModelError, match=rf"^{uri}: found no readable model.json"):
        Classifier.load(uri)
    filled.put("unfinished/run.json", filled.read("run/run.json"))
    with pytest.raises(ModelError, match=rf"^{filled.uri('unfinished')}: this run has no model"):
        Classifier.load(filled.uri("unfinished"))


LONG_FLAGS = flags_of(LONG, epochs=300)


@pytest.mark.parametrize("held", ["state.pt", "checkpoint.json"])
def test_a_run_whose_writer_is_killed_in_mid_upload_is_resumed(filled, tmp_path, start, job, held):
    """The newest checkpoint hangs on its way when the process is killed."""
    uri, n_seen = filled.uri(f"killed-{held}"), []

    def hold_the_third(method, path):
        if method == "PUT" and path.endswith(held):
            n_seen.append(path)
            if len(n_seen) == 3:  # two checkpoints may be sent together
                time.sleep(120)

    with Proxy(filled.address) as proxy, filled.in_use(proxy.address):
        proxy.hinder = hold_the_third
        process = start(
            filled.uri("data/train"), "--output", uri, "--checkpoint-every-s", 0.5, *LONG_FLAGS
        )
        wait_until(lambda: len(n_seen) >= 3 or process.poll() is not None, "an upload", 240)
        assert process.poll() is None
        process.kill()
        process.wait()
        proxy.hinder = lambda *_: None
    prefix = f"killed-{held}/checkpoints/"
    assert any(name.endswith("checkpoint.json") for name in filled.names(prefix))
    resumed = job("train", "--output", uri, "--resume", "--cpus-per-worker", 1)
    assert resumed.returncode == 0, resumed.stderr
    assert re.search(r"resuming after epoch \d+.* of 300 epochs", resumed.stderr)
    expected, _ = train_run(
        tmp_path,
        filled.folder / "train",
        hyperparameters=LONG.model_copy(update={"epochs": 300}),
        resources=ONE_CPU,
    )
    there = filled.fetch(f"killed-{held}", tmp_path / "there")
    assert_as_if_never_interrupted(there, expected)


def test_ctrl_c_leaves_a_run_that_is_resumed_and_no_lock(filled, start, refused):
    uri = filled.uri("stopped")
    process = start(
        filled.uri("data/train"), "--output", uri, *flags_of(LONG, epochs=100_000, batch_size=2)
    )
    wait_until(lambda: "stopped/metrics.jsonl" in filled.names(), "an epoch", 240)
    line = refused("train", "--output", uri, "--resume")
    assert line.startswith(f"lstmfcn: {uri}: another training is running there (process ")
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130
    assert re.search(
        rf"stopped after epoch \d+.*; resume with: .* --output {uri} .*--resume", stderr
    )
    assert "stopped/.lock" not in filled.names()
    assert any(name.startswith("stopped/checkpoints/") for name in filled.names())


def test_a_training_whose_lock_was_taken_over_stops_and_overwrites_nothing(filled, start):
    uri, lock = filled.uri("fenced"), "fenced/.lock"
    process = start(
        filled.uri("data/train"), "--output", uri, *flags_of(LONG, epochs=100_000, batch_size=2)
    )
    wait_until(lambda: "fenced/metrics.jsonl" in filled.names(), "an epoch", 240)
    os.kill(process.pid, signal.SIGSTOP)
    taken = json.dumps({"id": "other", "host": "elsewhere", "process": 7}).encode()
    filled.put(lock, taken)
    before = {name: filled.read(f"fenced/{name}") for name in filled.names("fenced/")}
    os.kill(process.pid, signal.SIGCONT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 2, stderr
    assert stderr.splitlines()[-1].startswith(
        f"lstmfcn: {uri}: process 7 on elsewhere has taken over, because this process was not heard"
    )
    assert {name: filled.read(f"fenced/{name}") for name in filled.names("fenced/")} == before


NO_BUCKET = "s3://no-such-bucket-here/x"


@pytest.mark.parametrize(
    "words",
    [
        ("train", "{data}", "--output", NO_BUCKET),
        ("train", "--output", NO_BUCKET, "--resume"),
        ("tune", "{data}", "--metric", "train_loss", "--output", NO_BUCKET),
        ("predict", "{data}", "--model", "{model}", "--output", NO_BUCKET),
        ("predict", "{data}", "--model", NO_BUCKET, "--output", "out"),
        ("evaluate", "{data}", "--model", NO_BUCKET),
        ("evaluate", "{data}", "--model", "{model}", "--output", NO_BUCKET),
        ("report", "{data}", "--model", NO_BUCKET, "--output", "out"),
        ("report", "{data}", "--model", "{model}", "--output", NO_BUCKET),
        ("export", NO_BUCKET, "--output", "out.onnx"),
        ("export", "{model}", "--output", NO_BUCKET),
        ("sample", "--output", NO_BUCKET),
        ("check", "{data}", "--fix", "--output", NO_BUCKET),
        ("convert", "{tsv}", "--output", NO_BUCKET),
        ("serve", NO_BUCKET),
    ],
)
def test_a_bucket_that_is_not_there_is_told(filled, tmp_path, monkeypatch, refused, words):
    monkeypatch.chdir(tmp_path)
    filled.put("two.tsv", b"1\t0.5\t0.25\n2\t0.5\t0.125\n")
    places = {"data": "data/valid", "model": "run", "tsv": "two.tsv"}
    filled_in = {name: filled.uri(path) for name, path in places.items()}
    line = refused(*(word.format(**filled_in) for word in words))
    assert re.fullmatch(
        r"lstmfcn: s3://no-such-bucket-here(/x)?: found no such bucket; check its name", line
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--output", "--model", "data"])
def test_a_storage_that_denies_access_is_told(filled, tmp_path, refused, option):
    filled.fetch("run/model", tmp_path / "model")
    data = filled.folder / "valid"
    places = {"data": data, "--model": tmp_path / "model", "--output": tmp_path / "out"}
    with Proxy(filled.address) as proxy, filled.in_use(proxy.address):
        proxy.hinder = lambda *_: 403
        places[option] = filled.uri("x")
        line = refused("predict", places.pop("data"), *(w for pair in places.items() for w in pair))
    assert "access is denied" in line
    assert "check the credentials, such as AWS_ACCESS_KEY_ID" in line
    assert not (tmp_path / "out").exists()


def test_a_storage_that_never_answers_is_told_within_20_seconds(filled, refused):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with filled.in_use(address), within_seconds(30):
            line = refused("train", filled.folder / "train", "--output", filled.uri("silent"))
    assert line.startswith(f"lstmfcn: {filled.uri('silent')}: the storage does not answer in time")


def test_a_slow_storage_only_takes_its_time(filled):
    with Proxy(filled.address) as proxy, filled.in_use(proxy.address):
        proxy.hinder = lambda *_: time.sleep(0.5)
        train(filled.folder / "train", filled.uri("slow"), hyperparameters=TINY, resources=ONE_CPU)
    assert top(filled.names("slow/")) == RUN


def test_a_storage_that_fails_at_the_end_costs_no_model(filled, monkeypatch):
    monkeypatch.setattr("lstmfcn.storage.mirror._FIRST_PAUSE_S", 0.01)
    with Proxy(filled.address) as proxy, filled.in_use(proxy.address):
        proxy.hinder = lambda _, path: 403 if "/model/" in path else None
        with pytest.raises(OutputError, match="what could not be sent is kept in ") as caught:
            train(
                filled.folder / "train",
                filled.uri("failed"),
                hyperparameters=TINY,
                resources=ONE_CPU,
            )
    kept = str(caught.value).rpartition("kept in ")[2]
    assert Artifact.load(kept).metrics["epoch"] in (1, 2)
    shutil.rmtree(Path(kept).parent)


def test_a_password_of_the_data_is_neither_told_nor_recorded(filled, job):
    with_password = f"s3://someone:open-sesame@{filled.name}/data/train"
    ended = job("train", with_password, "--output", filled.uri("secret"), *TINY_FLAGS)
    assert ended.returncode == 0, ended.stderr
    assert "sesame" not in ended.stdout + ended.stderr
    assert all(b"sesame" not in filled.read(name) for name in filled.names())
