"""Ctrl-C in a real terminal where workers train: what is told, what stays, and when it ends."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from lstmfcn.training.checkpoints import find_newest_position
from lstmfcn.tuning.sweep import SweepLog
from tests.helpers.killing import epochs_in, train_workers, wait_until
from tests.helpers.problems import TINY, as_flags, waves, write
from tests.helpers.terminals import last_line, terminals

LONG_FLAGS = ["--cpus-per-worker", "1", *as_flags(TINY.model_dump() | {"epochs": 3000})]


@pytest.fixture
def in_terminal(cluster):
    """Start a command in a terminal, against the shared Ray."""
    with terminals(cluster) as start:
        yield start


@pytest.fixture
def alone():
    """Start a command in a terminal, where no Ray is."""
    with terminals() as start:
        yield start


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("stopping") / "data", waves(300), 3)


def test_ctrl_c_on_a_busy_machine_loses_no_epoch(in_terminal, data, tmp_path):
    """A worker that does not come to it for some seconds still writes its checkpoint."""
    output = tmp_path / "run"
    terminal = in_terminal("train", "--train", data, "--output", output, *LONG_FLAGS)
    wait_until(lambda: epochs_in(output) >= 2, "epoch 2", 300)
    (worker,) = train_workers()
    os.kill(worker, signal.SIGSTOP)
    done = epochs_in(output)
    terminal.interrupt()
    terminal.shows("stopping after a checkpoint")
    time.sleep(5)
    os.kill(worker, signal.SIGCONT)
    assert terminal.exit_code() == 130
    assert "did not stop" not in terminal.shown
    assert find_newest_position(output / "checkpoints").epoch >= done
    assert "will be trained again" not in terminal.shown


def test_a_second_ctrl_c_ends_a_training_at_once_and_it_can_go_on(
    in_terminal, alone, data, tmp_path
):
    output = tmp_path / "run"
    terminal = in_terminal(
        "train",
        "--train",
        data,
        "--output",
        output,
        "--checkpoint-every-s",
        0,
        *LONG_FLAGS,
    )
    wait_until(lambda: epochs_in(output) >= 2, "epoch 2", 300)
    (worker,) = train_workers()
    os.kill(worker, signal.SIGSTOP)  # or it might write its checkpoint before the second Ctrl-C
    terminal.interrupt()
    terminal.shows("stopping after a checkpoint")
    terminal.interrupt()
    began = time.monotonic()
    assert terminal.exit_code() == 130
    assert time.monotonic() - began < 10
    assert last_line(terminal.shown) == "lstmfcn: stopped at once"
    with suppress(ProcessLookupError):
        os.kill(worker, signal.SIGCONT)
    wait_until(lambda: not train_workers(), "the end of the workers")
    resumed = alone("train", "--output", output, "--resume")
    resumed.shows("resuming after epoch ")
    resumed.interrupt()
    assert resumed.exit_code() == 130


@pytest.mark.parametrize("after_s", [0.5, 1.5])
def test_ctrl_c_while_workers_start_is_told_as_later(in_terminal, data, tmp_path, after_s):
    """What starts them must not outlive the Ray that it talks to: Ray then ends the process."""
    output = tmp_path / "run"
    terminal = in_terminal("train", "--train", data, "--output", output, *LONG_FLAGS)
    terminal.shows("starting 1 worker")
    time.sleep(after_s)
    terminal.interrupt()
    assert terminal.exit_code() == 130
    assert "Traceback" not in terminal.shown
    assert last_line(terminal.shown).startswith("lstmfcn: stopped after epoch 0")


def test_tune_tells_how_to_go_on_and_what_ended_stays(in_terminal, data, tmp_path):
    output = tmp_path / "sweep"
    fixed = TINY.model_dump(exclude={"lr"}) | {"epochs": 3}
    terminal = in_terminal(
        "tune", "--train", data, "--output", output, "--metric", "train_loss",
        "--num-samples", "500", "--max-concurrent", "1", "--space", "paper", *as_flags(fixed),
    )  # fmt: skip
    wait_until(lambda: Path(output / "trials.csv").exists(), "a trial", 300)
    terminal.interrupt()
    assert terminal.exit_code() == 130
    assert "Traceback" not in terminal.shown
    told, again = last_line(terminal.shown).split("; resume with: ")
    ended = len(SweepLog(output).trials)
    assert told == f"lstmfcn: stopped after {ended} of 500 trials"
    assert again == f"python -m lstmfcn tune --output {output} --max-concurrent 1 --resume"
