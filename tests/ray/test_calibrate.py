"""Models calibrated by the commands: on one network, on an ensemble, on a sweep's best trial."""

import json

import numpy as np
import pytest

from lstmfcn.distributed.requests import Resources
from lstmfcn.distributed.train import train
from lstmfcn.distributed.tune import tune
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.model.artifact import Artifact
from lstmfcn.tuning.sweep import SearchConfig, trial_folder
from tests.helpers.problems import TINY, as_flags, waves, write

UNSURE = TINY.model_copy(update={"epochs": 8, "label_smoothing": 0.5})
"""Smoothed labels teach a network that it is wrong more often than it is."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Training and validation rows that are not entirely told apart."""
    folder = tmp_path_factory.mktemp("calibrate")
    for name, n_rows, seed in (("train", 150, 0), ("valid", 150, 1)):
        table = waves(n_rows, seed)
        noise = 1.2 * np.random.default_rng(seed).standard_normal((n_rows, 12))
        table.loc[:, "x_1":] += noise.astype(np.float32)
        write(folder / name, table)
    return folder


def given(data, output, **changes):
    rows = {"train": data / "train", "validation": data / "valid", "output": output}
    workers = {"num_workers": 2, "cpus_per_worker": 1}
    return as_flags(rows | workers | UNSURE.model_dump() | changes)


def evaluated(job, model, data):
    done = job("evaluate", "--model", model, "--data", data)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def plain(job, data, tmp_path_factory):
    output = tmp_path_factory.mktemp("calibrate") / "plain"
    done = job("train", *given(data, output))
    assert done.returncode == 0, done.stderr
    assert "temperature" not in done.stderr
    return output / "model"


def test_the_calibration_error_falls_and_labels_stay(job, data, plain, tmp_path):
    done = job("train", *given(data, tmp_path / "run", calibrate=True))
    assert done.returncode == 0, done.stderr
    model = tmp_path / "run" / "model"
    before, after = Artifact.load(plain), Artifact.load(model)
    assert all(tensor.equal(before.weights[name]) for name, tensor in after.weights.items())
    errors = after.training["calibration"]["calibration_error"]
    temperature = after.decision.temperature
    assert temperature < 1
    assert done.stderr.splitlines()[-1] == (
        f"temperature {temperature:.3g} fitted on 150 validation rows: "
        f"expected calibration error {errors[0]:.3f} -> {errors[1]:.3f}"
    )
    found = [evaluated(job, folder, data / "valid") for folder in (plain, model)]
    assert found[1]["expected_calibration_error"] < found[0]["expected_calibration_error"] - 0.02
    assert found[1]["confusion_matrix"] == found[0]["confusion_matrix"]
    told = [metrics["expected_calibration_error"] for metrics in found]
    assert told == pytest.approx(errors, abs=1e-3)


def run(data, output, hyperparameters, **options):
    """Train in this process; returns the model."""
    rows = {"validation": str(data / "valid"), "resources": Resources(cpus_per_worker=1)}
    train(str(data / "train"), str(output), hyperparameters=hyperparameters, **rows | options)
    return Artifact.load(output / "model")


@pytest.mark.usefixtures("cluster")
def test_an_ensemble_is_calibrated_its_members_are_not_and_neither_is_what_continues(
    data, tmp_path, caplog
):
    caplog.set_level("INFO")
    ensemble = UNSURE.model_copy(update={"calibrate": True, "members": 2})
    assert run(data, tmp_path / "first", ensemble).decision.temperature < 1
    assert "fitted on 150 validation rows" in caplog.text
    member = Artifact.load(tmp_path / "first" / "members" / "00" / "model")
    assert member.decision.temperature == 1
    assert not member.hyperparameters.calibrate

    caplog.clear()
    once = Hyperparameters(epochs=1)
    model = str(tmp_path / "first" / "members" / "00" / "model")
    assert run(data, tmp_path / "second", once, model=model).decision.temperature == 1
    assert "left behind" not in caplog.text
    model = str(tmp_path / "first" / "model")
    again = run(data, tmp_path / "third", once, model=model, validation=None)
    assert again.decision.temperature == 1
    assert "calibrate of the model is dropped; give the flag to fit it again" in caplog.messages


@pytest.mark.usefixtures("cluster")
def test_the_best_trial_of_a_sweep_is_calibrated(data, tmp_path, caplog):
    caplog.set_level("INFO")
    space = tmp_path / "space.yaml"
    space.write_text("lr: {choice: [0.02, 0.03]}")
    fixed = UNSURE.model_dump(exclude={"lr"}) | {"calibrate": True}
    result = tune(
        str(data / "train"),
        str(tmp_path / "sweep"),
        validation=str(data / "valid"),
        hyperparameters=Hyperparameters(**fixed),
        search=SearchConfig(space=str(space), num_samples=2),
        resources=Resources(cpus_per_worker=1),
    )
    assert "fitted on 150 validation rows" in caplog.text
    assert (result.output, result.model) == (tmp_path / "sweep", tmp_path / "sweep" / "model")
    assert result.objective == ("valid_accuracy",)
    assert result.defaults is not None
    assert result.defaults.number == 1
    table = result.trials.set_index("trial")
    assert table.index.tolist() == [1, 2]
    assert table["valid_accuracy"][result.best.number] == result.best.metrics["valid_accuracy"]
    assert table["valid_accuracy"].max() == result.best.objective
    model = Artifact.load(tmp_path / "sweep" / "model")
    assert model.training["trial"] == result.best.number
    assert model.decision.temperature < 1
    trial = Artifact.load(trial_folder(tmp_path / "sweep", model.training["trial"]) / "model")
    assert trial.decision.temperature == 1
    assert all(tensor.equal(model.weights[name]) for name, tensor in trial.weights.items())
