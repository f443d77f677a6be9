"""Sweeps as users run them: what they write, how they fail, and how they go on."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from lstmfcn.distributed.train import train
from lstmfcn.distributed.tune import tune
from lstmfcn.errors import OutputError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.model.artifact import Artifact
from lstmfcn.signals import in_thread
from lstmfcn.training.metrics_log import read_metrics
from lstmfcn.training.run_directory import STOP, RunConfig
from lstmfcn.tuning.plots import IMPORTANCE, OBJECTIVE, SLICES
from lstmfcn.tuning.sweep import EVENTS, SweepLog
from tests.helpers.killing import train_workers, wait_until
from tests.helpers.problems import TINY, as_flags, waves, write

REPOSITORY = Path(__file__).parents[2]
SPACE = """\
lr: {loguniform: [1.0e-6, 0.1]}
hidden-size: {int: [2, 8]}
scaling: {choice: [timestep, series]}"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    write(folder / "train", waves(60), 2)
    write(folder / "valid", waves(30, seed=1))
    return folder


def flags(data, output, space=SPACE, space_file=None, **changes):
    """A sweep one trial at a time, of the tiny net but for what is searched."""
    file = space_file or Path(output).with_suffix(".yaml")
    if space_file is None:
        file.write_text(space)
    searched = {line.split(":")[0].replace("-", "_") for line in space.splitlines()}
    fixed = TINY.model_dump(exclude=searched) | {"epochs": 4, "seed": 3}
    options = {"space": file, "max_concurrent": 1, "num_samples": 5, "scheduler": "none"}
    given = {"train": data / "train", "validation": data / "valid", "output": output}
    return as_flags(given | fixed | options | changes)


def trials(output):
    return SweepLog(Path(output)).trials


def told(output):
    """What must not depend on how a sweep was run: all but seconds and times."""
    return [
        (t.number, t.hyperparameters, t.status, t.objective, t.metrics.get("epoch"), t.epochs)
        for t in trials(output)
    ]


ASHA = {"num_samples": 9, "epochs": 27, "scheduler": "asha"}


@pytest.fixture(scope="module")
def swept(job, data, tmp_path_factory):
    """A sweep that nothing interrupts: its command, and its folder."""
    output = tmp_path_factory.mktemp("swept") / "sweep"
    return job("tune", *flags(data, output, **ASHA)), output


