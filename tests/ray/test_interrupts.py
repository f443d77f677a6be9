"""Interrupted in a process that lives on, as a notebook's kernel does: nothing goes on."""

import pytest

from lstmfcn.distributed.requests import Resources, SweepLimits
from lstmfcn.distributed.train import train
from lstmfcn.distributed.tune import tune
from lstmfcn.errors import RunInterruptedError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.training.checkpoints import find_newest_position
from lstmfcn.training.run_directory import list_member_folders
from lstmfcn.tuning.sweep import SearchConfig
from tests.helpers.killing import epochs_in, interrupted_at
from tests.helpers.problems import TINY, waves, write

pytestmark = pytest.mark.usefixtures("cluster")

LONG = TINY.model_copy(update={"epochs": 100_000})


@pytest.fixture
def data(tmp_path):
    return str(write(tmp_path / "data", waves(60)))


def test_a_training_that_is_interrupted_leaves_no_worker_behind(data, tmp_path):
    run = tmp_path / "run"
    with (
        interrupted_at(run / "metrics.jsonl", 3),
        pytest.raises(RunInterruptedError, match="stopped after epoch"),
    ):
        train(data, str(run), hyperparameters=LONG, resources=Resources(cpus_per_worker=1))
    assert list((run / "checkpoints").iterdir())


def test_every_member_of_an_ensemble_writes_its_checkpoint_before_the_end(data, tmp_path):
    run = tmp_path / "run"
    members = list_member_folders(run, 3)
    ensemble = LONG.model_copy(update={"members": 3})
    with (
        interrupted_at(run / "members" / "01" / "metrics.jsonl", 3),
        pytest.raises(RunInterruptedError) as told,
    ):
        train(data, str(run), hyperparameters=ensemble, resources=Resources(cpus_per_worker=2))
    assert "will be trained again" not in str(told.value)
    done = [find_newest_position(member / "checkpoints").epoch for member in members]
    assert done == [epochs_in(member) for member in members]
    assert done[1] >= 3


def test_a_sweep_that_is_interrupted_leaves_no_trial_behind(data, tmp_path):
    sweep = tmp_path / "sweep"
    space = tmp_path / "space.yaml"
    space.write_text("dropout: {uniform: [0.1, 0.9]}")
    fixed = Hyperparameters(**LONG.model_dump(exclude={"dropout"}))
    with (
        interrupted_at(sweep / "trials" / "0001" / "metrics.jsonl", 3),
        pytest.raises(RunInterruptedError, match="stopped after 0 of 4 trials"),
    ):
        tune(
            data,
            str(sweep),
            validation=data,
            hyperparameters=fixed,
            search=SearchConfig(space=str(space), num_samples=4, scheduler="none"),
            limits=SweepLimits(max_concurrent=2),
        )
