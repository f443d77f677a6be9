"""The thread that follows the metrics files, with trackers that only remember."""

import logging
import threading

import pytest

from lstmfcn.distributed.tune import tracked_trials
from lstmfcn.errors import RunInterruptedError, TrainingError
from lstmfcn.tracking import follow as module
from lstmfcn.tracking.base import TrackerUnavailableError, find_missing_points
from lstmfcn.tracking.follow import tracked_members, tracking
from lstmfcn.tuning.sweep import TrialResult, TrialStarted
from tests.helpers.tracked_runs import HYPERPARAMETERS, tracked, write_metrics


class Memory:
    """Writes what is missing, as trackers do, unless it is out."""

    name, where = "tensorboard", "memory"

    def __init__(self):
        self.points, self.states, self.out = {}, {}, False
        self.calls, self.written = 0, threading.Condition()

    def write(self, run, history, kept):
        self.calls += 1
        if self.out:
            raise TrackerUnavailableError("memory: is away")
        points = self.points.setdefault(run.name, [])
        known = {(point.tag, point.epoch) for point in points}
        points += find_missing_points(history, kept, known)
        self.states[run.name] = run.state
        with self.written:
            self.written.notify_all()

    def epochs(self, name=""):
        return [point.epoch for point in self.points[name] if point.tag == "train_loss"]

    def wait_for(self, condition):
        with self.written:
            assert self.written.wait_for(condition, timeout=30)


@pytest.fixture
def memory(monkeypatch):
    found = Memory()
    monkeypatch.setattr(module, "_make_tracker", lambda *_: found)
    monkeypatch.setattr(module, "_POLL_INTERVAL_S", 0.01)
    monkeypatch.setattr(module, "_FIRST_PAUSE_S", 0.01)
    return found


def following(folder, runs=None, resumed=False):
    return tracking(["tensorboard"], folder, runs or (lambda: [tracked()]), resumed=resumed)


def test_epochs_are_passed_on_while_they_come_and_how_it_ended(memory, tmp_path):
    with following(tmp_path):
        write_metrics(tmp_path, 2)
        memory.wait_for(lambda: "" in memory.points and memory.epochs() == [1, 2])
        write_metrics(tmp_path, 1)  # a worker was lost: it goes on from a checkpoint
        write_metrics(tmp_path, 4)
        memory.wait_for(lambda: memory.epochs() == [1, 2, 3, 4])
        assert memory.states[""] == "running"
        write_metrics(tmp_path, 5)
    assert memory.epochs() == [1, 2, 3, 4, 5]
    assert memory.states[""] == "done"


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (RunInterruptedError("stopped", resumable=True), "stopped"),
        (KeyboardInterrupt(), "stopped"),
        (TrainingError("nan"), "failed"),
        (ZeroDivisionError(), "failed"),
    ],
)
def test_a_training_that_breaks_off_is_tracked_as_such(memory, tmp_path, error, state):
    write_metrics(tmp_path, 3)
    with pytest.raises(type(error)), following(tmp_path):
        raise error
    assert memory.epochs() == [1, 2, 3]
    assert memory.states[""] == state


def test_nothing_is_written_of_a_training_that_never_began(memory, tmp_path):
    with pytest.raises(TrainingError), following(tmp_path):
        raise TrainingError("the data is wrong")
    assert memory.calls == 0


def test_an_outage_is_told_once_and_all_is_sent_after_it(memory, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    memory.out = True
    with following(tmp_path):
        write_metrics(tmp_path, 2)
        while memory.calls < 3:
            pass
        write_metrics(tmp_path, 3)
        memory.out = False
    assert memory.epochs() == [1, 2, 3]
    assert [line for line in caplog.messages if "memory" in line] == [
        "tracked by tensorboard: memory",
        "memory: is away; training continues, and missing data is sent later",
        "memory answers again",
    ]


def test_what_could_not_be_sent_at_the_end_is_told_and_sent_by_resuming(memory, tmp_path, caplog):
    write_metrics(tmp_path, 2)
    memory.out = True
    with following(tmp_path):
        pass
    told = "tensorboard: tracking is incomplete; the same command with --resume sends the rest"
    assert caplog.messages[-1] == told
    memory.out = False
    with following(tmp_path, resumed=True):
        pass
    assert memory.epochs() == [1, 2]
    assert memory.states[""] == "done"


def test_a_tracker_that_hangs_does_not_hold_up_who_stops(memory, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(module, "_SECONDS_TO_STOP", 0.05)
    answer = threading.Event()
    memory.write = lambda *_: answer.wait(60)
    write_metrics(tmp_path, 1)
    with pytest.raises(RunInterruptedError), following(tmp_path):
        raise RunInterruptedError("stopped", resumable=True)
    assert "tracking is incomplete" in caplog.messages[-1]
    answer.set()


def test_trials_are_tracked_from_the_record_of_the_sweep(memory, tmp_path):
    events = [TrialStarted(1, {"lr": 0.1})]
    with following(tmp_path, lambda: tracked_trials(HYPERPARAMETERS, events)):
        write_metrics(tmp_path / "trials" / "0001", 2)
        memory.wait_for(lambda: "trials/0001" in memory.states)
        events.append(TrialStarted(2, {"lr": 0.2}))
        events.append(TrialResult(2, {"lr": 0.2}, "failed", reason="nan"))
        events.append(TrialResult(1, {"lr": 0.1}, "stopped early"))
        events.append(TrialStarted(3, {"lr": 0.3}))  # never wrote anything
    assert memory.states == {"": "done", "trials/0001": "stopped early", "trials/0002": "failed"}
    assert memory.epochs("trials/0001") == [1, 2]


def test_a_trial_has_the_hyperparameters_that_were_searched_for_it():
    whole, first, second = tracked_trials(
        HYPERPARAMETERS,
        [
            TrialStarted(1, {"batch_size": 7}),
            TrialStarted(2, {"lr": 0.5}),
            TrialResult(1, {"batch_size": 7}, "done"),
        ],
    )
    assert (whole.name, first.name, second.name) == ("", "trials/0001", "trials/0002")
    assert (first.hyperparameters["batch-size"], first.hyperparameters["lr"]) == (7, 0.01)
    assert second.hyperparameters["lr"] == 0.5
    assert (first.state, second.state) == ("done", "running")


def test_each_member_of_an_ensemble_is_tracked():
    assert [run.name for run in tracked_members(HYPERPARAMETERS)] == [""]
    runs = tracked_members(HYPERPARAMETERS.model_copy(update={"members": 2}))
    assert [run.name for run in runs] == ["", "members/00", "members/01"]
    assert [run.hyperparameters["seed"] for run in runs] == [
        HYPERPARAMETERS.seed + k for k in (0, 0, 1)
    ]


def test_without_trackers_there_is_no_thread(tmp_path):
    before = threading.active_count()
    with tracking([], tmp_path, lambda: [tracked()], resumed=False):
        assert threading.active_count() == before
