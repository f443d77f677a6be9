"""Models calibrated by the commands, and what continues from them."""

import json

import pytest

from lstmfcn.distributed.requests import Resources
from lstmfcn.distributed.train import train
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.model.artifact import Artifact
from tests.helpers.problems import UNSURE, flags_of, write_noisy

ONE_CPU = Resources(cpus_per_worker=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_noisy(tmp_path_factory.mktemp("calibrate"))


def trained(job, data, output, **changes):
    """A command that trains, and the folder of the model that it writes."""
    rows = ["--train", data / "train", "--validation", data / "valid", "--output", output]
    done = job("train", *rows, "--cpus-per-worker", "1", *flags_of(UNSURE, **changes))
    assert done.returncode == 0, done.stderr
    return done, output / "model"


def evaluated(job, model, data):
    done = job("evaluate", "--model", model, "--data", data)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_calibration_error_falls_and_labels_stay(job, data, tmp_path):
    done, plain = trained(job, data, tmp_path / "plain")
    assert "temperature" not in done.stderr
    done, model = trained(job, data, tmp_path / "run", calibrate=True)
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

    again = train(
        data / "train",
        tmp_path / "again",
        model=model,
        hyperparameters=Hyperparameters(epochs=1),
        resources=ONE_CPU,
    )
    assert Artifact.load(again.model).decision.temperature == 1
