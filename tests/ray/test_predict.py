"""Predictions by several processes of a cluster, which can be killed or have few CPUs."""

import os
import re
import signal
import sys
import threading
from contextlib import contextmanager

import pandas as pd
import pytest
import ray

from lstmfcn.data.shards import find_shards
from lstmfcn.distributed.predict import predict
from lstmfcn.errors import DataError, ResourceError, RunInterruptedError
from lstmfcn.inference.predict_shards import explain_shard, predict_shard
from lstmfcn.inference.prediction_files import output_names
from lstmfcn.inference.predictor import Classifier
from tests.helpers.killing import interrupted_at, train_workers, wait_until
from tests.helpers.problems import waves, write
from tests.helpers.small_models import tiny_artifact

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "model"
    tiny_artifact().save(folder)
    return folder


def shards(folder, n_rows, n_shards):
    """Shards of the values that the model has."""
    table = waves(n_rows, seed=1).rename(columns={"x_12": "x_0"})
    return write(folder, table, n_shards)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.glob("part-*")}


def without_ray(model, data, folder, work=predict_shard):
    """The bytes of the files that this process alone writes for the shards."""
    classifier = Classifier.load(model)
    found = find_shards(str(data))
    for shard, name in zip(found, output_names(found), strict=True):
        work(classifier, shard, folder / name)
    return contents(folder)


def test_a_command_writes_the_same_bytes_as_without_ray_of_which_it_speaks_if_verbose(
    run_command, tmp_path, model
):
    data = shards(tmp_path / "data", 1500, 2)
    words = [sys.executable, "-m", "lstmfcn", "predict", "--model", model]
    plain = run_command(*words, data, "--output", tmp_path / "plain", "--explain").stderr
    assert contents(tmp_path / "plain") == without_ray(model, data, tmp_path / "alone")
    explained = without_ray(model, data, tmp_path / "explained", explain_shard)
    assert contents(tmp_path / "plain" / "explanations") == explained
    assert "Ray cluster" not in plain
    told = re.search(r"predicted 1,500 rows of 2 shards in ([0-9.]+) s, [0-9,]+ rows/s", plain)
    assert float(told[1]) < 5  # without the seconds that actors take to start
    few = data / "part-000.csv"
    verbose = run_command(*words, few, "--output", tmp_path / "few", "--verbose").stderr
    assert "Connecting to existing Ray cluster" in verbose
    assert "predicted 750 rows of 1 shard in" in verbose
    assert contents(tmp_path / "few").items() < contents(tmp_path / "plain").items()


def predictors():
    """Process ids of the predictors of this Ray."""
    return train_workers(name="ray::_PredictorActor")


def test_a_predictor_that_dies_again_and_again_ends_the_command_in_a_line(tmp_path, model):
    """Ray restarts it three times only: a shard may be what it dies of."""
    data, over = shards(tmp_path / "data", 20, 1), threading.Event()

    def kill():
        while not over.wait(0.02):
            for pid in predictors():
                os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with pytest.raises(ResourceError) as refusal:
            predict(str(data), model=str(model), output=str(tmp_path / "out"))
    finally:
        over.set()
        killer.join()
    assert str(refusal.value) == (
        "part-000.csv: after 3 more attempts, the process that predicts it was lost (its process "
        "was killed or crashed); run the same command again: files that are finished stay"
    )


def test_where_an_endpoint_keeps_most_cpus_one_predictor_is_interrupted_killed_and_replaced(
    tmp_path, model
):
    """Until it finds the fault in the last shard, which is told as this process would."""
    data, out = shards(tmp_path / "data", 6000, 200), tmp_path / "out"
    expected = without_ray(model, data, tmp_path / "alone")
    spoil(data / "part-199.csv")
    del expected["part-199.csv"]

    @ray.remote(num_cpus=3)
    class Replica:
        def ready(self):
            return True

    replica = Replica.remote()
    assert ray.get(replica.ready.remote())
    try:
        with (
            interrupted_at(out / "_predicted.jsonl", 3, free_cpus=1),
            pytest.raises(RunInterruptedError) as told,
        ):
            predict(str(data), model=str(model), output=str(out))
        finished = {path: path.stat().st_mtime_ns for path in out.glob("part-*")}
        with killed_after(out, len(finished) + 3), pytest.raises(DataError) as fault:
            predict(str(data), model=str(model), output=str(out))
    finally:
        ray.kill(replica)
    assert contents(out) == expected
    n_told = re.fullmatch(r"stopped after (\d+) of 200 files; finished files stay", str(told.value))
    n_kept = sum(path.stat().st_mtime_ns == at for path, at in finished.items())
    assert 0 < int(n_told[1]) <= n_kept <= len(finished) < 199
    assert "part-199.csv, row 4, column x_7: found an empty cell" in str(fault.value)


def spoil(shard):
    table = pd.read_csv(shard)
    table.loc[3, "x_7"] = None
    table.to_csv(shard, index=False)


@contextmanager
def killed_after(folder, n_files):
    """SIGKILL the predictor once there are so many files."""

    def kill():
        wait_until(lambda: len(list(folder.glob("part-*"))) >= n_files, "files", 90, 0)
        os.kill(predictors()[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        killer.join()
