"""Trainings and sweeps that are tracked, and interrupted."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lstmfcn.distributed.requests import Resources
from lstmfcn.distributed.train import train
from lstmfcn.distributed.tune import tune
from lstmfcn.model.artifact import Artifact
from lstmfcn.training.metrics_log import read_metrics
from lstmfcn.training.run_directory import RunConfig
from lstmfcn.tuning.sweep import SearchConfig, SweepLog
from tests.helpers.checkout import REPOSITORY
from tests.helpers.killing import epochs_in, kill_train_worker, train_workers, wait_until
from tests.helpers.problems import TINY, as_flags, flags_of, waves, write

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow")

LONG = TINY.model_copy(update={"epochs": 8, "batch_size": 8})
"""Epochs of about half a second on `long_data`."""
ONE_CPU = Resources(cpus_per_worker=1)


@pytest.fixture(scope="module")
def long_data(cluster, tmp_path_factory):  # noqa: ARG001 - the cluster trains on it
    return write(tmp_path_factory.mktemp("long") / "data", waves(2400), 2)


@pytest.fixture
def store(tmp_path, monkeypatch):
    """MLflow's client, and its store in a file."""
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ours")
    monkeypatch.chdir(tmp_path)  # where MLflow makes a folder for artifacts
    client = mlflow.MlflowClient()
    client.create_experiment("ours", artifact_location=(tmp_path / "artifacts").as_uri())
    return client


def points(folder, tag="train_loss"):
    """Epochs and values, in TensorBoard's eyes."""
    events = EventAccumulator(str(folder), purge_orphaned_data=False).Reload()
    return [(point.step, point.value) for point in events.Scalars(tag)]


def expected(folder):
    history = read_metrics(folder / "metrics.jsonl")
    return [(m["epoch"], pytest.approx(m["train_loss"], rel=1e-6)) for m in history]


def test_a_run_whose_driver_was_killed_is_tracked_on_without_an_epoch_twice(
    tmp_path, long_data, store, cluster, job
):
    output = tmp_path / "run"
    command = [sys.executable, REPOSITORY / "jobs" / "train.py", "--cpus-per-worker", "1"]
    flags = ["--train", long_data, "--output", output, "--checkpoint-every-s", "2"]
    flags += ["--track", "tensorboard", "mlflow", *as_flags(LONG.model_dump())]
    with subprocess.Popen(
        [*map(str, command), *map(str, flags)],
        env=os.environ | {"RAY_ADDRESS": cluster},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    ) as driver:
        wait_until(lambda: (output / "mlflow.json").exists(), "the run in MLflow", 300)
        wait_until(lambda: epochs_in(output) >= 3, "epoch 3")
        driver.send_signal(signal.SIGKILL)
    wait_until(lambda: not train_workers(), "the end of the workers")
    assert RunConfig.load(output).track == ("tensorboard", "mlflow")

    done = job("train", "--cpus-per-worker", "1", "--output", output, "--resume")
    assert done.returncode == 0, done.stderr
    assert f"tracked by tensorboard: tensorboard --logdir {output}/tensorboard" in done.stderr
    assert [epoch for epoch, _ in points(output / "tensorboard")] == list(range(1, 9))
    assert points(output / "tensorboard") == expected(output)
    kept = Artifact.load(output / "model").metrics
    assert [epoch for epoch, _ in points(output / "tensorboard", "kept/train_loss")] == [
        kept["epoch"]
    ]
    (run,) = store.search_runs([store.get_experiment_by_name("ours").experiment_id])
    assert run.info.status == "FINISHED"
    history = store.get_metric_history(run.info.run_id, "train_loss")
    assert sorted(metric.step for metric in history) == list(range(1, 9))
    assert len(store.list_artifacts(run.info.run_id, "model")) == 2

    nothing = job("train", "--cpus-per-worker", "1", "--output", output, "--resume")
    assert nothing.returncode == 0, nothing.stderr
    assert points(output / "tensorboard") == expected(output)


def test_a_killed_worker_leaves_no_epoch_twice(tmp_path, long_data):
    output = tmp_path / "run"

    def kill():
        wait_until(lambda: epochs_in(output) >= 3, "epoch 3")
        kill_train_worker()

    killer = threading.Thread(target=kill)
    killer.start()
    train(
        str(long_data),
        str(output),
        hyperparameters=LONG,
        resources=ONE_CPU,
        checkpoint_every_s=1000,
        track=["tensorboard"],
    )
    killer.join()
    assert points(output / "tensorboard") == expected(output)


def test_each_trial_of_a_sweep_is_a_run_and_a_child_run(tmp_path, long_data, store):
    output = tmp_path / "sweep"
    space = tmp_path / "space.yaml"
    space.write_text("lr: {loguniform: [0.0001, 0.01]}\n")
    small = TINY.model_copy(update={"epochs": 3, "batch_size": 128})
    fixed = type(TINY)(**{k: v for k, v in small.model_dump().items() if k != "lr"})
    asked = {"validation": str(long_data), "hyperparameters": fixed}
    search = SearchConfig(space=str(space), num_samples=3, scheduler="none")
    tune(str(long_data), str(output), search=search, track=["tensorboard", "mlflow"], **asked)
    more = SearchConfig(num_samples=4)
    tune(None, str(output), search=more, resume=True)
    trials = SweepLog(output).trials
    assert len(trials) == 4
    parent, *children = reversed(
        store.search_runs([store.get_experiment_by_name("ours").experiment_id])
    )
    assert parent.info.run_name == "sweep"
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    rates = {run.info.run_name: run.data.params["lr"] for run in children}
    assert rates == {f"trials/{t.number:04d}": str(t.hyperparameters["lr"]) for t in trials}
    for trial in trials:
        name = f"{trial.number:04d}"
        folder = output / "tensorboard" / "trials" / name
        assert points(folder) == expected(output / "trials" / name)
        kept = points(folder, "kept/valid_accuracy")
        assert kept == [(trial.metrics["epoch"], pytest.approx(trial.objective))]


def test_each_member_of_an_ensemble_is_a_run(tmp_path, long_data):
    output = tmp_path / "run"
    members = TINY.model_copy(update={"members": 2})
    train(
        str(long_data),
        str(output),
        hyperparameters=members,
        resources=ONE_CPU,
        track=["tensorboard"],
    )
    for name in ("", "members/00", "members/01"):
        assert points(output / "tensorboard" / name) == expected(output / name)


def test_data_that_is_refused_leaves_nothing_behind_in_any_tracker(tmp_path, store, refused):
    data = write(tmp_path / "data", waves(20).assign(x_3="abc"))
    output = tmp_path / "run"
    told = refused(
        *("train", "--train", data, "--output", output, "--track", "tensorboard", "mlflow"),
        *flags_of(TINY),
    )
    assert "column x_3: found 'abc'" in told
    assert not output.exists()
    assert store.search_runs([store.get_experiment_by_name("ours").experiment_id]) == []


def test_a_tracker_that_cannot_be_reached_is_refused_before_anything_begins(
    tmp_path, long_data, store, refused, monkeypatch
):  # fmt: skip
    assert store
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:enigma@127.0.0.1:9")
    output = tmp_path / "run"
    told = refused(
        *("train", "--train", long_data, "--output", output, "--track", "mlflow"), *flags_of(TINY)
    )
    assert told == (
        "lstmfcn: --track mlflow: http://***@127.0.0.1:9: Connection refused; "
        "set MLFLOW_TRACKING_URI, or omit this option"
    )
    assert not output.exists()
