"""Ensembles, trained as Ray tasks: killed, stopped, resumed, continued, predicted with."""

import json
import threading

import pytest

from lstmfcn.distributed.predict import predict
from lstmfcn.distributed.requests import Resources
from lstmfcn.distributed.train import train
from lstmfcn.distributed.tune import tune
from lstmfcn.errors import HyperparameterError, ResourceError
from lstmfcn.inference.predictor import Classifier
from lstmfcn.model.artifact import Artifact
from lstmfcn.training.metrics_log import read_metrics
from tests.helpers.killing import epochs_in, kill_train_worker, wait_until
from tests.helpers.problems import TINY, flags_of, waves, write

MEMBERS = TINY.model_copy(update={"epochs": 6, "batch_size": 8, "members": 3, "view": "all"})
ONE_CPU = Resources(cpus_per_worker=1)


def train_on(data, held_out, output, **arguments):
    asked = {"hyperparameters": MEMBERS, "resources": ONE_CPU} | arguments
    train(str(data), str(output), validation=str(held_out), **asked)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("members") / "data", waves(400), 2)


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    return write(tmp_path_factory.mktemp("members") / "held_out", waves(100, seed=1))


@pytest.fixture(scope="module")
def whole(cluster, data, held_out, tmp_path_factory):  # noqa: ARG001 - the cluster runs it
    """A run that nothing interrupts."""
    output = tmp_path_factory.mktemp("members") / "run"
    train_on(data, held_out, output)
    return output


def test_members_and_the_model_of_them_all_are_written(whole, held_out, tmp_path):
    model = Artifact.load(whole / "model")
    for k in range(3):
        member = Artifact.load(whole / "members" / f"{k:02d}" / "model")
        assert member.hyperparameters.seed == MEMBERS.seed + k
        for name, tensor in member.weights.items():
            assert tensor.equal(model.weights[f"members.{k}.{name}"])
    history = read_metrics(whole / "metrics.jsonl")
    assert [metrics["epoch"] for metrics in history] == list(range(1, 7))
    each = [read_metrics(whole / "members" / f"{k:02d}" / "metrics.jsonl") for k in range(3)]
    mean = sum(metrics[2]["train_loss"] for metrics in each) / 3
    assert history[2]["train_loss"] == pytest.approx(mean)
    assert (whole / "learning_curve.png").stat().st_size > 1000
    predict(str(held_out), model=str(whole / "model"), output=str(tmp_path / "predictions"))
    (predicted,) = (tmp_path / "predictions").glob("*.csv")
    assert len(predicted.read_text().splitlines()) == 101


def test_members_are_what_their_seeds_and_views_train_alone(whole, data, held_out, tmp_path):
    of_member = {"members": 1, "seed": MEMBERS.seed + 1, "view": "differences"}
    alone = MEMBERS.model_copy(update=of_member)
    train_on(data, held_out, tmp_path / "run", hyperparameters=alone)
    found = Artifact.load(tmp_path / "run" / "model")
    member = Artifact.load(whole / "members" / "01" / "model")
    assert all(tensor.equal(member.weights[name]) for name, tensor in found.weights.items())


def test_a_killed_member_goes_on_from_its_checkpoint(tmp_path, data, held_out, whole, caplog):
    caplog.set_level("INFO")
    output = tmp_path / "run"

    def kill():
        wait_until(lambda: epochs_in(output / "members" / "00") >= 2, "epochs of member 0")
        kill_train_worker("ray::_train_member")

    killer = threading.Thread(target=kill)
    killer.start()
    train_on(data, held_out, output, checkpoint_every_s=0)
    killer.join()
    assert any("lost member " in message for message in caplog.messages)
    found, expected = Artifact.load(output / "model"), Artifact.load(whole / "model")
    assert all(tensor.equal(found.weights[name]) for name, tensor in expected.weights.items())


def test_a_run_goes_on_with_more_epochs(tmp_path, data):
    output = tmp_path / "run"
    two = MEMBERS.model_copy(update={"epochs": 2, "members": 2})
    train(str(data), str(output), hyperparameters=two, resources=ONE_CPU)
    more = two.model_copy(update={"epochs": 3})
    train(None, str(output), hyperparameters=more, resources=ONE_CPU, resume=True)
    histories = [read_metrics(output / "members" / f"{k:02d}" / "metrics.jsonl") for k in range(2)]
    assert [[metrics["epoch"] for metrics in history] for history in histories] == [[1, 2, 3]] * 2
    assert Artifact.load(output / "model").hyperparameters.epochs == 3


def test_training_continues_from_an_ensemble(whole, data, tmp_path, caplog):
    caplog.set_level("INFO")
    given = TINY.model_validate({"epochs": 1, "lr": 1e-6})
    train(
        str(data),
        str(tmp_path / "run"),
        model=str(whole / "model"),
        hyperparameters=given,
        resources=ONE_CPU,
    )
    found, before = Artifact.load(tmp_path / "run" / "model"), Artifact.load(whole / "model")
    assert found.hyperparameters.members == 3
    for k in range(3):
        name = f"members.{k}.head.weight"
        assert (found.weights[name] - before.weights[name]).abs().max() < 1e-3
    assert Classifier(found).schema == before.schema


def test_what_an_ensemble_cannot_be_given_is_refused(tmp_path, data, held_out):
    with pytest.raises(ResourceError, match="trained by one worker"):
        train(
            str(data),
            str(tmp_path / "run"),
            hyperparameters=MEMBERS,
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


def test_the_command_tells_of_each_member(tmp_path, data, job):
    flags = [*flags_of(MEMBERS, members=2, epochs=2), "--cpus-per-worker", "1"]
    done = job("train", "--train", data, "--output", tmp_path / "run", *flags)
    assert done.returncode == 0, done.stderr
    for k in range(2):
        for epoch in (1, 2):
            assert f"member: {k} epoch: {epoch} train_loss: " in done.stdout
    described = json.loads((tmp_path / "run" / "model" / "model.json").read_text())
    assert described["hyperparameters"]["members"] == 2
    assert "starting 2 members of 1 CPU" in done.stderr
