"""A sweep that is tracked and calibrated, and goes on: its trials, its runs, its best model."""

import pytest

from lstmfcn.distributed.tune import tune
from lstmfcn.model.artifact import Artifact
from lstmfcn.tuning.sweep import SearchConfig, SweepLog, trial_folder
from tests.helpers.problems import UNSURE, as_flags, write_noisy
from tests.helpers.tracked_runs import logged, mlflow_store, noted

pytestmark = [
    pytest.mark.usefixtures("cluster"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow"),
]


@pytest.fixture(scope="module")
def swept(job, tmp_path_factory):
    """What the sweep that goes on finds, and the store of MLflow."""
    folder = tmp_path_factory.mktemp("swept")
    data, output, space = write_noisy(folder / "data"), folder / "sweep", folder / "space.yaml"
    space.write_text("lr: {loguniform: [0.02, 0.03]}")
    given = {"train": data / "train", "validation": data / "valid", "output": output}
    given |= UNSURE.model_dump(exclude={"lr"}) | {"calibrate": True, "cpus_per_worker": 1}
    given |= {"space": space, "num_samples": 2, "scheduler": "none"}
    with pytest.MonkeyPatch.context() as patch:
        store = mlflow_store(folder, patch)
        done = job("tune", *as_flags(given), "--track", "tensorboard", "mlflow")
        assert done.returncode == 0, done.stderr
        assert "fitted on 150 validation rows" in done.stderr
        yield tune(None, output, search=SearchConfig(num_samples=3), resume=True), store


def test_each_trial_of_a_sweep_is_a_run_and_a_child_run(swept):
    result, store = swept
    output = result.output
    trials = SweepLog(output).trials
    assert len(trials) == 3
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
        assert noted(folder) == logged(output / "trials" / name)
        kept = noted(folder, "kept/valid_accuracy")
        assert kept == [(trial.metrics["epoch"], pytest.approx(trial.objective))]


def test_the_best_trial_of_a_sweep_is_calibrated(swept):
    result, _ = swept
    assert result.model == result.output / "model"
    assert result.objective == ("valid_accuracy",)
    assert result.defaults is not None
    assert result.defaults.number == 1
    table = result.trials.set_index("trial")
    assert table.index.tolist() == [1, 2, 3]
    assert table["valid_accuracy"][result.best.number] == result.best.metrics["valid_accuracy"]
    assert table["valid_accuracy"].max() == result.best.objective
    model = Artifact.load(result.model)
    assert model.training["trial"] == result.best.number
    assert model.decision.temperature < 1
    trial = Artifact.load(trial_folder(result.output, model.training["trial"]) / "model")
    assert trial.decision.temperature == 1
    assert all(tensor.equal(model.weights[name]) for name, tensor in trial.weights.items())
