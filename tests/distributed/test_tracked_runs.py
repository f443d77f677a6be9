"""Trainings that are tracked: killed and resumed, refused, or without the tracker's answer."""

import signal

import pytest

from lstmfcn.model.artifact import Artifact
from lstmfcn.training.run_directory import RunConfig
from tests.helpers.killing import epochs_in, wait_until
from tests.helpers.problems import TINY, flags_of, waves, write
from tests.helpers.runs import start_train
from tests.helpers.tracked_runs import logged, mlflow_store, noted

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        yield mlflow_store(tmp_path_factory.mktemp("store"), patch)


def runs(store):
    return store.search_runs([store.get_experiment_by_name("ours").experiment_id])


def test_a_run_whose_process_was_killed_is_tracked_on_without_an_epoch_twice(tmp_path, store, job):
    data, output = write(tmp_path / "data", waves(1600), 2), tmp_path / "run"
    long = TINY.model_copy(update={"epochs": 6, "batch_size": 8})
    flags = ["--train", data, "--output", output, "--checkpoint-every-s", "2"]
    flags += ["--track", "tensorboard", "mlflow", *flags_of(long)]
    with start_train(*flags) as process:
        wait_until(lambda: (output / "mlflow.json").exists(), "the run in MLflow", 300)
        wait_until(lambda: epochs_in(output) >= 3, "epoch 3")
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert RunConfig.load(output).track == ("tensorboard", "mlflow")

    done = job("train", "--cpus-per-worker", "1", "--output", output, "--resume")
    assert done.returncode == 0, done.stderr
    assert f"tracked by tensorboard: tensorboard --logdir {output}/tensorboard" in done.stderr
    assert [epoch for epoch, _ in noted(output / "tensorboard")] == list(range(1, 7))
    assert noted(output / "tensorboard") == logged(output)
    kept = Artifact.load(output / "model").metrics
    assert [epoch for epoch, _ in noted(output / "tensorboard", "kept/train_loss")] == [
        kept["epoch"]
    ]
    (run,) = runs(store)
    assert run.info.status == "FINISHED"
    history = store.get_metric_history(run.info.run_id, "train_loss")
    assert sorted(metric.step for metric in history) == list(range(1, 7))
    assert len(store.list_artifacts(run.info.run_id, "model")) == 2

    nothing = job("train", "--cpus-per-worker", "1", "--output", output, "--resume")
    assert nothing.returncode == 0, nothing.stderr
    assert noted(output / "tensorboard") == logged(output)


def test_data_that_is_refused_leaves_nothing_behind_in_any_tracker(tmp_path, store, refused):
    data = write(tmp_path / "data", waves(20).assign(x_3="abc"))
    output, before = tmp_path / "run", len(runs(store))
    told = refused(
        *("train", "--train", data, "--output", output, "--track", "tensorboard", "mlflow"),
        *flags_of(TINY),
    )
    assert "column x_3: found 'abc'" in told
    assert not output.exists()
    assert len(runs(store)) == before


def test_a_tracker_that_cannot_be_reached_is_refused_before_anything_begins(
    tmp_path, store, refused, monkeypatch
):
    assert store
    data, output = write(tmp_path / "data", waves(20)), tmp_path / "run"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:enigma@127.0.0.1:9")
    told = refused(
        *("train", "--train", data, "--output", output, "--track", "mlflow"), *flags_of(TINY)
    )
    assert told == (
        "lstmfcn: --track mlflow: http://***@127.0.0.1:9: Connection refused; "
        "set MLFLOW_TRACKING_URI, or omit this option"
    )
    assert not output.exists()
