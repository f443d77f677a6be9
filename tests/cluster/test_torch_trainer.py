import logging
import subprocess
import sys
import time

import pytest
from killing import train_workers, wait_until
from problems import TINY, waves, write

from lstmfcn.distributed.background import in_thread
from lstmfcn.distributed.train import train


@pytest.mark.usefixtures("cluster")
def test_nothing_runs_beside_the_workers_and_what_python_logs_stays(tmp_path):
    handlers, level = logging.root.handlers[:], logging.root.level
    data = write(tmp_path / "data", waves(60))
    longer = TINY.model_copy(update={"epochs": 60})
    training = in_thread(lambda: train(str(data), str(tmp_path / "run"), hyperparameters=longer))
    wait_until(lambda: training.done() or train_workers(), "a worker", every_s=0.1)
    beside = []
    while not training.done():
        beside += train_workers(name="ray::TrainController")
        time.sleep(0.1)
    assert training.result()["epoch"] > 0
    assert not beside
    assert (logging.root.handlers, logging.root.level) == (handlers, level)


def test_a_controller_whose_ray_has_ended_starts_no_other():
    program = (
        "import ray\n"
        "from lstmfcn.distributed.torch_trainer import _no_other_ray\n"
        "with _no_other_ray():\n"
        "    ray.put(1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert "Ray has not been started yet" in done.stderr.splitlines()[-1]