def test_a_sweep_writes_a_row_a_trial_the_best_model_and_plots(swept):
    done, output = swept
    assert done.returncode == 0, done.stderr
    with (output / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == [str(number) for number in range(1, 10)]
    assert {row["status"] for row in rows} == {"done", "stopped early"}
    best = max(rows, key=lambda row: (float(row["objective"]), -int(row["trial"])))
    artifact = Artifact.load(output / "model")
    assert artifact.training["trial"] == int(best["trial"])
    assert artifact.metrics["valid_accuracy"] == float(best["objective"])
    assert artifact.hyperparameters.lr == float(best["lr"])
    assert artifact.hyperparameters.scaling == artifact.scaler.kind == best["scaling"]
    for name in (OBJECTIVE, SLICES, IMPORTANCE):
        assert (output / name).stat().st_size > 5000
    for row in rows:
        history = read_metrics(output / "trials" / f"{int(row['trial']):04d}" / "metrics.jsonl")
        assert [metrics["epoch"] for metrics in history] == list(range(1, int(row["epochs"]) + 1))
    assert done.stdout.count("trial ") >= 9
    assert f"best: trial {best['trial']}, valid_accuracy" in done.stdout
    assert f"the defaults: trial 1, valid_accuracy {float(rows[0]['objective']):.8f}" in done.stdout
    first = Hyperparameters()
    assert (float(rows[0]["lr"]), rows[0]["scaling"]) == (first.lr, first.scaling)
    assert int(rows[0]["hidden-size"]) == first.hidden_size
    assert done.stdout.splitlines()[-5:] == [
        f"model: {output / 'model'}",
        "next:",
        f"  lstmfcn evaluate DATA --model {output}",
        f"  lstmfcn predict DATA --model {output} --output FOLDER",
        f"  lstmfcn serve {output}",
    ]


def test_the_best_model_evaluates_as_its_trial_did(swept, data, job):
    _, output = swept
    done = job("evaluate", "--model", output / "model", "--data", data / "valid")
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["accuracy"] == Artifact.load(output / "model").metrics["valid_accuracy"]


def test_a_sweep_whose_driver_was_killed_and_one_with_more_trials_go_on_as_if_they_never_ended(
    swept, data, job, refused, cluster, tmp_path
):
    """What ASHA knows of the trials that have ended counts; with the same seed all are the same.

    A trial whose process is killed is trained again, and is the same too.
    """
    _, uninterrupted = swept
    output = tmp_path / "killed"
    last = [trial.number for trial in trials(uninterrupted) if trial.status == "stopped early"][-1]
    few = ASHA | {"num_samples": last - 1}
    command = [sys.executable, REPOSITORY / "jobs" / "tune.py", *flags(data, output, **few)]
    environment = os.environ | {"RAY_ADDRESS": cluster}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as driver:
        wait_until(lambda: (output / EVENTS).exists() and len(trials(output)) >= 2, "two trials")
        os.kill(driver.pid, signal.SIGKILL)
    before = (output / EVENTS).read_text().splitlines()
    models = {p: p.stat().st_mtime_ns for p in (output / "trials").glob("*/model/model.json")}
    ended = {f"{trial.number:04d}" for trial in trials(output)}
    assert len(ended) < last - 1
    resume = ["tune", "--resume", "--output", output, "--max-concurrent", "1"]
    killed = in_thread(kill_a_trial)
    done = job(*resume)
    assert done.returncode == 0, done.stderr
    assert killed.result()
    assert told(output) == told(uninterrupted)[: last - 1]
    assert (output / EVENTS).read_text().splitlines()[: len(before)] == before
    for path, time_ns in models.items():
        if path.parts[-3] in ended:
            assert path.stat().st_mtime_ns == time_ns  # it was not trained again

    assert refused("tune", "--resume", "--output", output, "--metric", "valid_loss") == (
        "lstmfcn: metric: found 'valid_loss', the run to resume has 'valid_accuracy'; "
        "leave the flag out, or name another --output"
    )
    done = job(*resume, "--num-samples", last)
    assert done.returncode == 0, done.stderr
    assert told(output) == told(uninterrupted)[:last]


def kill_a_trial():
    (pid, *_) = wait_until(trial_processes, "a trial's process")
    os.kill(pid, signal.SIGKILL)
    return pid


def test_trials_that_continue_from_a_model_and_those_that_fail_are_recorded(
    swept, data, job, refused, tmp_path
):
    """Few hyperparameters can be searched then; a failure does not end the sweep."""
    model, output = swept[1] / "model", tmp_path / "partly"
    assert refused("tune", *flags(data, output, model=model)).endswith(
        ": hidden-size comes from the model that training starts from; "
        "search lr, batch-size, epochs, or leave --model out"
    )
    space = "lr: {choice: [0.015, 1.0e+30]}"
    changes = {"model": model, "num_samples": 5, "searcher": "random", "seed": 0}
    done = job("tune", *flags(data, output, space, **changes))
    assert done.returncode == 0, done.stderr
    first = trials(output)[0].hyperparameters
    assert first == {"lr": Artifact.load(model).hyperparameters.lr}
    found = {t.hyperparameters["lr"]: (t.status, t.reason) for t in trials(output)}
    assert found[0.015] == ("done", "")
    assert found[1e30][0] == "failed"
    assert found[1e30][1].startswith("train_loss became nan in epoch 1; try a smaller --lr")
    assert found.pop(first["lr"]) == ("done", "")  # outside of the space
    assert set(found) == {0.015, 1e30}
    assert Artifact.load(output / "model").hyperparameters.lr < 1
    assert "Traceback" not in done.stderr


def test_a_sweep_without_any_finished_trial_ends_with_its_reasons(data, job, tmp_path):
    output = tmp_path / "none"
    space = "dropout: {uniform: [0.1, 0.2]}"
    done = job("tune", *flags(data, output, space, num_samples=2, lr=1e30))
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("lstmfcn: no trial finished: train_loss became nan in epoch 1; try a sm")
    assert not (output / "model").exists()


def test_a_trial_whose_processes_are_killed_again_and_again_fails_alone(data, job, tmp_path):
    output = tmp_path / "killed"
    over = threading.Event()

    def kill():
        while not over.wait(0.1):
            for pid in trial_processes():
                if not trials(output):  # else it is the second trial
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        done = job("tune", *flags(data, output, num_samples=2, epochs=200))
    finally:
        over.set()
        killer.join()
    assert done.returncode == 0, done.stderr
    first, second = sorted(trials(output), key=lambda trial: trial.number)
    assert (first.status, first.reason) == ("failed", "its process was killed or crashed")
    assert (second.status, second.epochs) == ("done", 200)


def trial_processes():
    """Process ids of the trials that run."""
    return train_workers(name="ray::ImplicitFunc.train")


def test_time_that_is_up_ends_the_trials_and_keeps_the_best(data, job, tmp_path):
    output = tmp_path / "budget"
    done = job("tune", *flags(data, output, num_samples=9, epochs=100_000, time_budget_s=10))
    assert done.returncode == 0, done.stderr
    (trial,) = trials(output)
    assert trial.status == "out of time"
    assert Artifact.load(output / "model").metrics == trial.metrics
    assert trial.metrics["epoch"] <= trial.epochs


def test_trials_shorter_than_the_start_of_their_process_run_two_at_a_time(
    swept, data, job, tmp_path
):
    output = tmp_path / "sweep"
    command = flags(data, output, seed=4, num_samples=8, epochs=50, max_concurrent=2)
    assert job("tune", *command).returncode == 0
    histories = [read_metrics(path) for path in output.glob("trials/*/metrics.jsonl")]
    spans = {(each[0]["time"] - each[0]["seconds"], each[-1]["time"]) for each in histories}
    later = sorted(spans)[2:]  # the first two start with their processes
    beside = [
        any(
            begins < other_ends and other_begins < ends
            for other_begins, other_ends in spans - {(begins, ends)}
        )
        for begins, ends in later
    ]
    assert sum(beside) >= 5, later
    begun = sorted(told(output))
    assert begun[0][1] == told(swept[1])[0][1]  # the defaults
    assert begun[1][1] != told(swept[1])[1][1]  # for another seed


def test_asha_stops_the_worse_trials_early_but_never_the_defaults(swept):
    found = trials(swept[1])
    assert {trial.epochs for trial in found} <= {3, 9, 27}
    assert sum(trial.epochs for trial in found) < 0.8 * 9 * 27
    assert found[0].epochs == 27  # the defaults are what the best is compared with


def test_a_trial_on_several_workers_trains_as_train_does_and_again_if_it_was_being_stopped(
    data, job, tmp_path
):
    """It had begun in one process, which was told to stop."""
    output, space = tmp_path / "two", "lr: {choice: [0.02]}"
    workers = {"num_workers": 2, "cpus_per_worker": 1}
    done = job("tune", *flags(data, output, space, num_samples=1, calibrate=True))
    assert done.returncode == 0, done.stderr
    began, _ = (output / EVENTS).read_text().splitlines(keepends=True)
    (output / EVENTS).write_text(began)
    folder = output / "trials" / "0001"
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / STOP).touch()

    assert job("tune", *as_flags({"output": output} | workers), "--resume").returncode == 0
    (trial,) = trials(output)
    assert (trial.status, trial.epochs) == ("done", 4)
    assert not (folder / STOP).exists()
    found, own = Artifact.load(output / "model"), Artifact.load(folder / "model")
    assert found.training["num_workers"] == 2
    assert own.decision.temperature == 1  # its workers, who would calibrate it, do not save it too
    chosen = ["--train", data / "train", "--validation", data / "valid"]
    fixed = TINY.model_copy(update={"lr": Hyperparameters().lr, "epochs": 4, "seed": 3})
    given = fixed.model_dump() | workers | {"calibrate": True, "output": tmp_path / "one"}
    assert job("train", *chosen, *as_flags(given)).returncode == 0
    trained = Artifact.load(tmp_path / "one" / "model")
    assert found.decision == trained.decision != own.decision
    weights = trained.weights
    assert all(bool((found.weights[name] == weights[name]).all()) for name in weights)
    assert trial.metrics["train_loss"] == trained.metrics["train_loss"]


def test_a_users_mistake_is_one_line_and_nothing_is_written(data, refused, tmp_path):
    output = tmp_path / "out"
    for changes, message in {
        ("space_file", tmp_path / "none"): f"{tmp_path / 'none'}: cannot be read (No such file or",
        ("metric", "valid_f1"): "metric: found 'valid_f1'; write one of train_loss, train_acc",
        ("num_samples", 0): "num-samples: found '0'; it must be greater than or equal to 1",
        ("train", tmp_path / "gone"): f"{tmp_path / 'gone'}: found nothing; check the path",
        ("cpus_per_worker", 64): "no machine has 64 CPUs; lower --cpus-per-worker",
    }.items():
        line = refused("tune", *flags(data, output, **dict([changes])))
        assert line.startswith(f"lstmfcn: {message}")
        assert not output.exists()


def test_a_sweep_and_a_training_do_not_go_on_with_each_other(swept, tmp_path):
    _, sweep = swept
    with pytest.raises(OutputError, match="holds a sweep, not a training; name another --output"):
        train(None, str(sweep), resume=True)
    RunConfig.load(sweep).save(tmp_path)
    with pytest.raises(OutputError, match="holds a training, not a sweep; name another --output"):
        tune(None, str(tmp_path), resume=True)
