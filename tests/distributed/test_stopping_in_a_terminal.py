"""Ctrl-C in a real terminal, where the command's own process trains and predicts.

What is told, what stays, and that the told command goes on.
"""

import pytest

from lstmfcn.inference.manifest import MANIFEST_FILE
from lstmfcn.model.artifact import Artifact
from lstmfcn.training.run_directory import RunConfig
from tests.helpers.killing import epochs_in, wait_until
from tests.helpers.problems import TINY, as_flags, waves, write
from tests.helpers.small_models import tiny_artifact
from tests.helpers.terminals import last_line, terminals

LONG_FLAGS = ["--cpus-per-worker", "1", *as_flags(TINY.model_dump() | {"epochs": 3000})]


@pytest.fixture
def in_terminal():
    """Start a command in a terminal, where no Ray is."""
    with terminals() as start:
        yield start


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("stopping") / "data", waves(300), 3)


def test_train_goes_on_by_the_command_that_ctrl_c_tells(in_terminal, data, tmp_path, job):
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
    last = job(*again.split()[3:])
    assert last.returncode == 0, last.stderr
    assert Artifact.load(output / "model").metrics["epoch"] <= done


def test_predict_says_that_finished_files_stay(in_terminal, tmp_path):
    model = tmp_path / "model"
    tiny_artifact().save(model)
    table = waves(2000).rename(columns={"x_12": "x_0"})  # the names that the model has
    shards = write(tmp_path / "shards", table, 200)
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
