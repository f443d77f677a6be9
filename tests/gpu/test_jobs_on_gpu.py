"""Commands on a machine with a GPU, each with a Ray of its own, as they are typed."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from lstmfcn.distributed.worker import refusing_memory_errors
from lstmfcn.errors import ResourceError
from lstmfcn.inference.predictor import Classifier
from lstmfcn.training.metrics_log import read_metrics
from lstmfcn.tuning.sweep import SweepLog
from tests.helpers.checkout import REPOSITORY
from tests.helpers.killing import epochs_in, wait_until
from tests.helpers.problems import TINY, as_flags, flags_of, waves, write

DEVICE = "cuda"

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

TO_LEARN = flags_of(TINY, epochs=20, precision="auto")


def start(name, *flags):
    """Start ``jobs/NAME.py`` without a cluster."""
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    # a shell's background jobs ignore Ctrl-C, and so would what the tests start in one
    command = ["env", "--default-signal=INT", sys.executable, f"jobs/{name}.py"]
    return subprocess.Popen(
        [*command, *map(str, flags)],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process):
    """Exit code, and what was printed on stdout and stderr."""
    try:
        printed = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        printed = process.communicate()
        pytest.fail(f"did not end within 120 s: {printed}")
    return process.returncode, *printed


def job(name, *flags):
    return ended(start(name, *flags))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("on-gpu") / "data"
    write(folder / "train", waves(240), 2)
    write(folder / "valid", waves(90, seed=1))
    return ["--train", folder / "train", "--validation", folder / "valid"]


def trained_on(output):
    """What the model says of its training: where, and how precisely."""
    training = json.loads((output / "model" / "model.json").read_text())["training"]
    return training["device"], training["precision"]


def accuracy(output):
    """Of the model, on rows that it has not seen, in this process."""
    test = waves(300, seed=2)
    predicted = Classifier.load(output / "model", device="cpu").predict(test.filter(like="x_"))
    truth = np.array(["y_1", "y_2", "y_3"])[test.filter(like="y_").to_numpy().argmax(axis=1)]
    return (predicted == truth).mean()


def test_a_training_takes_the_gpu_by_default_and_its_model_predicts_on_the_cpu(data, tmp_path):
    code, _, told = job("train", *data, "--output", tmp_path / "run", *TO_LEARN)
    assert code == 0, told
    assert " and a GPU" in told
    assert trained_on(tmp_path / "run") == (DEVICE, "bf16")
    assert accuracy(tmp_path / "run") > 0.9


def test_a_training_stays_on_the_cpu_where_it_shall(data, tmp_path):
    output = tmp_path / "run"
    flags = ["--no-use-gpu", "--cpus-per-worker", 1, *flags_of(TINY)]
    code, _, told = job("train", *data, "--output", output, *flags)
    assert code == 0, told
    assert "GPU" not in told
    assert trained_on(output) == ("cpu", "fp32")


def test_a_training_that_ctrl_c_stopped_goes_on_to_its_last_epoch(tmp_path):
    output = tmp_path / "run"
    many = write(tmp_path / "many", waves(2400))
    resources = ["--cpus-per-worker", 1]
    flags = [*resources, *flags_of(TINY, epochs=12, batch_size=8, precision="auto")]
    process = start("train", "--train", many, "--output", output, *flags)
    try:
        wait_until(lambda: epochs_in(output) >= 2 or process.poll() is not None, "epoch 2")
        process.send_signal(signal.SIGINT)
    finally:
        code, _, stopped = ended(process)
    assert code == 130, stopped
    assert "stopped after epoch " in stopped.splitlines()[-1]
    assert 2 <= epochs_in(output) < 12
    code, _, told = job("train", "--output", output, "--resume", *resources)
    assert code == 0, told
    assert f"{output}: resuming after epoch " in told
    history = read_metrics(output / "metrics.jsonl")
    assert [metrics["epoch"] for metrics in history] == list(range(1, 13))
    assert {metrics["rows"] for metrics in history} == {2400}
    assert trained_on(output) == (DEVICE, "bf16")
    assert "did not stop" not in stopped


def test_members_train_on_the_gpu_and_predict_together_on_the_cpu(data, tmp_path):
    output = tmp_path / "run"
    flags = [*flags_of(TINY, members=2, epochs=20, precision="auto")]
    code, printed, told = job("train", *data, "--output", output, *flags)
    assert code == 0, told
    assert "starting 2 members of " in told
    assert " and a GPU" in told
    for k in range(2):
        assert f"member: {k} epoch: 20 " in printed
        assert trained_on(output / "members" / f"{k:02d}") == (DEVICE, "bf16")
    assert trained_on(output) == (DEVICE, "bf16")
    assert accuracy(output) > 0.9


def test_a_sweep_trains_its_trials_on_the_gpu(data, tmp_path):
    output, space = tmp_path / "sweep", tmp_path / "space.yaml"
    space.write_text("lr: {choice: [0.01, 0.02]}")
    fixed = TINY.model_dump(exclude={"lr"}) | {"epochs": 4, "precision": "auto"}
    options = {"space": space, "num_samples": 2, "scheduler": "none", "output": output}
    code, _, told = job("tune", *data, *as_flags(fixed | options))
    found = [(trial.status, trial.epochs, trial.reason) for trial in SweepLog(output).trials]
    assert (code, found) == (0, [("done", 4, "")] * 2), told
    assert trained_on(output) == (DEVICE, "bf16")


def test_more_workers_than_gpus_are_refused_in_a_line(data, tmp_path):
    workers = torch.cuda.device_count() + 1
    flags = ["--num-workers", workers, "--cpus-per-worker", 1, *flags_of(TINY)]
    code, _, told = job("train", *data, "--output", tmp_path / "run", *flags)
    assert code == 2, told
    assert "Traceback" not in told
    line = told.splitlines()[-1]
    assert line.startswith(f"lstmfcn: no room for {workers} workers of 1 CPU and a GPU")
    assert line.endswith("or add --no-use-gpu")
    assert not (tmp_path / "run").exists()


def test_memory_that_the_gpu_lacks_is_a_lack_of_resources():
    with pytest.raises(ResourceError) as refusal, refusing_memory_errors():
        torch.empty(1 << 44, device=DEVICE)
    told = str(refusal.value)
    assert told.startswith("out of memory in a worker (CUDA out of memory. Tried to allocate"), told
    assert told.endswith("lower --batch-size or the sizes of the network")
    assert "\n" not in told
