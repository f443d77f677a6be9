import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import lstmfcn
import lstmfcn.convert
from lstmfcn.cli import app, main
from lstmfcn.hyperparameters import Hyperparameters, flag

TRAIN = ["train", "--train", "nowhere", "--output", "nowhere"]


def run(arguments, **environment):
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "lstmfcn", *arguments],
        cwd=Path(lstmfcn.__file__).parents[1],
        env=os.environ | {"NO_COLOR": "1"} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def refusal(capsys, arguments):
    """The one line on stderr of a command that ends with exit code 2."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"lstmfcn: [^\n]+\n", captured.err)
    return captured.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nope"], '"nope"'),
        (["sample", "--output", "nowhere", "--nope", "1"], "--nope"),
        ([*TRAIN, "--hidden-sizes", "3"], "--hidden-sizes"),
        (["sample"], "--output"),
        (["train", "--train", "nowhere"], "--output"),
        (["train", "--output", "nowhere"], "--train"),
        (["convert", "--output", "nowhere"], "--input"),
        (["evaluate", "--model", "nowhere"], "--data"),
        (["predict", "--model", "nowhere", "--output", "nowhere"], "--input"),
        ([*TRAIN, "--lr", "-1"], "lr: found '-1'; it must be greater than 0"),
        ([*TRAIN, "--lr", "nan"], "lr: found 'nan'"),
        ([*TRAIN, "--dropout", "1"], "dropout: found '1'; it must be less than 1"),
        ([*TRAIN, "--batch-size", "1.5"], "batch-size: found '1.5'"),
        ([*TRAIN, "--task", "foo"], "task: found 'foo'; it must be 'binary', 'multiclass' or"),
        ([*TRAIN, "--lr", "0", "--epochs", "0"], "; epochs: found '0'"),
        ([*TRAIN, "--num-workers", "0"], "--num-workers"),
        ([*TRAIN, "--cpus-per-worker", "0"], "--cpus-per-worker"),
        (["sample", "--output", "nowhere", "--rows", "0"], "--rows"),
        (["sample", "--output", "nowhere", "--rows", "many"], "--rows"),
        (["convert", "--input", "nowhere.ts", "--output", "nowhere", "--shards", "0"], "--shards"),
    ],
)
def test_a_wrong_command_line_is_refused_in_one_line(
    capsys, tmp_path, monkeypatch, arguments, named
):
    monkeypatch.chdir(tmp_path)
    assert named in refusal(capsys, arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["missing.tsv", "missing.ts", "missing.csv"])
def test_a_missing_archive_file_is_refused(capsys, tmp_path, name):
    output = tmp_path / "output"
    path = tmp_path / name
    line = refusal(capsys, ["convert", "--input", str(path), "--output", str(output)])
    assert line.startswith(f"lstmfcn: {path}: found ")
    assert not output.exists()


@pytest.mark.parametrize("command", ["train", "tune"])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--calibrate", "--metric=train_loss"], "calibrate: is fitted on validation rows, "),
        (["--fit-thresholds", "--validation=v"], "fit-thresholds: the task is multiclass; "),
    ],
)
def test_what_cannot_be_fitted_is_refused_before_data_is_looked_for(
    capsys, tmp_path, monkeypatch, command, given, message
):
    monkeypatch.chdir(tmp_path)
    given = [word for word in given if command == "tune" or not word.startswith("--metric")]
    line = refusal(capsys, [command, *TRAIN[1:], *given])
    assert line.startswith(f"lstmfcn: {message}")
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_is_the_exit_code_of_the_process(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    ended = run(["sample", "--output", str(tmp_path)])
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(r"lstmfcn: [^\n]+\n", ended.stderr)


def test_sample_writes_shards_and_says_so(capsys, tmp_path):
    output = tmp_path / "new" / "folder"
    assert main(["sample", "--output", str(output), "--rows", "10", "--shards", "3"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == (f"10 rows in 3 shards: {output}\n", "")
    tables = [pd.read_csv(path) for path in sorted(output.iterdir())]
    assert [len(table) for table in tables] == [4, 3, 3]
    assert list(tables[0].columns) == ["y", *(f"x_{i}" for i in range(1, 129))]
    assert set(pd.concat(tables)["y"]) == {"cylinder", "bell", "funnel"}


def test_sample_depends_on_the_seed_alone(capsys, tmp_path):
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        output = str(tmp_path / name)
        assert (
            main(["sample", "--output", output, "--rows", "3", "--shards=1", "--seed", seed]) == 0
        )
    a, b, c = (path.read_bytes() for path in sorted(tmp_path.glob("*/part-000.csv")))
    assert a == b
    assert a != c
    assert capsys.readouterr().err == ""


def test_sample_refuses_a_folder_that_holds_something(capsys, tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    line = refusal(capsys, ["sample", "--output", str(tmp_path)])
    assert line.startswith(f"lstmfcn: {tmp_path}: holds something already")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_sample_fills_an_empty_folder(tmp_path):
    output = tmp_path / "empty"
    output.mkdir()
    assert main(["sample", "--output", str(output), "--rows", "3", "--shards", "1"]) == 0
    assert [path.name for path in output.iterdir()] == ["part-000.csv"]


def test_convert_writes_shards_and_says_so(capsys, tmp_path):
    source, output = tmp_path / "Toy_TRAIN.tsv", tmp_path / "toy"
    source.write_text("1\t0.5\t2\n2\t3\t4\n1\t5\t6\n")
    arguments = ["convert", "--input", str(source), "--output", str(output), "--shards", "2"]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == (f"3 rows in 2 shards: {output}\n", "")
    assert {path.name: path.read_text() for path in output.iterdir()} == {
        "part-000.csv": "y,x_1,x_2\n1,0.5,2\n2,3,4\n",
        "part-001.csv": "y,x_1,x_2\n1,5,6\n",
    }


def test_help_lists_every_hyperparameter_once():
    ended = run(["train", "--help"], COLUMNS="120")
    assert (ended.returncode, ended.stderr) == (0, "")
    _, flags = ended.stdout.split("\n", 1)  # below the usage
    listed = re.findall(r"--([a-z0-9_-]+)", flags.partition("Examples:")[0])
    hyperparameters = [flag(field) for field in Hyperparameters.model_fields]
    own = {"train", "output", "validation", "model", "resume", "memory-gb", "checkpoint-every-s"}
    own |= {"num-workers", "min-workers", "cpus-per-worker", "use-gpu", "no-use-gpu"}
    own |= {"quiet", "json", "verbose"}
    assert sorted(listed) == sorted([*hyperparameters, *own])


@pytest.mark.parametrize("arguments", [[], ["--help"], ["sample", "--help"], ["--version"]])
def test_asking_for_help_is_no_error(capsys, arguments):
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    expected = lstmfcn.__version__ if arguments == ["--version"] else "Usage: "
    assert expected in captured.out


@pytest.mark.parametrize("given", ["--hidden-size", "--hidden_size"])
def test_both_spellings_of_a_flag_are_taken(given):
    command, bound, _ = app.parse_args(
        [*TRAIN, given, "7", "--task", "binary"], exit_on_error=False, print_error=False
    )
    assert command is lstmfcn.cli.train
    parsed = bound.arguments["hyperparameters"]
    assert parsed == Hyperparameters(hidden_size=7, task="binary")
    assert parsed.model_fields_set == {"hidden_size", "task"}


def test_every_hyperparameter_is_taken_as_a_flag():
    other = Hyperparameters(
        **{
            name: field.default + 1 if isinstance(field.default, int) else field.default / 2 or 0.5
            for name, field in Hyperparameters.model_fields.items()
            if not isinstance(field.default, (str, bool))
        },
        recipe="paper",
        network="alstm-fcn",
        batch_size=32,
        missing="mask",
        task="multilabel",
        scaling="timestep",
        class_weight="balanced",
        schedule="cosine",
        precision="bf16",
        calibrate=True,
        fit_thresholds=True,
    )
    unchanged = Hyperparameters().flags().items() & other.flags().items()
    assert unchanged == set()
    flags = [f"--{name}={value}" for name, value in other.flags().items()]
    _, bound, _ = app.parse_args([*TRAIN, *flags], exit_on_error=False, print_error=False)
    assert bound.arguments["hyperparameters"] == other


def test_a_bug_keeps_its_traceback(capsys, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(lstmfcn.convert, "convert", fail)
    with pytest.raises(RuntimeError, match="a bug") as error:
        main(["convert", "--input", "a.ts", "--output", str(tmp_path / "output")])
    assert error.traceback[-1].name == "fail"
    assert capsys.readouterr().err == ""
