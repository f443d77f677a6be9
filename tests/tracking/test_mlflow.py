"""Against a real store: a database in a file, as MLflow's own default is."""

import os
import socket
import subprocess
import sys

import pytest

from lstmfcn.errors import TrackingError
from lstmfcn.tracking.base import TrackerUnavailableError
from lstmfcn.tracking.mlflow import MLflow, hide_secrets
from tests.helpers.tracked_runs import HYPERPARAMETERS, epochs, tracked

pytest.importorskip("mlflow", reason="MLflow is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow")]


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """Making one takes seconds."""
    return tmp_path_factory.mktemp("mlflow") / "mlflow.db"


@pytest.fixture
def client(database, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", tmp_path.name)
    monkeypatch.chdir(tmp_path)
    return MlflowClient()


@pytest.fixture
def runs(client, tmp_path):
    """All runs of the test's experiment, by name."""

    def find():
        experiment = client.get_experiment_by_name(tmp_path.name)
        found = client.search_runs([experiment.experiment_id])
        names = [run.info.run_name for run in found]
        assert len(set(names)) == len(names)
        return dict(zip(names, found, strict=True))

    return find


@pytest.fixture
def folder(tmp_path):
    """A run that has a model."""
    path = tmp_path / "first"
    (path / "model").mkdir(parents=True)
    (path / "model" / "model.json").write_text("{}")
    return path


def curve(client, run, tag="train_loss"):
    history = client.get_metric_history(run.info.run_id, tag)
    return sorted((metric.step, metric.value) for metric in history)


def test_a_training_is_a_run_with_its_metrics_parameters_and_model(client, runs, folder):
    flow = MLflow(folder, resumed=False)
    assert runs() == {}
    for n in (1, 3):
        flow.write(tracked(), epochs(n), None)
        assert runs()["first"].info.status == "RUNNING"
    flow.write(tracked(state="done"), epochs(3), epochs(3)[1])
    run = runs()["first"]
    assert run.info.status == "FINISHED"
    assert run.data.params == {name: str(v) for name, v in HYPERPARAMETERS.to_flags().items()}
    for tag in epochs(1)[0].keys() - {"epoch", "time", "rows"}:
        assert curve(client, run, tag) == [(m["epoch"], m[tag]) for m in epochs(3)]
    assert curve(client, run, "kept/valid_accuracy") == [(2, 0.2)]
    (metric, *_) = client.get_metric_history(run.info.run_id, "lr")
    assert metric.timestamp == 1000 * epochs(1)[0]["time"]
    files = client.list_artifacts(run.info.run_id, "model")
    assert [file.path for file in files] == ["model/model.json"]


def test_a_training_that_goes_on_does_so_in_its_run_and_sends_nothing_twice(client, runs, folder):
    MLflow(folder, resumed=False).write(tracked(), epochs(3), None)
    second = MLflow(folder, resumed=True)
    second.write(tracked(), epochs(2), None)
    second.write(tracked(state="stopped"), epochs(4), None)
    assert runs()["first"].info.status == "KILLED"
    third = MLflow(folder, resumed=True)
    third.write(tracked(), epochs(4), None)
    assert runs()["first"].info.status == "RUNNING"
    third.write(tracked(state="done"), epochs(6), epochs(6)[5])
    assert [step for step, _ in curve(client, runs()["first"])] == [1, 2, 3, 4, 5, 6]
    assert runs()["first"].info.status == "FINISHED"


def test_more_epochs_stand_as_a_tag_for_parameters_cannot_change(client, runs, folder):
    MLflow(folder, resumed=False).write(tracked(state="done"), epochs(6), epochs(6)[0])
    more = HYPERPARAMETERS.model_copy(update={"epochs": 7})
    MLflow(folder, resumed=True).write(
        tracked(state="done", hyperparameters=more), epochs(7), epochs(7)[6]
    )
    run = runs()["first"]
    assert (run.data.params["epochs"], run.data.tags["epochs"]) == ("6", "7")
    assert len(curve(client, run)) == 7


def test_what_was_not_sent_at_the_end_is_sent_by_resuming_a_complete_training(
    client, runs, folder, monkeypatch
):
    flow = MLflow(folder, resumed=False)
    flow.write(tracked(), epochs(2), None)
    with monkeypatch.context() as away:
        away.setattr(flow._client, "log_batch", _refuse)
        with pytest.raises(TrackerUnavailableError, match="is not there"):
            flow.write(tracked(state="done"), epochs(6), epochs(6)[1])
    assert len(curve(client, runs()["first"])) == 2
    done = MLflow(folder, resumed=True)
    done.write(tracked(state="done"), epochs(6), epochs(6)[1])
    assert len(curve(client, runs()["first"])) == 6
    assert client.list_artifacts(runs()["first"].info.run_id, "model")
    end = runs()["first"].info.end_time
    MLflow(folder, resumed=True).write(tracked(state="done"), epochs(6), epochs(6)[1])
    assert runs()["first"].info.end_time == end


def _refuse(*_, **__):
    raise OSError("it is not there")


def test_trials_are_children_that_end_as_they_did(client, runs, folder):
    flow = MLflow(folder, resumed=False)
    flow.write(tracked(), [], None)
    flow.write(tracked("trials/0001", "stopped early"), epochs(2), epochs(2)[1])
    flow.write(tracked("trials/0002", "failed", "out of memory"), [], None)
    flow.write(tracked("trials/0003", "out of time"), epochs(1), None)
    flow.write(tracked(state="done"), [], epochs(2)[1])
    found = runs()
    parent = found.pop("first")
    assert parent.info.status == "FINISHED"
    assert {run.data.tags["mlflow.parentRunId"] for run in found.values()} == {parent.info.run_id}
    assert [found[f"trials/000{k}"].info.status for k in (1, 2, 3)] == [
        "FINISHED",
        "FAILED",
        "KILLED",
    ]
    assert found["trials/0002"].data.tags["reason"] == "out of memory"
    assert curve(client, found["trials/0001"]) == [(1, 1.0), (2, 0.5)]


def test_a_store_that_does_not_answer_is_refused_at_the_start_and_borne_with_later(
    folder, monkeypatch
):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ada:enigma@127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError) as refusal:
        MLflow(folder, resumed=False)
    told = str(refusal.value)
    assert told == (
        f"--track mlflow: http://***@127.0.0.1:{port}: Connection refused; "
        "set MLFLOW_TRACKING_URI, or omit this option"
    )
    flow = MLflow(folder, resumed=True)
    with pytest.raises(TrackerUnavailableError) as outage:
        flow.write(tracked(), epochs(1), None)
    assert "enigma" not in str(outage.value)


