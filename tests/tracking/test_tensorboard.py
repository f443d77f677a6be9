"""What is written is read back by TensorBoard's own reader."""

import os

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from lstmfcn.tracking.base import TrackerUnavailableError
from lstmfcn.tracking.tensorboard import TensorBoard, read_points
from tests.helpers.runs import small_disk
from tests.helpers.tracked_runs import epochs, tracked


def read(folder):
    """Epoch and value of every point, by tag."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {
        tag: [(point.step, pytest.approx(point.value, rel=1e-6)) for point in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def steps(folder, tag="train_loss"):
    return [step for step, _ in read(folder)[tag]]


def test_every_metric_has_a_point_an_epoch(tmp_path):
    history = epochs(3)
    TensorBoard(tmp_path).write(tracked(), history, None)
    found = read(tmp_path / "tensorboard")
    assert found.keys() == history[0].keys() - {"epoch", "time", "rows"}
    for tag, points in found.items():
        assert points == [(metrics["epoch"], metrics[tag]) for metrics in history]
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [point.wall_time for point in events.Scalars("lr")] == [m["time"] for m in history]


def test_hyperparameters_stand_in_tensorboards_table_with_the_kept_epochs_metrics(tmp_path):
    history = epochs(3)
    run = tracked(state="done")
    TensorBoard(tmp_path).write(run, history, history[1])
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    told = {
        tag: HParamsPluginData.FromString(content)
        for tag, content in events.PluginTagToContent("hparams").items()
    }
    values = told["_hparams_/session_start_info"].session_start_info.hparams
    assert values["lr"].number_value == 0.01
    assert values["task"].string_value == "multiclass"
    assert values["calibrate"].bool_value is False
    assert values.keys() == run.hyperparameters.keys()
    experiment = told["_hparams_/experiment"].experiment
    assert {metric.name.tag for metric in experiment.metric_infos} == {
        "kept/train_loss",
        "kept/valid_accuracy",
    }
    assert told["_hparams_/session_end_info"].HasField("session_end_info")
    assert read(tmp_path / "tensorboard")["kept/valid_accuracy"] == [(2, 0.2)]


@pytest.mark.parametrize("cut", [0, 1, 30])
def test_a_run_that_goes_on_has_no_epoch_twice_and_none_missing(tmp_path, cut):
    """The first process is killed, and may be so while it writes; the epochs it lost are anew."""
    first = TensorBoard(tmp_path)
    for n in (1, 2, 4):
        first.write(tracked(), epochs(n), None)
    (file,) = (tmp_path / "tensorboard").iterdir()
    content = file.read_bytes()
    file.write_bytes(content[: len(content) - cut])
    second = TensorBoard(tmp_path)
    for n in (2, 3, 4, 6):
        second.write(tracked(), epochs(n), None)
    second.write(tracked(state="done"), epochs(6), epochs(6)[4])
    found = read(tmp_path / "tensorboard")
    assert [sorted(step for step, _ in found[tag]) for tag in ("train_loss", "seconds")] == [
        [1, 2, 3, 4, 5, 6]
    ] * 2
    assert found["kept/train_loss"] == [(5, 0.2)]


def test_a_run_that_is_complete_is_left_alone(tmp_path):
    for _ in range(3):
        TensorBoard(tmp_path).write(tracked(state="done"), epochs(2), epochs(2)[0])
        assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_more_epochs_come_after_those_that_are_there(tmp_path):
    TensorBoard(tmp_path).write(tracked(state="done"), epochs(2), epochs(2)[1])
    TensorBoard(tmp_path).write(tracked(state="done"), epochs(4), epochs(4)[3])
    assert steps(tmp_path / "tensorboard") == [1, 2, 3, 4]
    assert steps(tmp_path / "tensorboard", "kept/train_loss") == [2, 4]


def test_each_trial_and_member_is_a_run_of_its_own(tmp_path):
    board = TensorBoard(tmp_path)
    board.write(tracked(), [], None)
    board.write(tracked("trials/0001"), epochs(2), None)
    board.write(tracked("trials/0002", state="failed"), [], None)
    board.write(tracked("trials/0003", state="stopped early"), epochs(1), epochs(1)[0])
    folders = {path.parent for path in tmp_path.rglob("*tfevents*")}
    assert folders == {tmp_path / "tensorboard" / "trials" / name for name in ("0001", "0003")}
    assert steps(tmp_path / "tensorboard" / "trials" / "0001") == [1, 2]


def test_files_of_others_do_not_count(tmp_path):
    TensorBoard(tmp_path / "other").write(tracked(), epochs(2), None)
    (file,) = (tmp_path / "other" / "tensorboard").iterdir()
    (tmp_path / "tensorboard").mkdir()
    file.rename(tmp_path / "tensorboard" / "events.out.tfevents.1.theirs")
    TensorBoard(tmp_path).write(tracked(), epochs(2), None)
    ours = [path for path in (tmp_path / "tensorboard").iterdir() if path.suffix == ".lstmfcn"]
    assert ("train_loss", 2) in set(read_points(ours[0]))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_full_disk_is_an_outage_after_which_nothing_is_twice(tmp_path):
    with small_disk(tmp_path, "32k") as resize:
        board = TensorBoard(tmp_path)
        board.write(tracked(), epochs(2), None)
        with pytest.raises(
            TrackerUnavailableError, match=r"tensorboard: cannot be written \(No space left"
        ):
            board.write(tracked(), epochs(400), None)
        resize("1m")
        board.write(tracked(), epochs(402), None)
        assert sorted(steps(tmp_path / "tensorboard")) == list(range(1, 403))
