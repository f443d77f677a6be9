"""Trainings that are ended, starved and cut off, for real, and what is left of them."""

import os
import re
import signal
import subprocess

import pytest

from lstmfcn.distributed.train import train
from lstmfcn.errors import DataError, HyperparameterError, OutputError, ResourceError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.training.checkpoints import find_newest
from tests.helpers.killing import epochs_in, wait_until
from tests.helpers.problems import TINY, flags_of, waves, write
from tests.helpers.runs import (
    LONG,
    ONE_CPU,
    assert_as_if_never_interrupted,
    small_disk,
    write_long_data,
)

LONG_FLAGS = flags_of(LONG)

CPU_FLAGS = ["--cpus-per-worker", "1"]


@pytest.fixture(scope="module")
def long_data(tmp_path_factory):
    return write_long_data(tmp_path_factory.mktemp("long"))


@pytest.fixture(scope="module")
def whole(long_data, tmp_path_factory):
    """A run that nothing interrupts."""
    output = tmp_path_factory.mktemp("whole") / "run"
    train(long_data, output, hyperparameters=LONG, resources=ONE_CPU)
    return output


def stopped_by(process, number):
    """The last line on stderr of a training that a signal stops."""
    process.send_signal(number)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in told
    return told.splitlines()[-1]


def test_one_training_at_a_time_in_a_folder_and_after_ctrl_c_the_next_goes_on(
    tmp_path, long_data, whole, start
):
    output = tmp_path / "run"
    first = start("--train", long_data, "--output", output, *LONG_FLAGS)
    wait_until(lambda: epochs_in(output) >= 1, "epoch 1")
    with pytest.raises(OutputError, match="another training is running there; wait until it ends"):
        train(None, output, resume=True)
    told = stopped_by(first, signal.SIGINT)
    assert told.startswith("lstmfcn: stopped after epoch ")
    assert told.endswith(" --resume")
    assert not (output / "model").exists()
    assert not list(output.glob(".*"))
    train(None, output, resources=ONE_CPU, resume=True)
    assert_as_if_never_interrupted(output, whole)


def test_a_run_that_was_killed_and_stopped_can_be_resumed_and_ends_the_same(
    tmp_path, long_data, whole, start, job
):
    output = tmp_path / "run"
    often = ["--checkpoint-every-s", "0"]
    killed = start("--train", long_data, "--output", output, *often, *LONG_FLAGS)
    wait_until(lambda: epochs_in(output) >= 2, "epoch 2")
    killed.kill()
    _, told = killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert "Traceback" not in told
    assert not (output / "model").exists()

    again = job("train", "--train", long_data, "--output", output)
    assert again.returncode == 2
    assert again.stderr.strip() == (
        f"lstmfcn: {output}: found metrics.jsonl of an earlier run; "
        "add --resume to continue it, --overwrite to replace it, or name another --output"
    )
    with pytest.raises(HyperparameterError, match=r"lr: found 0.5, the run to resume has 0.01;"):
        train(None, output, hyperparameters=Hyperparameters(lr=0.5), resume=True)
    with pytest.raises(
        DataError, match=r"found training rows that differ from those of the run to resume"
    ):
        train(write(tmp_path / "other", waves(1600, 1)), output, resume=True)

    resumed = start("--output", output, "--resume", "--checkpoint-every-s", "1000")
    wait_until(lambda: epochs_in(output) >= 4, "epoch 4")
    told = stopped_by(resumed, signal.SIGTERM)
    assert told.startswith("lstmfcn: stopped after epoch ")
    command = f"python -m lstmfcn train --output {output} --checkpoint-every-s 1000"
    assert told.endswith(f"; resume with: {command} {' '.join(CPU_FLAGS)} --resume")
    position = find_newest(output / "checkpoints").position
    assert position.epoch >= 4

    done = job("train", *CPU_FLAGS, "--output", output, "--resume")
    assert done.returncode == 0, done.stderr
    assert f"{output}: resuming after {position} of 6 epochs" in done.stderr
    assert_as_if_never_interrupted(output, whole)
    nothing = job("train", *CPU_FLAGS, "--output", output, "--resume")
    assert nothing.returncode == 0
    assert f"{output}: all 6 epochs are already done" in nothing.stderr


def test_a_torn_checkpoint_falls_back_to_the_one_before(tmp_path, long_data, whole, caplog, capsys):
    output = tmp_path / "run"
    first = LONG.model_copy(update={"epochs": 3})
    train(long_data, output, hyperparameters=first, resources=ONE_CPU, checkpoint_every_s=0)
    newest = max((output / "checkpoints").iterdir())
    (newest / "state.pt").write_bytes((newest / "state.pt").read_bytes()[:1000])
    caplog.clear()
    capsys.readouterr()
    with caplog.at_level("INFO"):
        train(None, output, hyperparameters=LONG, resources=ONE_CPU, resume=True)
    shown = re.findall(r"^epoch: ([0-9]+) .*rows/s, ([0-9]+) s left", capsys.readouterr().out, re.M)
    assert [int(epoch) for epoch, _ in shown] == [3, 4, 5, 6]
    assert "the first training step began" not in caplog.text  # it began in the earlier command
    torn = f"{newest}: is damaged (its checksum differs); falling back to the one before it"
    assert caplog.messages[0] == torn
    assert "resuming after epoch 2 and 192 steps of 6 epochs" in caplog.messages[1]
    assert_as_if_never_interrupted(output, whole)


def test_memory_that_is_not_there_is_told_in_a_line(long_data, tmp_path):
    greedy = LONG.model_copy(update={"hidden_size": 10_000_000})
    with pytest.raises(ResourceError, match=r"out of memory in a worker .*; lower --batch-size"):
        train(long_data, tmp_path / "run", hyperparameters=greedy, resources=ONE_CPU)
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_full_disk_ends_in_one_line_and_the_run_can_go_on_with_more_room(
    tmp_path, long_data, whole, refused, job
):
    disk, output = tmp_path / "disk", tmp_path / "disk" / "run"
    disk.mkdir()
    flags = [*CPU_FLAGS, "--train", long_data, "--output", output, "--checkpoint-every-s", "0"]
    with small_disk(disk, "60k") as resize:
        told = refused("train", *flags, *LONG_FLAGS)
        assert told.startswith(f"lstmfcn: {output}/checkpoints/epoch-")
        assert told.endswith("cannot be written (No space left on device)")
        assert not (output / "model").exists()
        assert not list(output.rglob(".*"))
        resize("10m")
        done = job("train", *flags, "--resume")
        assert done.returncode == 0, done.stderr
        assert_as_if_never_interrupted(output, whole)


def test_a_shard_that_is_faulty_or_breaks_off_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    """The thread that trains ends by itself: cut off, it could keep a lock for ever."""
    monkeypatch.setattr("lstmfcn.signals.BackgroundTask.abandon", None)

    def refusal(data):
        with pytest.raises(DataError) as refused:
            train(data, tmp_path / "run", hyperparameters=TINY)
        assert not (tmp_path / "run").exists()
        return str(refused.value)

    faulty = write(tmp_path / "faulty", waves(300), 3)
    shard = faulty / "part-002.csv"
    shard.write_text(shard.read_text().rstrip() + ",7\n")
    assert f"{shard}, row 100" in refusal(faulty)

    torn = write(tmp_path / "torn", waves(3000), 3)
    shard = torn / "part-001.csv.gz"
    subprocess.run(["gzip", torn / "part-001.csv"], check=True)
    shard.write_bytes(shard.read_bytes()[:20_000])
    assert "part-001.csv.gz: found a file that cannot be read" in refusal(torn)
