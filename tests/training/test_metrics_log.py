import json
import threading
import time

import pytest

from lstmfcn.errors import OutputError
from lstmfcn.training.metrics_log import (
    add_epochs,
    keep_epochs,
    mean_metrics,
    read_metrics,
    tail_metrics,
)

EPOCHS = [{"epoch": i, "train_loss": 1 / i, "seconds": 0.5} for i in range(1, 6)]


def test_written_epochs_are_read_back_in_order(tmp_path):
    path = tmp_path / "metrics.jsonl"
    add_epochs(path, EPOCHS[:2])
    add_epochs(path, EPOCHS[2:])
    assert read_metrics(path) == EPOCHS
    assert path.read_text().count("\n") == len(EPOCHS)


def test_each_line_is_in_the_file_at_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for i, metrics in enumerate(EPOCHS, start=1):
        add_epochs(path, [metrics])
        assert read_metrics(path) == EPOCHS[:i]


@pytest.mark.parametrize("epochs_done", [0, 2, 5])
def test_epochs_after_the_last_one_done_are_written_anew(tmp_path, epochs_done):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(m) + "\n" for m in EPOCHS) + '{"epoch": 6, "tra')
    keep_epochs(path, epochs_done)
    assert read_metrics(path) == EPOCHS[:epochs_done]
    add_epochs(path, [{"epoch": epochs_done + 1}])
    assert read_metrics(path) == [*EPOCHS[:epochs_done], {"epoch": epochs_done + 1}]


def test_an_epoch_that_is_trained_twice_is_shown_once(tmp_path):
    path, seen = tmp_path / "metrics.jsonl", []
    with tail_metrics(path, seen.append, epochs_shown=1):
        for done, upto in [(0, 3), (2, 5)]:
            keep_epochs(path, done)
            add_epochs(path, EPOCHS[done:upto])
            time.sleep(0.3)
    assert seen == EPOCHS[1:]


def test_a_full_disk_is_told_in_a_line(tmp_path):
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")  # which answers as a full disk does
    with pytest.raises(OutputError) as refusal:
        add_epochs(tmp_path / "metrics.jsonl", EPOCHS)
    assert str(refusal.value).endswith("metrics.jsonl: cannot be written (No space left on device)")


def test_a_number_that_json_lacks_is_refused(tmp_path):
    path = tmp_path / "metrics.jsonl"
    add_epochs(path, EPOCHS[:1])
    with pytest.raises(ValueError, match="JSON"):
        add_epochs(path, [EPOCHS[1], {"epoch": 3, "train_loss": float("nan")}])
    assert read_metrics(path) == EPOCHS[:1]


def test_followed_epochs_are_shown_once_and_in_order(tmp_path):
    path, seen = tmp_path / "metrics.jsonl", []
    with tail_metrics(path, seen.append):
        for metrics in EPOCHS:
            add_epochs(path, [metrics])
            time.sleep(0.06)
    assert seen == EPOCHS


def test_an_epoch_is_shown_while_the_block_still_runs(tmp_path):
    path, shown, seen = tmp_path / "metrics.jsonl", threading.Event(), []

    def show(metrics):
        seen.append(metrics)
        shown.set()

    with tail_metrics(path, show):
        add_epochs(path, EPOCHS[:1])
        assert shown.wait(10)
        assert seen == EPOCHS[:1]


def test_lines_that_come_in_halves_into_a_late_file_are_shown_whole(tmp_path):
    path, seen = tmp_path / "metrics.jsonl", []

    def write_halves():
        time.sleep(0.25)
        with path.open("a", encoding="utf-8") as file:
            for metrics in EPOCHS:
                line = json.dumps(metrics) + "\n"
                for half in (line[:9], line[9:]):
                    file.write(half)
                    file.flush()
                    time.sleep(0.13)

    writer = threading.Thread(target=write_halves)
    with tail_metrics(path, seen.append):
        writer.start()
        writer.join()
    assert seen == EPOCHS


def test_many_lines_at_the_very_end_are_all_shown(tmp_path):
    path, seen = tmp_path / "metrics.jsonl", []
    epochs = [{"epoch": i} for i in range(1, 5001)]
    with tail_metrics(path, seen.append):
        path.write_text("".join(json.dumps(metrics) + "\n" for metrics in epochs))
    assert seen == epochs


def test_a_file_that_never_appears_shows_nothing(tmp_path):
    seen = []
    with tail_metrics(tmp_path / "metrics.jsonl", seen.append):
        pass
    assert seen == []


def test_following_ends_when_its_block_fails(tmp_path):
    path, seen = tmp_path / "metrics.jsonl", []
    threads = set(threading.enumerate())

    def fail_after_one_epoch():
        with tail_metrics(path, seen.append):
            path.write_text(json.dumps(EPOCHS[0]) + "\n")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail_after_one_epoch()
    assert seen == EPOCHS[:1]
    assert set(threading.enumerate()) <= threads


def test_the_mean_over_members_is_taken_epoch_by_epoch():
    histories = [
        [{"epoch": 1, "train_loss": 1.0}, {"epoch": 2, "train_loss": 0.5}],
        [{"epoch": 1, "train_loss": 3.0}, {"epoch": 2, "train_loss": 1.5}],
    ]
    assert mean_metrics(histories) == [
        {"epoch": 1, "train_loss": 2.0},
        {"epoch": 2, "train_loss": 1.0},
    ]
    assert mean_metrics(histories[:1]) == histories[0]
