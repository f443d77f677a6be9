import csv
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmfcn.errors import HyperparameterError, OutputError
from lstmfcn.tuning.progress import SweepProgress, format_trial
from lstmfcn.tuning.sweep import (
    EVENTS,
    TRIALS,
    Objective,
    SearchConfig,
    SweepLog,
    TrialResult,
    TrialStarted,
)

ACCURACY, LOSS = Objective("valid_accuracy"), Objective("valid_loss")


def trial(number, objective=0.5, status="done", **changes):
    metrics = {"epoch": 3, "valid_accuracy": objective, "train_loss": 0.25}
    return TrialResult(
        number,
        {"lr": 0.01, "batch_size": 32},
        status,
        **{"objective": objective, "metrics": metrics, "epochs": 5, "seconds": 1.5} | changes,
    )


def written(folder, *events):
    log = SweepLog(folder)
    log.start()
    for event in events:
        log.add(event)
    return log


def table(folder):
    with (folder / TRIALS).open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_was_written_is_read_again_in_order(tmp_path):
    events = [
        TrialStarted(1, {"lr": 0.01}),
        TrialStarted(2, {"lr": 0.02}),
        trial(2),
        trial(1, 0.75),
    ]
    written(tmp_path, *events)
    again = SweepLog(tmp_path)
    assert again.events == events
    assert [ended.number for ended in again.trials] == [1, 2]
    assert again.began == 2


@pytest.mark.parametrize("kept", range(1, 40, 7))
def test_a_last_line_that_was_cut_off_is_left_out_and_others_follow(tmp_path, kept):
    written(tmp_path, TrialStarted(1, {"lr": 0.01}), trial(1))
    path = tmp_path / EVENTS
    first, second, _ = path.read_text().split("\n")
    path.write_text(first + "\n" + second[:kept])
    log = SweepLog(tmp_path)
    assert log.events == [TrialStarted(1, {"lr": 0.01})]
    log.start()
    log.add(trial(1, 0.9))
    assert SweepLog(tmp_path).events[1:] == [trial(1, 0.9)]


def test_a_damaged_line_is_refused(tmp_path):
    written(tmp_path, TrialStarted(1, {}), trial(1))
    path = tmp_path / EVENTS
    path.write_text(path.read_text().replace('"began"', '"begun"'))
    with pytest.raises(OutputError, match=r"sweep.jsonl, line 1: is damaged"):
        SweepLog(tmp_path)


def test_the_table_has_a_row_a_trial(tmp_path):
    failed = TrialResult(
        2, {"lr": 0.5, "batch_size": 16}, "failed", reason="train_loss became nan, sic"
    )
    written(tmp_path, TrialStarted(1, {}), TrialStarted(2, {}), failed, trial(1)).flush()
    rows = table(tmp_path)
    assert [row["trial"] for row in rows] == ["1", "2"]
    assert rows[0]["valid_accuracy"] == rows[0]["objective"] == "0.5"
    assert (rows[0]["kept_epoch"], rows[0]["epochs"], rows[0]["seconds"]) == ("3", "5", "1.5")
    assert rows[1]["status"] == "failed"
    assert rows[1]["reason"] == "train_loss became nan, sic"
    assert (rows[1]["batch-size"], rows[1]["objective"]) == ("16", "")


def test_the_table_of_a_sweep_that_was_killed_is_whole_when_it_goes_on(tmp_path):
    log = written(tmp_path, TrialStarted(1, {}), trial(1))
    log.flush()
    log.add(trial(2))  # and killed
    assert len(table(tmp_path)) == 1
    SweepLog(tmp_path).start()
    assert len(table(tmp_path)) == 2


def test_there_is_no_table_before_a_trial_has_ended(tmp_path):
    written(tmp_path, TrialStarted(1, {"lr": 0.01})).flush()
    assert not (tmp_path / TRIALS).exists()


def test_a_record_that_cannot_be_made_durable_is_told_in_a_line(tmp_path):
    log = written(tmp_path, TrialStarted(1, {"lr": 0.01}))
    (tmp_path / EVENTS).unlink()
    with pytest.raises(OutputError, match=r"sweep.jsonl: cannot be written \(No such file"):
        log.flush()


def test_a_table_that_is_whole_is_not_written_again(tmp_path):
    log = written(tmp_path, TrialStarted(1, {}), trial(1))
    log.flush()
    (tmp_path / TRIALS).unlink()
    log.flush()
    assert not (tmp_path / TRIALS).exists()