@pytest.mark.usefixtures("client")
def test_a_run_that_is_not_there_is_refused(folder, tmp_path, monkeypatch):
    MLflow(folder, resumed=False).write(tracked(), epochs(1), None)
    before = os.environ["MLFLOW_TRACKING_URI"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    with pytest.raises(
        TrackingError, match=r"Run with id=.* not found; this run was tracked at"
    ) as refusal:
        MLflow(folder, resumed=True)
    assert before in str(refusal.value)


def test_an_experiment_that_is_not_there_or_deleted_is_refused(client, folder, monkeypatch):
    client.delete_experiment(client.create_experiment("gone"))
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "gone")
    with pytest.raises(TrackingError, match="experiment gone has been deleted; set MLFLOW"):
        MLflow(folder, resumed=False)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "999")
    with pytest.raises(TrackingError, match="No Experiment with id=999 exists; set MLFLOW"):
        MLflow(folder, resumed=False)


@pytest.mark.parametrize("uri", ["nosuch://host", "postgresql://ada:enigma@host/db", "sqlite:////"])
def test_a_uri_that_mlflow_cannot_use_is_refused_in_a_line(folder, uri, monkeypatch):
    monkeypatch.setattr("mlflow.store.db.utils.MAX_RETRY_COUNT", 1)  # 10 take 100 seconds
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(TrackingError) as refusal:
        MLflow(folder, resumed=False)
    assert "\n" not in str(refusal.value)
    assert "enigma" not in str(refusal.value)


def test_secrets_are_hidden(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "enigma")
    assert hide_secrets("token enigma") == "token ***"
    assert hide_secrets("at https://ada:p@ss@host/x: refused") == "at https://***@host/x: refused"
    assert hide_secrets("postgresql://host/db?password=x y") == "postgresql://host/db?*** y"
    assert hide_secrets("sqlite:////a/b.db, who?") == "sqlite:////a/b.db, who?"


def test_without_mlflow_it_is_refused_with_what_to_install(folder, monkeypatch):
    monkeypatch.setattr("lstmfcn.tracking.mlflow.find_spec", lambda _: None)
    with pytest.raises(TrackingError, match="MLflow is not installed; pip install mlflow"):
        MLflow(folder, resumed=False)


def test_nothing_of_it_is_imported_before_it_is_asked_for():
    code = (
        "import sys, lstmfcn.cli.main, lstmfcn.distributed.train, lstmfcn.tracking.follow\n"
        "assert not {'mlflow', 'tensorboardX'} & {name.split('.')[0] for name in sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
