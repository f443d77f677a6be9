"""The plots' process: what it draws, what it tells of its end, and that it ends with its sweep."""

import os
import signal
import time
from pathlib import Path

import pytest
from matplotlib.image import imread

from lstmfcn.tuning.plots import IMPORTANCE, OBJECTIVE, SLICES
from lstmfcn.tuning.plotter import sweep_plotter
from lstmfcn.tuning.search_space import Choice
from lstmfcn.tuning.sweep import SearchConfig, SweepConfig, SweepLog, TrialResult

pytestmark = pytest.mark.slow


def children():
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


def swept(tmp_path):
    """A folder that holds a sweep of four trials."""
    SweepConfig.create(SearchConfig(space="published"), set()).save(tmp_path)
    space = SweepConfig.load(tmp_path).search_space()
    log = SweepLog(tmp_path)
    log.start()
    sampled = {
        name: values.values[0] if isinstance(values, Choice) else values.low
        for name, values in space.values.items()
    }
    for number in range(1, 5):
        log.add(TrialResult(number, sampled, "done", objective=number / 10))


def test_what_it_is_asked_for_is_there_when_the_block_has_ended(tmp_path):
    swept(tmp_path)
    with sweep_plotter() as draw:
        draw(tmp_path)
    assert {OBJECTIVE, SLICES, IMPORTANCE} <= {path.name for path in tmp_path.glob("*.png")}
    assert imread(tmp_path / OBJECTIVE).std() > 0.01


def test_its_failure_is_told_and_its_traceback_stands_on_stderr(tmp_path, capfd):
    with pytest.raises(RuntimeError, match="plots ended with exit code 1"), sweep_plotter() as draw:
        draw(tmp_path / "no sweep")
    assert "AssertionError" in capfd.readouterr().err


def test_a_plot_that_cannot_be_written_is_told_and_the_others_are_there(tmp_path, capfd):
    swept(tmp_path)
    (tmp_path / SLICES / "something").mkdir(parents=True)
    with pytest.raises(RuntimeError, match="plots ended with exit code 1"), sweep_plotter() as draw:
        draw(tmp_path)
    assert f"{SLICES}: cannot be written" in capfd.readouterr().err
    assert {OBJECTIVE, IMPORTANCE} <= {path.name for path in tmp_path.glob("*.png")}


def test_a_process_that_was_killed_is_told(tmp_path):
    def sweep():
        before = children()
        with sweep_plotter() as draw:
            (process,) = children() - before
            os.kill(process, signal.SIGKILL)
            time.sleep(0.2)
            draw(tmp_path)

    with pytest.raises(RuntimeError, match="process that draws the plots ended with exit code -9"):
        sweep()


def test_it_ends_with_a_sweep_that_fails():
    started = []

    def sweep():
        before = children()
        with sweep_plotter():
            started.extend(children() - before)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        sweep()
    (process,) = started
    assert not Path(f"/proc/{process}").exists()
