"""Ensembles, trained as Ray tasks: killed, tracked, calibrated, resumed, continued."""

import shutil
import threading

import numpy as np
import pytest
import torch

from lstmfcn.distributed.predict import predict
from lstmfcn.distributed.requests import Resources
from lstmfcn.distributed.train import train
from lstmfcn.distributed.tune import tune
from lstmfcn.errors import HyperparameterError, ResourceError
from lstmfcn.inference.predictor import Classifier
from lstmfcn.model.artifact import Artifact
from lstmfcn.training.in_memory import train_arrays
from lstmfcn.training.metrics_log import read_metrics
from tests.helpers.killing import epochs_in, kill_train_worker, wait_until
from tests.helpers.no_cluster import no_cluster
from tests.helpers.problems import TINY, UNSURE, flags_of, waves, write
from tests.helpers.tracked_runs import logged, noted

pytestmark = pytest.mark.usefixtures("cluster")

SIZES = {"epochs": 6, "batch_size": 8, "members": 3, "view": "all"}
MEMBERS = UNSURE.model_copy(update=SIZES | {"calibrate": True})
ONE_CPU = Resources(cpus_per_worker=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("members") / "data", waves(400), 2)


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    return write(tmp_path_factory.mktemp("members") / "held_out", waves(100, seed=1))


@pytest.fixture(scope="module")
def command(job, data, held_out, tmp_path_factory):
    """A command whose members are trained, one of them killed on the way, and its folder."""
    output = tmp_path_factory.mktemp("members") / "run"

    def kill():
        wait_until(lambda: epochs_in(output / "members" / "00") >= 2, "epochs of member 0")
        kill_train_worker("ray::_train_member")

    killer = threading.Thread(target=kill)
    killer.start()
    flags = ["--train", data, "--validation", held_out, "--output", output, *flags_of(MEMBERS)]
    flags += ["--cpus-per-worker", "1", "--checkpoint-every-s", "0", "--track", "tensorboard"]
    done = job("train", *flags)
    killer.join()
    assert done.returncode == 0, done.stderr
    return done, output


@pytest.fixture(scope="module")
def whole(command):
    return command[1]


def test_the_command_tells_of_each_member_and_of_the_one_that_was_lost(command):
    done, _ = command
    for k in range(3):
        for epoch in range(1, 7):
            assert f"member: {k} epoch: {epoch} train_loss: " in done.stdout
    assert "run run: reading 2 shards, starting 3 members of 1 CPU" in done.stderr
    assert "lost member " in done.stderr
    assert "fitted on 100 validation rows" in done.stderr


def test_members_and_the_model_of_them_all_are_written(whole, held_out, tmp_path):
    model = Artifact.load(whole / "model")
    assert model.hyperparameters.members == 3
    assert model.decision.temperature < 1
    for k in range(3):
        member = Artifact.load(whole / "members" / f"{k:02d}" / "model")
        assert member.hyperparameters.seed == MEMBERS.seed + k
        assert not member.hyperparameters.calibrate
        assert member.decision.temperature == 1
        for name, tensor in member.weights.items():
            assert tensor.equal(model.weights[f"members.{k}.{name}"])
    history = read_metrics(whole / "metrics.jsonl")
    assert [metrics["epoch"] for metrics in history] == list(range(1, 7))
    each = [read_metrics(whole / "members" / f"{k:02d}" / "metrics.jsonl") for k in range(3)]
    mean = sum(metrics[2]["train_loss"] for metrics in each) / 3
    assert history[2]["train_loss"] == pytest.approx(mean)
    assert (whole / "learning_curve.png").stat().st_size > 1000
    for name in ("", "members/00", "members/01", "members/02"):
        assert noted(whole / "tensorboard" / name) == logged(whole / name)
    with no_cluster():
        predict(held_out, model=whole / "model", output=tmp_path / "predictions")
    (predicted,) = (tmp_path / "predictions").glob("*.csv")
    assert len(predicted.read_text().splitlines()) == 101


def test_members_one_of_them_killed_are_what_arrays_train(whole):
    def arrays(table):
        names = np.array(["y_1", "y_2", "y_3"])[table.filter(like="y_").to_numpy().argmax(axis=1)]
        return table.filter(like="x_").to_numpy(np.float32), names

    torch.set_num_threads(1)
    expected = train_arrays(arrays(waves(400)), MEMBERS, arrays(waves(100, seed=1))).weights
    found = Artifact.load(whole / "model").weights
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert tensor.equal(found[name]), name


def test_members_are_what_their_seeds_and_views_train_alone(whole, data, held_out, tmp_path):
    of_member = {"members": 1, "seed": MEMBERS.seed + 1, "view": "differences", "calibrate": False}
    alone = MEMBERS.model_copy(update=of_member)
    given = {"validation": held_out, "hyperparameters": alone, "resources": ONE_CPU}
    with no_cluster():
        train(data, tmp_path / "run", **given)
    found = Artifact.load(tmp_path / "run" / "model")
    member = Artifact.load(whole / "members" / "01" / "model")
    assert all(tensor.equal(member.weights[name]) for name, tensor in found.weights.items())


def test_a_run_goes_on_with_more_epochs(tmp_path, whole):
    output = tmp_path / "run"
    shutil.copytree(whole, output)
    more = MEMBERS.model_copy(update={"epochs": 7})
    train(None, output, hyperparameters=more, resources=ONE_CPU, resume=True)
    histories = [read_metrics(output / "members" / f"{k:02d}" / "metrics.jsonl") for k in range(3)]
    epochs = list(range(1, 8))
    assert [[metrics["epoch"] for metrics in history] for history in histories] == [epochs] * 3
    assert Artifact.load(output / "model").hyperparameters.epochs == 7


def test_training_continues_from_an_ensemble_and_from_a_member(whole, data, tmp_path, caplog):
    caplog.set_level("INFO")
    given = TINY.model_validate({"epochs": 1, "lr": 1e-6})
    given = {"hyperparameters": given, "resources": ONE_CPU}
    train(data, tmp_path / "run", model=whole / "model", **given)
    found, before = Artifact.load(tmp_path / "run" / "model"), Artifact.load(whole / "model")
    assert found.hyperparameters.members == 3
    for k in range(3):
        name = f"members.{k}.head.weight"
        assert (found.weights[name] - before.weights[name]).abs().max() < 1e-3
    assert Classifier(found).schema == before.schema
    assert found.decision.temperature == 1
    assert "calibrate of the model is dropped; give the flag to fit it again" in caplog.messages

    caplog.clear()
    with no_cluster():
        train(data, tmp_path / "one", model=whole / "members" / "00" / "model", **given)
    assert Artifact.load(tmp_path / "one" / "model").decision.temperature == 1
    assert "left behind" not in caplog.text


def test_what_an_ensemble_cannot_be_given_is_refused(tmp_path, data, held_out):
    with pytest.raises(ResourceError, match="trained by one worker"):
        train(
            str(data),
            str(tmp_path / "run"),
            hyperparameters=MEMBERS.model_copy(update={"calibrate": False}),
            resources=Resources(num_workers=2, cpus_per_worker=1),
        )
    with pytest.raises(HyperparameterError, match="a sweep trains single networks"):
        tune(
            str(data),
            str(tmp_path / "sweep"),
            validation=str(held_out),
            hyperparameters=MEMBERS,
        )
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "sweep").exists()
