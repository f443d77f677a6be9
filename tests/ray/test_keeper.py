"""A cluster of two machines, of which only the driver's sees the output folders."""

import os
import shutil
import signal

import pytest

from lstmfcn.distributed.requests import Resources
from lstmfcn.distributed.train import train
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.model.artifact import Artifact
from lstmfcn.training.metrics_log import read_metrics
from lstmfcn.tuning.sweep import SweepLog, trial_folder
from tests.helpers.heads import Head
from tests.helpers.killing import epochs_in, train_workers, wait_until
from tests.helpers.no_cluster import no_cluster
from tests.helpers.problems import TINY, as_flags, waves, write
from tests.helpers.runs import assert_as_if_never_interrupted, assert_same_weights
from tests.helpers.small_models import tiny_artifact

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root, and unshare"
)

SECOND = "127.0.0.2"
ROWS = 600
ALONE = TINY.model_copy(update={"epochs": 40})
TOGETHER = TINY.model_copy(update={"epochs": 20, "batch_size": 24})
"""Workers talk to each other in every step, so they have fewer of them."""

PATIENCE_S = 240


@pytest.fixture(scope="module")
def private(tmp_path_factory):
    """A folder whose content the second machine does not see."""
    return tmp_path_factory.mktemp("private")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("rows") / "data", waves(ROWS), 2)


@pytest.fixture(scope="module")
def head(tmp_path_factory, private):
    """The driver's machine has one CPU, the second one two."""
    hide = 'mount -t tmpfs tmpfs "$0" && exec "$@"'
    head = Head(tmp_path_factory.mktemp("head"))
    try:
        with head.joined(SECOND, ["unshare", "--mount", "sh", "-c", hide, private], cpus=2) as node:
            head.second = node
            yield head
    finally:
        head.stop()


def training(hyperparameters, data, output, **options):
    given = {"train": data, "output": output, "checkpoint_every_s": 0.2} | options
    return as_flags(hyperparameters.model_dump() | given)


def test_a_worker_on_a_machine_that_does_not_see_the_output_trains_as_one_process(
    tmp_path, data, head, private
):
    """Which has two CPUs, as no other; the run is stopped, and goes on here without a cluster."""
    with no_cluster():
        options = {"hyperparameters": ALONE, "resources": Resources(cpus_per_worker=2)}
        train(data, tmp_path / "whole", **options)
    output = private / "alone"
    given = training(ALONE, data, output, cpus_per_worker=2)
    with head.driver("train", *given) as process:
        wait_until(lambda: epochs_in(output) >= 2, "epoch 2", PATIENCE_S)
        (worker,) = train_workers(str(head.second.folder))
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: epochs_in(output) >= 5, "epoch 5", PATIENCE_S)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, told
    assert told.count("lost a worker (its process was killed or crashed); starting again") == 1
    assert "lstmfcn: stopped after epoch " in told.splitlines()[-1]
    assert "no checkpoint could be written" not in told

    with no_cluster():
        train(None, output, resume=True)
    assert_as_if_never_interrupted(output, tmp_path / "whole")


def test_a_training_on_both_machines_goes_on_when_its_keeper_is_killed(data, head, private):
    output = private / "together"
    given = training(TOGETHER, data, output, cpus_per_worker=1, num_workers=3)
    with head.driver("train", *given) as process:
        wait_until(lambda: epochs_in(output) >= 2, "epoch 2", PATIENCE_S)
        assert len(train_workers(str(head.folder))) == 1
        assert len(train_workers(str(head.second.folder))) == 2
        (keeper,) = train_workers(str(head.folder), name="ray::KeeperActor")
        os.kill(keeper, signal.SIGKILL)
        _, told = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, told
    assert told.count("the process that writes the output was lost); starting again ") == 1
    assert "Traceback" not in told
    history = read_metrics(output / "metrics.jsonl")
    assert [epoch["epoch"] for epoch in history] == list(range(1, TOGETHER.epochs + 1))
    assert {epoch["rows"] for epoch in history} == {ROWS}
    assert Artifact.load(output / "model").training["num_workers"] == 3


def test_members_are_trained_on_both_machines_and_saved_on_one(tmp_path, data, head, private):
    members = TINY.model_copy(update={"members": 3, "epochs": 2})
    output = private / "members"
    given = training(members, data, output, cpus_per_worker=1)
    with head.driver("train", *given) as process:
        _, told = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, told
    assert len(Artifact.load(output / "model").training["members"]) == 3
    last = TINY.model_copy(update={"epochs": 2, "seed": members.seed + 2})
    with no_cluster():
        train(data, tmp_path / "last", hyperparameters=last, resources=Resources(cpus_per_worker=1))
    assert_same_weights(output / "members" / "02", tmp_path / "last")


def ended_trials(output):
    return SweepLog(output).trials


def test_trials_on_both_machines_are_kept_on_one(tmp_path, data, head, private):
    """Each as one process trains it with its hyperparameters, though their keeper is killed."""
    space = tmp_path / "space.yaml"
    space.write_text("lr: {loguniform: [1.0e-3, 0.1]}\n")
    output = private / "sweep"
    fixed = TINY.model_dump(exclude={"lr"}) | {"epochs": 3, "seed": 3}
    given = {"train": data, "output": output, "space": space, "num_samples": 5}
    given |= {"metric": "train_loss", "searcher": "random", "scheduler": "none"}
    with head.driver("tune", *as_flags(fixed | given | {"cpus_per_worker": 1})) as process:
        wait_until(lambda: ended_trials(output), "the end of a trial", PATIENCE_S)
        (keeper,) = train_workers(str(head.folder), name="ray::KeeperActor")
        os.kill(keeper, signal.SIGKILL)
        _, told = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, told
    assert "Traceback" not in told
    trials = ended_trials(output)
    assert [(trial.number, trial.status) for trial in trials] == [(k, "done") for k in range(1, 6)]
    for trial in trials[::2]:
        alone = tmp_path / str(trial.number)
        hyperparameters = Hyperparameters.parse(fixed | trial.hyperparameters)
        with no_cluster():
            resources = Resources(cpus_per_worker=1)
            found = train(data, alone, hyperparameters=hyperparameters, resources=resources)
        assert trial.objective == found.best["train_loss"]
        assert_same_weights(trial_folder(output, trial.number), alone)
        history = read_metrics(trial_folder(output, trial.number) / "metrics.jsonl")
        losses = [metrics["train_loss"] for metrics in history]
        assert losses == [metrics["train_loss"] for metrics in found.history]


def test_predictions_are_refused_where_a_machine_would_write_them_into_nowhere(
    tmp_path, head, private
):
    """All machines write them, each whole files."""
    artifact = tiny_artifact()
    artifact.save(tmp_path / "model")
    names = {f"x_{i + 1}": f"x_{i}" for i in range(artifact.schema.n_timepoints)}
    data = write(tmp_path / "data", waves(60).rename(columns=names), 2)
    output = private / "predictions"
    given = {"model": tmp_path / "model", "output": output}
    with head.driver("predict", data, *as_flags(given)) as process:
        _, told = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2, told
    assert told.splitlines()[-1] == (
        f"lstmfcn: {output}: does not exist on {SECOND}; "
        "name an --output on storage that all machines of the cluster share"
    )
    assert not output.exists()
