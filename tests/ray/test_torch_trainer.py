"""What a training on Ray's own TorchTrainer leaves as it was, and how a bug in a worker ends."""

import logging

import pytest
import ray
import ray.train

from lstmfcn.distributed.load import DatasetRefs
from lstmfcn.distributed.ray_trainer import train_until_done
from lstmfcn.distributed.requests import WorkerResources
from lstmfcn.distributed.train import train
from lstmfcn.distributed.worker import WorkerJob
from tests.helpers.problems import TINY, waves, write

pytestmark = pytest.mark.usefixtures("cluster")


def test_what_python_logs_stays_as_it_was(tmp_path):
    handlers, level = logging.root.handlers[:], logging.root.level
    data = write(tmp_path / "data", waves(60))
    assert train(str(data), str(tmp_path / "run"), hyperparameters=TINY).best["epoch"] > 0
    assert (logging.root.handlers, logging.root.level) == (handlers, level)


def test_a_bug_in_a_worker_is_told_with_its_traceback_and_not_tried_again(tmp_path, caplog):
    caplog.set_level("INFO")
    job = WorkerJob(None, None, {}, tmp_path / "run", 1, 1.0, tmp_path / "stop")
    data = DatasetRefs(*[ray.put((None, None, None))] * len(DatasetRefs._fields))
    with pytest.raises(ray.train.TrainingFailedError) as told:
        train_until_done(job, data, WorkerResources(1, 1, 1, False), tmp_path / "storage")
    assert "Traceback" in str(told.value)
    assert "worker.py" in str(told.value)
    assert "lost a worker" not in caplog.text
