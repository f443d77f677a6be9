"""Trainings on Ray whose workers are killed, and that go on with another number of them."""

import logging
import os
import shutil
import signal
import threading
import time
from contextlib import nullcontext

import pytest
import ray
import ray.train

from lstmfcn.distributed.keeper import RemoteKeeper, keeper_process
from lstmfcn.distributed.load import DatasetRefs
from lstmfcn.distributed.ray_trainer import train_until_done
from lstmfcn.distributed.requests import Resources, WorkerResources
from lstmfcn.distributed.train import train
from lstmfcn.distributed.worker import WorkerJob
from lstmfcn.errors import ResourceError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.model.artifact import Artifact
from lstmfcn.training.checkpoints import find_newest_position
from lstmfcn.training.metrics_log import read_metrics
from tests.helpers.killing import epochs_in, kill_train_worker, train_workers, wait_until
from tests.helpers.no_cluster import no_cluster
from tests.helpers.problems import TINY, waves, write
from tests.helpers.runs import LONG, ONE_CPU, assert_as_if_never_interrupted, write_long_data
from tests.helpers.tracked_runs import logged, noted

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture(scope="module")
def long_data(tmp_path_factory):
    return write_long_data(tmp_path_factory.mktemp("long"))


@pytest.fixture(scope="module")
def whole(long_data, tmp_path_factory):
    """A run that nothing interrupts, in this process."""
    output = tmp_path_factory.mktemp("whole") / "run"
    with no_cluster():
        train(long_data, output, hyperparameters=LONG, resources=ONE_CPU, track=["tensorboard"])
    return output


def test_a_killed_worker_is_replaced_and_the_result_is_that_of_one_process(
    tmp_path, long_data, whole, caplog
):
    """Killed early, without a checkpoint, and late, while it writes one.

    What Python logs stays.
    """
    handlers, level = logging.root.handlers[:], logging.root.level
    output = tmp_path / "run"

    def kill():
        wait_until(lambda: epochs_in(output) >= 2, "epoch 2")
        (pid,) = train_workers()
        os.kill(pid, signal.SIGSTOP)
        time.sleep(2)  # the keeper writes what it has been sent, or it would come back
        (output / "checkpoints").rename(tmp_path / "lost")
        kill_train_worker()
        wait_until(lambda: not epochs_in(output), "the next worker, from the start")
        wait_until(lambda: epochs_in(output) >= 3, "epoch 3")
        wait_until(lambda: any((output / "checkpoints").glob(".epoch-*")), "a checkpoint", 60, 0)
        kill_train_worker()

    killer = threading.Thread(target=kill)
    killer.start()
    with caplog.at_level("INFO"):
        train(
            long_data,
            output,
            hyperparameters=LONG,
            resources=ONE_CPU,
            checkpoint_every_s=0,
            track=["tensorboard"],
        )
    killer.join()
    told = [line for line in caplog.messages if line.startswith("lost a worker (")]
    assert len(told) == 2
    assert told[0].endswith("; starting again from the start")
    assert "; starting again after epoch " in told[1]
    assert_as_if_never_interrupted(output, whole)
    assert [epoch for epoch, _ in noted(output / "tensorboard")] == list(range(1, 7))
    assert noted(output / "tensorboard") == logged(output)
    assert (logging.root.handlers, logging.root.level) == (handlers, level)


def test_workers_that_die_at_once_are_not_started_for_ever(tmp_path):
    data = write(tmp_path / "data", waves(60))
    endless = TINY.model_copy(update={"epochs": 100_000})
    finished, killed = threading.Event(), set()

    def kill_all():
        while not finished.is_set():
            for pid in train_workers():
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
            finished.wait(0.2)

    killer = threading.Thread(target=kill_all)
    killer.start()
    try:
        with pytest.raises(ResourceError) as refusal:
            train(data, tmp_path / "run", hyperparameters=endless, resources=ONE_CPU)
    finally:
        finished.set()
        killer.join()
    assert "lost a worker 3 times without progress" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert len(killed) == 3


def test_a_bug_in_a_worker_is_told_with_its_traceback_and_not_tried_again(tmp_path, caplog):
    caplog.set_level("INFO")
    job = WorkerJob(None, None, {}, 1, 1.0)
    data = DatasetRefs(*[ray.put((None, None, None))] * len(DatasetRefs._fields))
    resources = WorkerResources(1, 1, 1, False)
    with keeper_process() as actor:
        keeper = RemoteKeeper(actor, tmp_path / "run")
        with pytest.raises(ray.train.TrainingFailedError) as told:
            train_until_done(job, keeper, data, resources, tmp_path / "storage")
    assert "Traceback" in str(told.value)
    assert "worker.py" in str(told.value)
    assert "lost a worker" not in caplog.text


def test_what_a_worker_refuses_is_told_in_a_line(tmp_path):
    data = write(tmp_path / "data", waves(60))
    greedy = LONG.model_copy(update={"hidden_size": 10_000_000})
    with pytest.raises(ResourceError, match=r"out of memory in a worker .*; lower --batch-size"):
        train(data, tmp_path / "run", hyperparameters=greedy, resources=ONE_CPU)
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize(("memory_gb", "first", "then"), [(None, 2, 1), (1e-5, 1, 2)])
def test_an_epoch_that_goes_on_with_another_number_of_workers_counts_every_row(
    tmp_path, memory_gb, first, then
):
    """One worker is this process, if the rows fit into memory."""

    def train_with(n_workers, data, **options):
        resources = Resources(n_workers, cpus_per_worker=1, memory_gb=memory_gb)
        with no_cluster() if n_workers == 1 and memory_gb is None else nullcontext():
            train(data, output, resources=resources, **options)

    data, output = write(tmp_path / "data", waves(603), 2), tmp_path / "run"
    short = TINY.model_copy(update={"batch_size": 16, "epochs": 1})
    train_with(first, data, hyperparameters=short, checkpoint_every_s=0)
    shutil.rmtree(max((output / "checkpoints").iterdir()))
    assert find_newest_position(output / "checkpoints") == (0, 32)
    train_with(then, None, hyperparameters=Hyperparameters(epochs=2), resume=True)
    assert [m["rows"] for m in read_metrics(output / "metrics.jsonl")] == [603, 603]
    assert Artifact.load(output / "model").training["num_workers"] == then
