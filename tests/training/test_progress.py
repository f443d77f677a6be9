import re

import pytest

from lstmfcn.training.progress import Progress, format_epoch, summary_lines

EPOCH = {
    "epoch": 1,
    "train_loss": 1.080764293,
    "train_accuracy": 0.5,
    "valid_loss": 0.25,
    "valid_accuracy": 2 / 3,
    "rows_per_second": 1234.6,
    "seconds": 2.0,
}


def shown(capsys, history, epochs):
    """What stdout and stderr get of a run whose last epoch is kept."""
    with Progress(epochs) as progress:
        for metrics in history:
            progress.show(metrics)
    print(*summary_lines(history[-1]), sep="\n")
    return capsys.readouterr()


def training_only(metrics):
    return {name: value for name, value in metrics.items() if not name.startswith("valid")}


def test_an_epoch_is_written_in_the_reference_form():
    assert format_epoch(EPOCH) == (
        "epoch: 1 train_loss: 1.08076429 train_accuracy: 0.50000000 "
        "valid_loss: 0.25000000 valid_accuracy: 0.66666667"
    )


def test_an_epoch_without_validation_names_training_alone():
    assert (
        format_epoch(training_only(EPOCH))
        == "epoch: 1 train_loss: 1.08076429 train_accuracy: 0.50000000"
    )


@pytest.mark.parametrize("loss", [1e-12, 0.0, 12345678.9])
def test_no_loss_is_written_with_an_exponent(loss):
    (number,) = re.findall(r"train_loss: (\S+)", format_epoch(EPOCH | {"train_loss": loss}))
    assert re.fullmatch(r"[0-9]+\.[0-9]{8}", number)
    assert float(number) == pytest.approx(loss, abs=1e-8)


@pytest.mark.parametrize(
    ("regex", "numbers"),
    [
        (r"epoch: (\d+)", [1, 2, 3]),
        (r"train_loss: ([0-9.]+)", [0.5, 1.0, 1.5]),
        (r"train_accuracy: ([0-9.]+)", [0.1, 0.2, 0.3]),
        (r"valid_loss: ([0-9.]+)", [0.25, 0.5, 0.75]),
        (r"valid_accuracy: ([0-9.]+)", [0.2, 0.4, 0.6]),
        (r"train:loss ([0-9.]+)", [1.5]),
        (r"train:acc ([0-9.]+)", [0.3]),
        (r"valid:loss ([0-9.]+)", [0.75]),
        (r"valid:acc ([0-9.]+)", [0.6]),
    ],
)
def test_the_reference_regexes_find_their_numbers(capsys, regex, numbers):
    history = [
        EPOCH
        | {
            "epoch": i,
            "train_loss": i / 2,
            "train_accuracy": i / 10,
            "valid_loss": i / 4,
            "valid_accuracy": i / 5,
        }
        for i in (1, 2, 3)
    ]
    output = shown(capsys, history, 3).out
    assert [float(number) for number in re.findall(regex, output)] == pytest.approx(numbers)


def test_without_validation_none_of_it_is_shown(capsys):
    output = shown(capsys, [training_only(EPOCH)], 1).out
    assert "valid" not in output
    assert re.findall(r"train:(\w+) ([0-9.]+)", output) == [
        ("loss", "1.08076429"),
        ("acc", "0.50000000"),
    ]


def test_each_line_tells_speed_and_time_left(capsys):
    history = [EPOCH, EPOCH | {"epoch": 2, "seconds": 4.0}]
    lines = shown(capsys, history, 4).out.splitlines()
    assert lines[0] == f"{format_epoch(history[0])} (1,235 rows/s, 6 s left)"
    assert lines[1] == f"{format_epoch(history[1])} (1,235 rows/s, 6 s left)"
    assert lines[2] == "best: epoch 2"
    assert len(lines) == 7


@pytest.mark.parametrize("variable", [None, "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"])
def test_stderr_stays_empty_where_it_is_no_terminal(capsys, monkeypatch, variable):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "1")
    captured = shown(capsys, [EPOCH], 2)
    assert captured.err == ""
    assert "\x1b" not in captured.out
    assert captured.out.startswith("epoch: 1 train_loss: 1.08076429 ")


def test_members_are_named_and_their_epochs_counted_together(capsys):
    with Progress(epochs=4, done=1, at_once=2) as progress:
        progress.show(EPOCH | {"epoch": 2}, member=0)
        progress.show(EPOCH, member=1)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("member: 0 epoch: 2 train_loss: ")
    assert first.endswith("(1,235 rows/s, 2 s left)")
    assert second.startswith("member: 1 epoch: 1 train_loss: ")
    assert second.endswith("(1,235 rows/s, 1 s left)")
