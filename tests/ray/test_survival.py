"""Trainings that are killed, starved and cut off, for real, and what is left of them."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading

import pytest

from lstmfcn.distributed.requests import Resources
from lstmfcn.distributed.train import train
from lstmfcn.errors import DataError, HyperparameterError, OutputError, ResourceError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.model.artifact import Artifact
from lstmfcn.training.checkpoints import find_newest, find_newest_position
from lstmfcn.training.metrics_log import read_metrics
from tests.helpers.checkout import REPOSITORY
from tests.helpers.killing import epochs_in, kill_train_worker, train_workers, wait_until
from tests.helpers.problems import TINY, as_flags, waves, write
from tests.helpers.runs import small_disk

pytestmark = pytest.mark.usefixtures("cluster")

LONG = TINY.model_copy(update={"epochs": 8, "batch_size": 8})
"""Epochs of about half a second on `long_data`."""

CPU_FLAGS = ["--cpus-per-worker", "1"]
LONG_FLAGS = as_flags(LONG.model_dump())

ONE_CPU = Resources(cpus_per_worker=1)
"""Two threads on a net so small would only wait for each other."""
OFTEN = {"resources": ONE_CPU, "checkpoint_every_s": 0}


@pytest.fixture(scope="module")
def long_data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("long") / "data", waves(2400), 2)


@pytest.fixture(scope="module")
def whole(cluster, long_data, tmp_path_factory):  # noqa: ARG001 - the cluster runs it
    """A run that nothing interrupts."""
    output = tmp_path_factory.mktemp("whole") / "run"
    train(str(long_data), str(output), hyperparameters=LONG, resources=ONE_CPU)
    return output


@pytest.fixture
def start_job(cluster):
    """Start ``jobs/train.py`` and return the process."""
    started = []

    def start(*flags):
        # a shell's background jobs ignore Ctrl-C, and so would what the tests start in one
        command = ["env", "--default-signal=INT", sys.executable, REPOSITORY / "jobs" / "train.py"]
        command += [*CPU_FLAGS, *map(str, flags)]
        process = subprocess.Popen(
            command,
            env=os.environ | {"RAY_ADDRESS": cluster},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def assert_as_if_never_interrupted(output, whole):
    """Same weights, bit for bit, and every epoch once, with the same losses."""
    found, expected = Artifact.load(output / "model"), Artifact.load(whole / "model")
    for name, tensor in expected.weights.items():
        assert tensor.equal(found.weights[name]), name
    measured = ("epoch", "train_loss", "train_accuracy", "rows")
    assert [[m[k] for k in measured] for m in read_metrics(output / "metrics.jsonl")] == [
        [m[k] for k in measured] for m in read_metrics(whole / "metrics.jsonl")
    ]
    (_, content), (_, expected_content) = (
        find_newest(run / "checkpoints") for run in (output, whole)
    )
    assert len(content) == len(expected_content)
    assert {path.name for path in output.iterdir()} == {path.name for path in whole.iterdir()}


def test_a_killed_worker_is_replaced_and_the_result_is_the_same(tmp_path, long_data, whole, caplog):
    """Killed early, late, and while it writes a checkpoint."""
    output = tmp_path / "run"
    unfinished = []

    def kill():
        wait_until(lambda: epochs_in(output) >= 1, "epoch 1")
        kill_train_worker()
        wait_until(lambda: epochs_in(output) >= 4, "epoch 4")
        kill_train_worker()
        done = epochs_in(output)  # the next worker must train: what this one left may look the same
        wait_until(lambda: epochs_in(output) > done, "the next worker")
        wait_until(lambda: any((output / "checkpoints").glob(".epoch-*")), "a checkpoint", 60, 0)
        kill_train_worker()
        unfinished.extend((output / "checkpoints").glob(".epoch-*"))

    killer = threading.Thread(target=kill)
    killer.start()
    with caplog.at_level("INFO"):
        train(
            str(long_data),
            str(output),
            hyperparameters=LONG,
            resources=ONE_CPU,
            checkpoint_every_s=0,
        )
    killer.join()
    told = [line for line in caplog.messages if line.startswith("lost a worker (")]
    assert len(told) == 3
    assert all("starting again from epoch " in line for line in told)
    assert_as_if_never_interrupted(output, whole)


def test_a_run_whose_driver_was_killed_can_be_resumed_and_ends_the_same(
    tmp_path, long_data, whole, start_job, job
):
    output = tmp_path / "run"
    flags = ["--train", long_data, "--output", output, "--checkpoint-every-s", "0"]
    driver = start_job(*flags, *LONG_FLAGS)
    wait_until(lambda: epochs_in(output) >= 2, "epoch 2")
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    wait_until(lambda: not train_workers(), "the end of the workers")

    again = job("train", "--train", long_data, "--output", output)
    assert again.returncode == 2
    assert again.stderr.strip() == (
        f"lstmfcn: {output}: found metrics.jsonl of an earlier run; "
        "add --resume to continue it, --overwrite to replace it, or name another --output"
    )
    with pytest.raises(HyperparameterError, match=r"lr: found 0.5, the run to resume has 0.01;"):
        train(None, str(output), hyperparameters=Hyperparameters(lr=0.5), resume=True)
    with pytest.raises(
        DataError, match=r"found training rows that differ from those of the run to resume"
    ):
        train(str(write(tmp_path / "other", waves(2400, 1))), str(output), resume=True)

    stopped = start_job("--output", output, "--resume", "--checkpoint-every-s", "1000")
    wait_until(lambda: epochs_in(output) >= 5, "epoch 5")
    stopped.send_signal(signal.SIGTERM)
    printed = stopped.communicate(timeout=30)[0].splitlines()
    assert stopped.returncode == 130
    assert f"{output}: resuming after epoch " in printed[0]
    assert printed[-1].startswith("lstmfcn: stopped after epoch ")
    job_file = REPOSITORY / "jobs" / "train.py"
    again = f"python {job_file} {' '.join(CPU_FLAGS)} --output {output} --checkpoint-every-s 1000"
    assert printed[-1].endswith(f"; resume with: {again} --resume")
    position, _ = find_newest(output / "checkpoints")
    assert position.epoch >= 5

    done = job("train", *CPU_FLAGS, "--output", output, "--resume")
    assert done.returncode == 0, done.stderr
    assert f"{output}: resuming after {position} of 8 epochs" in done.stderr
    assert_as_if_never_interrupted(output, whole)
    nothing = job("train", *CPU_FLAGS, "--output", output, "--resume")
    assert nothing.returncode == 0
    assert f"{output}: all 8 epochs are already done" in nothing.stderr


def test_two_drivers_do_not_train_in_one_folder(tmp_path, long_data, start_job):
    output = tmp_path / "run"
    driver = start_job("--train", long_data, "--output", output, *LONG_FLAGS)
    wait_until(lambda: epochs_in(output) >= 1, "epoch 1")
    with pytest.raises(OutputError, match="another training is running there; wait until it ends"):
        train(None, str(output), resume=True)
    driver.send_signal(signal.SIGINT)
    printed = driver.communicate(timeout=30)[0]
    assert driver.returncode == 130
    assert "lstmfcn: stopped after epoch " in printed.splitlines()[-1]
    assert not list(output.glob(".*"))


def test_a_torn_checkpoint_falls_back_to_the_one_before(tmp_path, long_data, whole, caplog, capsys):
    output = tmp_path / "run"
    first = LONG.model_copy(update={"epochs": 4})
    train(
        str(long_data), str(output), hyperparameters=first, resources=ONE_CPU, checkpoint_every_s=0
    )
    newest = max((output / "checkpoints").iterdir())
    (newest / "state.pt").write_bytes((newest / "state.pt").read_bytes()[:1000])
    caplog.clear()
    capsys.readouterr()
    with caplog.at_level("INFO"):
        train(None, str(output), hyperparameters=LONG, resources=ONE_CPU, resume=True)
    shown = re.findall(r"^epoch: ([0-9]+) .*rows/s, ([0-9]+) s left", capsys.readouterr().out, re.M)
    assert [int(epoch) for epoch, _ in shown] == [4, 5, 6, 7, 8]
    (began,) = re.findall(r"the first training step began (.*) s after the command", caplog.text)
    assert float(began) > 0  # the epoch 4 that was lost is not shown in place of the new one
    torn = f"{newest}: is damaged (its checksum differs); falling back to the one before it"
    assert caplog.messages[0] == torn
    assert "resuming after epoch 3 and 288 steps of 8 epochs" in caplog.messages[1]
    assert_as_if_never_interrupted(output, whole)


def test_workers_that_die_at_once_are_not_started_for_ever(tmp_path, long_data):
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
            train(str(long_data), str(tmp_path / "run"), hyperparameters=LONG, resources=ONE_CPU)
    finally:
        finished.set()
        killer.join()
    assert "lost a worker 3 times without progress" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert len(killed) == 3


def test_memory_that_cannot_be_had_is_told_in_a_line(tmp_path, long_data):
    greedy = LONG.model_copy(update={"hidden_size": 10_000_000})
    with pytest.raises(ResourceError, match=r"out of memory in a worker .*; lower --batch-size"):
        train(str(long_data), str(tmp_path / "run"), hyperparameters=greedy, resources=ONE_CPU)
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_full_disk_ends_in_one_line_and_the_run_can_go_on_with_more_room(
    tmp_path, long_data, whole, job
):
    disk, output = tmp_path / "disk", tmp_path / "disk" / "run"
    disk.mkdir()
    with small_disk(disk, "60k") as resize:
        flags = [
            *CPU_FLAGS,
            "--train",
            long_data,
            "--output",
            output,
            "--checkpoint-every-s",
            "0.5",
        ]
        full = job("train", *flags, *LONG_FLAGS)
        assert full.returncode == 2
        last = full.stderr.splitlines()[-1]
        assert last.startswith(f"lstmfcn: {output}/checkpoints/epoch-")
        assert last.endswith("cannot be written (No space left on device)")
        assert "Traceback" not in full.stderr
        assert not (output / "model").exists()
        assert not list(output.rglob(".*"))
        resize("10m")
        done = job("train", *flags, "--resume")
        assert done.returncode == 0, done.stderr
        assert_as_if_never_interrupted(output, whole)


@pytest.mark.parametrize("memory_gb", [None, 0])
def test_a_shard_that_breaks_off_half_way_leaves_nothing_behind(tmp_path, memory_gb):
    data = write(tmp_path / "data", waves(3000), 3)
    shard = data / "part-001.csv.gz"
    subprocess.run(["gzip", data / "part-001.csv"], check=True)
    shard.write_bytes(shard.read_bytes()[:20_000])
    with pytest.raises(DataError, match=r"part-001.csv.gz: found a file that cannot be read"):
        train(
            str(data),
            str(tmp_path / "run"),
            hyperparameters=TINY,
            resources=Resources(memory_gb=memory_gb),
        )
    assert not (tmp_path / "run").exists()


def test_streamed_training_counts_every_row_and_does_not_depend_on_shards(tmp_path, caplog):
    weights = []
    for n_shards in (1, 5):
        data = write(tmp_path / f"data{n_shards}", waves(500), n_shards)
        output = tmp_path / f"run{n_shards}"
        with caplog.at_level("INFO"):
            train(
                str(data),
                str(output),
                validation=str(data),
                hyperparameters=TINY,
                resources=Resources(memory_gb=1e-5),
            )
        history = read_metrics(output / "metrics.jsonl")
        assert [m["rows"] for m in history] == [500, 500]
        weights.append(Artifact.load(output / "model").weights)
        assert not list(output.glob(".*"))
    packed = f"more than the limit of 10 kB: streamed from {output}/.rows, shuffled in windows"
    assert packed in caplog.text
    assert all(tensor.equal(weights[1][name]) for name, tensor in weights[0].items())


@pytest.mark.parametrize("memory_gb", [None, 1e-5])
def test_an_epoch_that_goes_on_with_another_number_of_workers_counts_every_row(tmp_path, memory_gb):
    data, output = write(tmp_path / "data", waves(603), 2), tmp_path / "run"
    short = TINY.model_copy(update={"batch_size": 16, "epochs": 1})
    two, three = (Resources(workers, cpus_per_worker=1, memory_gb=memory_gb) for workers in (2, 3))
    train(str(data), str(output), hyperparameters=short, resources=two, checkpoint_every_s=0)
    shutil.rmtree(max((output / "checkpoints").iterdir()))
    assert find_newest_position(output / "checkpoints") == (0, 32)
    train(
        None,
        str(output),
        hyperparameters=Hyperparameters(epochs=2),
        resources=three,
        resume=True,
    )
    assert [m["rows"] for m in read_metrics(output / "metrics.jsonl")] == [603, 603]
    assert Artifact.load(output / "model").training["num_workers"] == 3
