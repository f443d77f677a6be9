import logging
import time

import pytest

from lstmfcn.distributed.train import train
from lstmfcn.signals import in_thread
from tests.helpers.killing import train_workers, wait_until
from tests.helpers.problems import TINY, waves, write


@pytest.mark.usefixtures("cluster")
def test_nothing_runs_beside_the_workers_and_what_python_logs_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TRAIN_ENABLE_STATE_TRACKING", "1")  # wants an actor's id
    handlers, level = logging.root.handlers[:], logging.root.level
    data = write(tmp_path / "data", waves(60))
    longer = TINY.model_copy(update={"epochs": 60})
    training = in_thread(lambda: train(str(data), str(tmp_path / "run"), hyperparameters=longer))
    wait_until(lambda: training.done() or train_workers(), "a worker", every_s=0.1)
    beside = []
    while not training.done():
        beside += train_workers(name="ray::TrainController")
        time.sleep(0.1)
    assert training.result().best["epoch"] > 0
    assert not beside
    assert (logging.root.handlers, logging.root.level) == (handlers, level)
