"""Sweeps, endpoints and predictions by actors, with everything on ``s3://``."""

import io
import json
import signal

import pandas as pd
import pytest

from lstmfcn.data.shards import find_shards
from lstmfcn.distributed.cluster import TRAINING_ENVIRONMENT
from lstmfcn.distributed.predict import predict
from lstmfcn.inference.predict_shards import predict_shard
from lstmfcn.inference.predictor import Classifier
from lstmfcn.model.artifact import Artifact
from serve_app.server import parse_model_arguments
from tests.helpers.endpoints import LINES, ROWS, Server
from tests.helpers.killing import wait_until
from tests.helpers.problems import TINY, as_flags, waves, write
from tests.helpers.s3 import KEYS, Bucket
from tests.helpers.small_models import N_TIMEPOINTS, tiny_artifact

SPACE = "lr: {loguniform: [1.0e-4, 0.1]}\n"


@pytest.fixture(scope="module")
def filled(s3_address, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write(folder / "train", waves(60), 2)
    write(folder / "valid", waves(30, seed=1))
    (folder / "space.yaml").write_text(SPACE)
    with Bucket(s3_address).in_use() as bucket:
        bucket.folder = folder
        bucket.put_folder(folder, "data")
        yield bucket


def test_a_sweep_at_a_uri_is_resumed(filled, job):
    """On a Ray that reads no data from the bucket: its processes know no credentials."""
    uri = filled.uri("sweep")
    options = {"space": filled.folder / "space.yaml", "scheduler": "none", "max_concurrent": 2}
    fixed = {name: value for name, value in TINY.model_dump().items() if name != "lr"}
    ended = job(
        "tune",
        filled.folder / "train",
        "--validation",
        filled.folder / "valid",
        "--output",
        uri,
        *as_flags(fixed | options | {"num_samples": 2}),
    )
    assert ended.returncode == 0, ended.stderr
    assert f"model: {uri}/model" in ended.stdout
    more = job("tune", "--output", uri, "--resume", "--num-samples", 3, "--json")
    assert more.returncode == 0, more.stderr
    told = json.loads(more.stdout)
    assert told["trials"] == f"{uri}/trials.csv"
    trials = pd.read_csv(io.BytesIO(filled.read("sweep/trials.csv")))
    assert list(trials.trial) == [1, 2, 3]
    best = Artifact.load(f"{uri}/trials/{told['trial']:04d}/model")
    assert Artifact.load(uri).metrics == best.metrics == told["metrics"]
    names = filled.names("sweep/")
    assert {"run.json", "sweep.json", "sweep.jsonl", "objective.png"} <= set(names)
    assert ".lock" not in names


@pytest.mark.usefixtures("cluster")
def test_actors_write_predictions_to_a_uri(filled, tmp_path, monkeypatch):
    """Each actor sends its files itself; in a cluster that is on its own machine."""
    tiny_artifact(kind="names").save(tmp_path / "model")
    (tmp_path / "data").mkdir()
    for name in ("a", "b"):
        table = pd.DataFrame(ROWS, columns=[f"x_{i}" for i in range(12)])
        table.to_csv(tmp_path / "data" / f"{name}.csv", index=False)
    here = predict(tmp_path / "data", model=tmp_path / "model", output=tmp_path / "out")
    options = f"?scheme=http&endpoint_override={filled.address}"
    monkeypatch.delenv("AWS_ENDPOINT_URL")  # the actors do not have it
    environment = TRAINING_ENVIRONMENT | KEYS  # as that of a cluster's machines
    monkeypatch.setattr("lstmfcn.distributed.predict.TRAINING_ENVIRONMENT", environment)
    there = predict(
        tmp_path / "data", model=tmp_path / "model", output=filled.uri("predicted") + options
    )
    assert there.rows == here.rows == 80
    assert there.files[0] == filled.uri("predicted/a.csv") + options
    assert filled.names("predicted/") == ["_predicted.jsonl", "a.csv", "b.csv"]
    assert filled.read("predicted/a.csv") == here.files[0].read_bytes()


def test_an_endpoint_serves_a_uri_and_reloads_it(filled, tmp_path):
    header = ",".join(f"x_{i}" for i in range(N_TIMEPOINTS))
    body = "\n".join([header, *LINES, ""])
    (tmp_path / "in.csv").write_text(body)
    tiny_artifact(seed=1).save(filled.uri("served"))
    server = Server([filled.uri("served")], tmp_path / "log", "--num-replicas", "1")
    try:
        before = server.ask(body)[2]
        tiny_artifact(seed=2).save(filled.uri("served"))
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "reloaded the models" in server.log.read_text(), "a reload")
        after = server.ask(body)[2]
        filled.client.delete_object(Bucket=filled.name, Key="served/model.json")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "still serving the earlier models" in server.log.read_text(), "a line")
        assert server.ask(body)[2] == after
    finally:
        server.kill_all()
    assert before != after
    (shard,) = find_shards(str(tmp_path / "in.csv"))
    predict_shard(Classifier(tiny_artifact(seed=2)), shard, tmp_path / "out.csv")
    assert after == (tmp_path / "out.csv").read_bytes()


def test_models_of_an_endpoint_are_named_before_their_uris(filled):
    tiny_artifact().save(filled.uri("named"))
    uri = f"{filled.uri('named')}?scheme=http&endpoint_override={filled.address}"
    assert parse_model_arguments([uri, f"beats={uri}"]) == {"default": uri, "beats": uri}
