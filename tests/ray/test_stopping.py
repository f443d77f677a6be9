"""Ctrl-C in a real terminal: what is told, what stays, and that the told command goes on."""

import os
import pty
import re
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from lstmfcn.inference.manifest import MANIFEST_FILE
from lstmfcn.model.artifact import Artifact
from lstmfcn.training.checkpoints import find_newest_position
from lstmfcn.training.run_directory import RunConfig
from lstmfcn.tuning.sweep import SweepLog
from tests.helpers.checkout import REPOSITORY
from tests.helpers.killing import epochs_in, train_workers, wait_until
from tests.helpers.problems import TINY, as_flags, waves, write

CTRL_C = b"\x03"
LONG_FLAGS = ["--cpus-per-worker", "1", *as_flags(TINY.model_dump() | {"epochs": 3000})]


class Terminal:
    """A command in a terminal of its own, as `python -m lstmfcn`."""

    def __init__(self, cluster, *arguments):
        words = [sys.executable, "-m", "lstmfcn", *map(str, arguments)]
        self._process, self._terminal = pty.fork()
        if self._process == 0:
            os.chdir(REPOSITORY)
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a background job's children ignore it
            os.execve(sys.executable, words, os.environ | {"RAY_ADDRESS": cluster, "TERM": "xterm"})
        self.shown = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        while True:
            try:
                part = os.read(self._terminal, 65536)
            except OSError:  # Linux says so at the end
                return
            if not part:
                return
            self.shown += part.decode(errors="replace")

    def shows(self, text):
        wait_until(lambda: text in self.shown, f"{text} in {self.shown}", 120)

    def interrupt(self):
        os.write(self._terminal, CTRL_C)

    def exit_code(self):
        def ended():
            pid, status = os.waitpid(self._process, os.WNOHANG)
            return (status,) if pid else None

        (status,) = wait_until(ended, "the end of the command", 60)
        self._reader.join()
        os.close(self._terminal)
        self._process = None
        return os.waitstatus_to_exitcode(status)

    def kill(self):
        if self._process:
            os.kill(self._process, signal.SIGKILL)
            os.waitpid(self._process, 0)


@pytest.fixture
def in_terminal(cluster):
    """Start a command in a terminal, against the shared Ray."""
    started = []

    def start(*arguments):
        started.append(Terminal(cluster, *arguments))
        return started[-1]

    yield start
    for terminal in started:
        terminal.kill()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("stopping") / "data", waves(300), 3)


def last_line(shown):
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown).strip().splitlines()[-1].strip()


def test_train_goes_on_by_the_command_that_ctrl_c_tells(in_terminal, data, tmp_path, run_command):
    output = tmp_path / "run"
    terminal = in_terminal("train", "--train", data, "--output", output, *LONG_FLAGS)
    wait_until(lambda: epochs_in(output) >= 2, "epoch 2", 300)
    terminal.interrupt()
    assert terminal.exit_code() == 130
    assert "Traceback" not in terminal.shown
    assert "stopping after a checkpoint (Ctrl-C again stops at once)" in terminal.shown
    told, again = last_line(terminal.shown).split("; resume with: ")
    assert told.startswith("lstmfcn: stopped after epoch ")
    assert again == f"python -m lstmfcn train --output {output} --cpus-per-worker 1 --resume"

    resumed = in_terminal(*again.split()[3:])
    resumed.shows("resuming after epoch ")
    before = epochs_in(output)
    wait_until(lambda: epochs_in(output) > before, "one epoch more", 120)
    resumed.interrupt()
    assert resumed.exit_code() == 130
    done = epochs_in(output)
    record = RunConfig.load(output)
    shorter = record.hyperparameters.model_copy(update={"epochs": done})
    record.model_copy(update={"hyperparameters": shorter}).save(output)
    last = run_command(sys.executable, *again.split()[1:])
    assert last.returncode == 0, last.stderr
    assert Artifact.load(output / "model").metrics["epoch"] <= done


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


def test_a_second_ctrl_c_ends_a_training_at_once_and_it_can_go_on(in_terminal, data, tmp_path):
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
    resumed = in_terminal("train", "--output", output, "--resume")
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


def test_predict_says_that_finished_files_stay(in_terminal, data, tmp_path, job):
    model = tmp_path / "run" / "model"
    trained = job("train", "--train", data, "--output", model.parent, *as_flags(TINY.model_dump()))
    assert trained.returncode == 0, trained.stderr
    shards = write(tmp_path / "shards", waves(2000), 200)
    output = tmp_path / "predictions"
    words = ["predict", "--model", model, "--input", shards, "--output", output]
    terminal = in_terminal(*words)
    done = output / MANIFEST_FILE
    wait_until(lambda: done.exists() and done.read_text().count("\n") > 2, "files", 300)
    terminal.interrupt()
    assert terminal.exit_code() == 130
    assert "Traceback" not in terminal.shown
    told, again = last_line(terminal.shown).split("; resume with: ")
    finished = int(told.split()[3])
    assert told == f"lstmfcn: stopped after {finished} of 200 files; finished files stay"
    assert again == f"python -m lstmfcn {' '.join(map(str, words))}"
    assert 0 < finished <= len(list(output.glob("part-*.csv")))