@given(st.lists(st.floats(0, 1), min_size=1))
def test_the_best_has_the_best_objective_and_is_the_first_of_equals(values):
    trials = [trial(number, value) for number, value in enumerate(values, 1)]
    assert ACCURACY.best(reversed(trials)).number == values.index(max(values)) + 1
    assert LOSS.best(reversed(trials)).number == values.index(min(values)) + 1


def test_a_trial_that_failed_is_never_the_best():
    assert ACCURACY.best([trial(1, 0.9, "failed"), trial(2, 0.5, "stopped early")]).number == 2
    assert ACCURACY.best([trial(1, None, "failed", metrics={})]) is None


def test_unknown_metrics_are_refused():
    Objective("train_loss").refuse_unknown(False, "multiclass")
    for metric in ("valid_loss", "valid_macro_f1"):
        with pytest.raises(HyperparameterError, match=rf"^metric {metric}: needs --validation$"):
            Objective(metric).refuse_unknown(False, None)
    with pytest.raises(HyperparameterError, match=r"^metric: found 'f1'; write one of train_loss,"):
        Objective("f1").refuse_unknown(True, None)


@pytest.mark.parametrize(
    ("metric", "tasks"),
    [
        ("valid_macro_f1", ("multiclass", "binary", "multilabel")),
        ("valid_balanced_accuracy", ("multiclass", "binary")),
        ("train_exact_match", ("multilabel",)),
    ],
)
def test_a_metric_is_offered_where_the_task_has_it(metric, tasks):
    assert Objective(metric).mode == "max"
    for task in ("multiclass", "binary", "multilabel"):
        if task in tasks:
            Objective(metric).refuse_unknown(True, task)
        else:
            with pytest.raises(HyperparameterError, match=rf"^metric: found '{metric}'; write one"):
                Objective(metric).refuse_unknown(True, task)


@pytest.mark.parametrize("metric", ["macro_f1", "balanced_accuracy"])
def test_scores_by_class_are_those_of_the_validation_rows(metric):
    assert SearchConfig(metric=metric).metric == f"valid_{metric}"


def test_progress_tells_how_the_sweep_stands(capsys):
    times = iter([60.0, 60.0, 60.0])  # of which 50 s were the start of the first processes
    progress = SweepProgress(5, ACCURACY, [trial(1, 0.4)], clock=lambda: next(times))
    assert progress.describe() == "1 of 5 ended, 0 running, best 0.4 by trial 1"
    for _ in range(2):
        progress._running += 1
    progress.ended(trial(2, 0.8, "stopped early", seconds=10))
    assert capsys.readouterr().out == (
        "trial 2 stopped early: valid_accuracy 0.8, epoch 3 of 5, 10.0 s (lr 0.01, batch-size 32) "
        "best so far [2 of 5 ended (1 stopped early), 1 running, best 0.8 by trial 2, 30 s left]\n"
    )


def test_a_failed_trial_tells_its_reason():
    failed = TrialResult(7, {"lr": 0.123456789}, "failed", reason="train_loss became nan")
    assert format_trial(failed, ACCURACY) == "trial 7 failed: train_loss became nan (lr 0.1235)"


@pytest.mark.parametrize(
    "line",
    [
        "[" * 100_000,
        "1" * 5000,
        "[]",
        "{}",
        '{"event": []}',
        '{"event": "began"}',
        '{"event": "began", "number": "one", "hyperparameters": {}}',
        '{"event": "began", "number": 1, "hyperparameters": ' + "[" * 500 + "]" * 500 + "}",
        '{"event": "ended", "number": 1, "hyperparameters": {}, "status": "lost"}',
        '{"event": "ended", "number": 1, "hyperparameters": {}, "status": "done", "epochs": "a"}',
    ],
)
def test_a_strange_line_is_told_with_its_number(tmp_path, line):
    (tmp_path / EVENTS).write_text(f"{line}\n")
    with pytest.raises(OutputError, match=r"sweep.jsonl, line 1: is damaged \(") as refusal:
        SweepLog(tmp_path)
    assert len(str(refusal.value)) < 1000


def test_what_is_no_text_file_is_told_in_a_line(tmp_path):
    os.mkfifo(tmp_path / EVENTS)
    with pytest.raises(OutputError, match="it is not a regular file"):
        SweepLog(tmp_path)
    (tmp_path / EVENTS).unlink()
    (tmp_path / EVENTS).write_bytes(b"\xff\xfe")
    with pytest.raises(OutputError, match="it is not text"):
        SweepLog(tmp_path)
