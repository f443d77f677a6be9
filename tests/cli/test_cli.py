import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

import lstmfcn
import lstmfcn.convert.run
import lstmfcn.distributed.train
import lstmfcn.distributed.tune
from lstmfcn.cli.app import PAGES
from lstmfcn.cli.main import app, main
from lstmfcn.cli.resume_command import resume_command
from lstmfcn.distributed.train import TrainingResult
from lstmfcn.distributed.tune import SweepResult
from lstmfcn.hyperparameters import Hyperparameters, to_flag
from lstmfcn.inference.predictor import Classifier
from lstmfcn.model.artifact import Artifact
from lstmfcn.tuning.sweep import Objective, TrialResult, write_table
from tests.helpers.small_models import tiny_artifact

TRAIN = ["train", "nowhere", "--output", "nowhere"]


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
        (["train", "nowhere"], "--output"),
        (["train", "--output", "nowhere"], "no training data"),
        (["train", "--output", "nowhere", "--validation", "v", "t"], "no training data"),
        (["convert", "--output", "nowhere"], "convert: found no data; it comes first, as in"),
        (["evaluate", "--model", "nowhere"], "evaluate: found no data; it comes first, as in"),
        (["evaluate", "data"], "--model"),
        (["predict", "--model", "nowhere", "--output", "nowhere"], "predict: found no data; it "),
        (["serve"], "serve: found no model; it comes first, as in lstmfcn serve runs/first"),
        (["export", "--output", "o"], "export: found no model; it comes first, as in"),
        ([*TRAIN, "--lr", "-1"], "lr: found '-1'; it must be greater than 0"),
        ([*TRAIN, "--lr", "nan"], "lr: found 'nan'"),
        ([*TRAIN, "--dropout", "1"], "dropout: found '1'; it must be less than 1"),
        ([*TRAIN, "--batch-size", "1.5"], "batch-size: found '1.5'"),
        ([*TRAIN, "--task", "foo"], "task: found 'foo'; it must be 'binary', 'multiclass' or"),
        ([*TRAIN, "--lr", "0", "--epochs", "0"], "; epochs: found '0'"),
        ([*TRAIN, "--num-workers", "0"], "--num-workers"),
        ([*TRAIN, "--cpus-per-worker", "0"], "--cpus-per-worker"),
        ([*TRAIN, "--track", "tensorflow"], "--track"),
        ([*TRAIN, "--track"], "--track"),
        (
            ["train", "a", "--train", "b", "--output", "o"],
            "train: found 'a', one argument too many",
        ),
        (["evaluate", "a", "--data=b", "--model=m"], "evaluate: found 'a', one argument too many"),
        (["export", "m", "more", "--output", "o"], "export: found 'more', one argument too many"),
        (["convert", "a", "b", "--output", "o"], "convert: found 'b', one argument too many"),
        (["train", "a", "--output", "o", "--resume", "--overwrite"], "exclude each other"),
        (["tune", "a", "--output", "o", "--resume", "--overwrite"], "exclude each other"),
        (["check", "--validation", "v", "data"], "check: found no data; it comes first, as in"),
        (["check", "data", "--epochs"], "Unknown option: --epochs"),
        (["check", "data", "--limit"], "--limit requires an argument"),
        (["check", "-"], "found -: data is read twice, a stream only once; write a file"),
        ([*TRAIN, "--validation", "-"], "found -: data is read twice"),
        (["sample", "--output", "nowhere", "--rows", "0"], "--rows"),
        (["sample", "--output", "nowhere", "--rows", "many"], "--rows"),
        (["convert", "nowhere.ts", "--output", "nowhere", "--shards", "0"], "--shards"),
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
    line = refusal(capsys, ["convert", str(path), "--output", str(output)])
    assert line.startswith(f"lstmfcn: {path}: found ")
    assert not output.exists()


@pytest.mark.parametrize("command", ["train", "tune"])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--calibrate", "--metric=train_loss"], "calibrate: needs validation rows; "),
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
    assert line.startswith(f"lstmfcn: {tmp_path}: is not empty")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_sample_fills_an_empty_folder(tmp_path):
    output = tmp_path / "empty"
    output.mkdir()
    assert main(["sample", "--output", str(output), "--rows", "3", "--shards", "1"]) == 0
    assert [path.name for path in output.iterdir()] == ["part-000.csv"]


def test_convert_writes_shards_and_says_so(capsys, tmp_path):
    source, output = tmp_path / "Toy_TRAIN.tsv", tmp_path / "toy"
    source.write_text("1\t0.5\t2\n2\t3\t4\n1\t5\t6\n")
    arguments = ["convert", str(source), "--output", str(output), "--shards", "2"]
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
    flags = re.sub(r"(?<=Needs )--missing", "", flags)
    listed = re.findall(r"--([a-z0-9_-]+)", flags.partition("Examples:")[0])
    hyperparameters = [to_flag(field) for field in Hyperparameters.model_fields]
    own = "output validation model resume overwrite memory-gb checkpoint-every-s track num-workers "
    own += "min-workers cpus-per-worker use-gpu no-use-gpu quiet json verbose"
    assert sorted(listed) == sorted([*hyperparameters, *own.split()])


COMMANDS = [command.__name__ for command in PAGES]


def help_page(monkeypatch, capsys, *arguments, columns=80):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main([*arguments, "--help"]) == 0
    return capsys.readouterr().out


def test_every_command_is_in_a_group_and_has_an_example_that_can_be_typed():
    assert set(COMMANDS) == {name for name in app if not name.startswith("-")}
    for command, page in PAGES.items():
        assert page.examples
        for example in page.examples:
            _, name, *flags = shlex.split(example.removeprefix("source <(").removesuffix(")"))
            parsed, _, _ = app.meta.parse_args([name, *flags], exit_on_error=False)
            assert parsed is not None
            assert app.parse_args([name, *flags], exit_on_error=False)[0] is command


@pytest.mark.parametrize("command", ["sample", "convert", "completion"])
def test_examples_of_what_needs_no_model_run(tmp_path, monkeypatch, capsys, command):
    (tmp_path / "Coffee_TRAIN.tsv").write_text("1\t0.5\t2\n2\t3\t4\n1\t5\t6\n")
    (tmp_path / "beats.csv").write_text("0.5,2,0\n3,4,1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (page,) = (page for function, page in PAGES.items() if function.__name__ == command)
    for example in page.examples:
        _, *words = shlex.split(example.removeprefix("source <(").removesuffix(")"))
        assert main(words) == 0
        assert capsys.readouterr().out


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("command", COMMANDS)
def test_help_pages_fit_the_terminal_and_cut_nothing(monkeypatch, capsys, command, columns):
    text = help_page(monkeypatch, capsys, command, columns=columns)
    assert max(map(len, text.splitlines())) <= columns
    assert "…" not in text
    assert not re.search(r"\[default: (None|False|\(\))", text)
    for example in next(p.examples for f, p in PAGES.items() if f.__name__ == command):
        assert f"  {example}\n" in text  # on one line, to be copied
    words = {word for line in text.splitlines() for word in line.strip("│╭╰╮╯─ ").split()}
    assert {"Data", "Output"} <= words or command in ("serve", "completion")


def test_the_first_page_has_groups_and_first_steps_that_can_be_typed(monkeypatch, capsys):
    text = help_page(monkeypatch, capsys)
    titles = re.findall(r"^╭─ (\w+)", text, re.MULTILINE)
    assert titles == ["Data", "Model", "Use", "Shell", "Help", "Printing"]
    first_steps = text.partition("First steps:\n")[2].partition("\n\n")[0].splitlines()
    assert len(first_steps) == 5
    for line in first_steps:
        app.parse_args(shlex.split(line)[1:], exit_on_error=False)


def test_hyperparameters_stand_in_their_groups(monkeypatch, capsys):
    text = help_page(monkeypatch, capsys, "train")
    panels = re.findall(r"^╭─ ([\w ]+?) ─.*?\n(.*?)^╰", text, re.MULTILINE | re.DOTALL)
    titles = [title for title, _ in panels]
    assert titles == [
        "Data", "Output", "Training", "Network", "After training", "Resources", "Printing",
    ]  # fmt: skip
    flags = {
        title: re.findall(r"^│[ *]+--([\w-]+)", panel, re.MULTILINE) for title, panel in panels
    }
    missing = ["missing", "missing-marker", "missing-labels"]
    columns = ["label-column", "value-columns"]
    assert flags["Data"] == ["validation", "task", *columns, "scaling", *missing]
    assert "dropout. [default: 0]" in " ".join(text.replace("│", " ").split())  # of --seed
    assert flags["After training"] == ["calibrate", "fit-thresholds"]


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
    assert command is lstmfcn.cli.main.train
    parsed = bound.arguments["hyperparameters"]
    assert parsed == Hyperparameters(hidden_size=7, task="binary")
    assert parsed.model_fields_set == {"hidden_size", "task"}


def test_the_command_that_resumes_has_no_password(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["lstmfcn"])
    words = ["predict", "s3://me:open-sesame@b/x?region=y", "--output", "s3://b/out"]
    assert resume_command(words) == "lstmfcn predict 's3://b/x?region=y' --output s3://b/out"


@pytest.mark.parametrize(
    "given", ["--track tensorboard mlflow", "--track tensorboard --track mlflow"]
)
@pytest.mark.parametrize("command", ["train", "tune"])
def test_several_trackers_are_taken(command, given):
    _, bound, _ = app.parse_args([command, "--output", "nowhere", *given.split()])
    assert bound.arguments["track"] == ["tensorboard", "mlflow"]


@pytest.mark.parametrize("given", ["first", "last", "by one flag", "by a flag each"])
@pytest.mark.parametrize(
    ("command", "needed", "flags"),
    [
        ("train", "--output o", ["--train", "--data", "--validation"]),
        ("tune", "--output o", ["--train", "--data", "--validation"]),
        ("evaluate", "--model m", ["--data"]),
        ("report", "--model m --output o", ["--data"]),
        ("predict", "--model m --output o", ["--input", "--data"]),
        ("check", "", ["--data", "--validation"]),
        ("serve", "--port 1", ["--model"]),
    ],
)
def test_several_data_arguments_are_taken_in_their_order(command, needed, flags, given):
    """First, after no flag; and by the flags that data has had, which are still taken."""
    places = ["b/1.csv", "s3://bucket/a", "'c/*.csv'"]
    for flag in flags if given.startswith("by") else [""]:
        words, name = [*needed.split()], flag.removeprefix("--")
        if given == "first":
            words = [*places, *words]
        elif given == "last":
            words += places
        elif given == "by one flag":
            words += [flag, *places]
        else:
            words += [word for place in places for word in (flag, place)]
        if flag == "--validation":
            words = ["data", *words]
        name = name if name == "validation" else "model" if command == "serve" else "data"
        _, bound, _ = app.parse_args([command, *words], exit_on_error=False, print_error=False)
        assert bound.arguments[name] == places


@pytest.mark.parametrize(
    ("command", "flag"), [("convert", "--input"), ("convert", "--data"), ("export", "--model")]
)
def test_one_argument_is_taken_first_and_by_its_flag(command, flag):
    for words in (["place"], [flag, "place"]):
        command_line = [command, *words, "--output", "o"]
        _, bound, _ = app.parse_args(command_line, exit_on_error=False, print_error=False)
        assert bound.arguments[flag.removeprefix("--").replace("input", "data")] == "place"


def test_check_of_several_arguments_reads_them_all_and_writes_them_by_their_paths(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for seed, folder in enumerate("ab"):
        assert (
            main(["sample", "--output", folder, "--rows=30", "--shards=1", f"--seed={seed}"]) == 0
        )
    capsys.readouterr()
    assert main(["check", "a", "b/part-000.csv", "--fix", "--output", "clean", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["training"]["data"], found["training"]["n_rows"]) == ("a, b/part-000.csv", 60)
    written = {str(path.relative_to("clean/train")) for path in Path("clean/train").rglob("*.csv")}
    assert written == {"a/part-000.csv", "b/part-000.csv"}
    line = refusal_of_output(capsys, ["check", "a", "b", "--fix", "--output", "b/clean"])
    assert "is inside the data b; choose another --output" in line


def refusal_of_output(capsys, arguments):
    assert main(arguments) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_every_hyperparameter_is_taken_as_a_flag():
    other = Hyperparameters(
        **{
            name: field.default + 1 if isinstance(field.default, int) else field.default / 2 or 0.5
            for name, field in Hyperparameters.model_fields.items()
            if not isinstance(field.default, (str, bool))
        },
        recipe="paper",
        network="alstm-fcn",
        view="all",
        batch_size=32,
        missing="mask",
        missing_marker="?",
        missing_labels="name",
        label_column="is_*",
        value_columns="t*",
        task="multilabel",
        scaling="timestep",
        class_weight="balanced",
        schedule="cosine",
        precision="bf16",
        keep_by="macro_f1",
        calibrate=True,
        fit_thresholds=True,
    )
    unchanged = Hyperparameters().to_flags().items() & other.to_flags().items()
    assert unchanged == set()
    flags = [f"--{name}={value}" for name, value in other.to_flags().items()]
    _, bound, _ = app.parse_args([*TRAIN, *flags], exit_on_error=False, print_error=False)
    assert bound.arguments["hyperparameters"] == other


def test_a_bug_keeps_its_traceback(capsys, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr(lstmfcn.convert.run, "convert", fail)
    with pytest.raises(RuntimeError, match="a bug") as error:
        main(["convert", "a.ts", "--output", str(tmp_path / "output")])
    assert error.traceback[-1].name == "fail"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("where", ["before", "after"])
def test_json_and_quiet_hold_for_every_command_wherever_they_stand(tmp_path, where):
    output = tmp_path / "shards"
    words = ["sample", "--output", str(output), "--rows", "3", "--shards", "1"]
    flags = ["--json", "--quiet"]
    done = run([*flags, *words] if where == "before" else [*words, *flags])
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"output": str(output), "rows": 3, "shards": 1}


def test_quiet_still_says_what_is_wrong(tmp_path):
    done = run(["sample", "--output", str(tmp_path), "--rows", "0", "--quiet"])
    assert (done.returncode, done.stdout) == (2, "")
    assert "--rows" in done.stderr


RESUMED = "--output runs/a --num-workers 2 --use-gpu --resume"


@pytest.mark.parametrize(
    ("program", "typed", "again"),
    [
        ("lstmfcn", "train d --output runs/a --epochs 5", "train --output runs/a --resume"),
        ("lstmfcn", "train d e --output a --overwrite", "train --output a --resume"),
        ("lstmfcn", "train --train d --output runs/a", "train --output runs/a --resume"),
        ("lstmfcn", "train --output runs/a --resume --epochs 9", "train --output runs/a --resume"),
        (
            "lstmfcn",
            "train --train=d --output runs/a --num-workers 2 --hidden_size 3 --use-gpu --calibrate",
            f"train {RESUMED}",
        ),
        ("lstmfcn", "tune --train d --output s --space x.yaml --time-budget-s 9",
         "tune --output s --time-budget-s 9 --resume"),
        ("lstmfcn", "predict 'a b' --model m --output p", "predict 'a b' --model m --output p"),
        ("jobs/train.py", "train --train d --output runs/a", "--output runs/a --resume"),
        ("lstmfcn", "--json tune --train d --output s", "tune --json --output s --resume"),
        ("x/lstmfcn/__main__.py", "train --train d --output o", "train --output o --resume"),
    ],
)  # fmt: skip
def test_the_command_that_goes_on_has_what_the_run_does_not_remember(
    monkeypatch, program, typed, again
):
    monkeypatch.setattr(sys, "argv", [program])
    prefix = {"jobs/train.py": "python jobs/train.py", "lstmfcn": "lstmfcn"}
    assert (
        resume_command(shlex.split(typed)) == f"{prefix.get(program, 'python -m lstmfcn')} {again}"
    )


COMPLETE = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_lstmfcn
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def completion_script(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    done = run(["completion", "bash", "--install", "--json"], HOME=str(home))
    return Path(json.loads(done.stdout)["path"])


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        (["lstmfcn", "tr"], {"train"}),
        (["lstmfcn", ""], set(COMMANDS)),
        (["lstmfcn", "train", "--hid"], {"--hidden-size"}),
        (["lstmfcn", "train", "--qui"], {"--quiet"}),
        (["lstmfcn", "train", "--epochs", "3", "--network", "m"], {"mlstm-fcn", "malstm-fcn"}),
        (["lstmfcn", "tune", "--scheduler", ""], {"asha", "none"}),
        (["lstmfcn", "completion", ""], {"bash", "zsh", "fish"}),
        (["lstmfcn", "train", "--train", "dat"], {"data"}),
        (["lstmfcn", "train", "dat"], {"data"}),
        (["lstmfcn", "train", "data", "dat"], {"data"}),
        (["lstmfcn", "export", "dat"], {"data"}),
        (["lstmfcn", "serve", "dat"], {"data"}),
        (["lstmfcn", "predict", "--explain", "dat"], {"data"}),
    ],
)
def test_bash_completes_commands_flags_choices_and_paths(completion_script, tmp_path, typed, found):
    (tmp_path / "data").mkdir()
    done = subprocess.run(
        ["bash", "-c", COMPLETE, "bash", completion_script, *typed],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (set(done.stdout.split()), done.stderr) == (found, "")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_read_their_script(tmp_path, capsys, shell):
    assert main(["completion", shell]) == 0
    script = tmp_path / f"lstmfcn.{shell}"
    script.write_text(capsys.readouterr().out)
    assert "hidden-size" in script.read_text()
    if shutil.which(shell):
        subprocess.run([shell, "-n", script], check=True)


@pytest.mark.slow
def test_ctrl_c_is_told_in_a_line(tmp_path):
    words = ["sample", "--output", str(tmp_path / "data"), "--rows", "5000000", "--shards", "1"]
    with subprocess.Popen(
        [sys.executable, "-m", "lstmfcn", *words],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in background
    ) as process:
        time.sleep(3)  # of some ten that it takes
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert told.splitlines() == ["lstmfcn: stopped; run the same command to start again"]
    assert not list(tmp_path.rglob("*.csv"))


def test_export_overwrites_only_where_asked_to(tmp_path, capsys):
    tiny_artifact("names").save(tmp_path / "model")
    words = ["export", str(tmp_path / "model"), "--output", str(tmp_path / "m.onnx")]
    assert main(words) == 0
    written = (tmp_path / "m.onnx").read_bytes()
    (tmp_path / "m.onnx").write_text("mine")
    capsys.readouterr()
    told = f"lstmfcn: {tmp_path}/m.onnx: exists already; add --overwrite or choose another"
    assert refusal(capsys, words).startswith(told)
    assert (tmp_path / "m.onnx").read_text() == "mine"
    assert main([*words, "--overwrite"]) == 0
    assert (tmp_path / "m.onnx").read_bytes() == written


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        ("export", ["--output", "/proc/lstmfcn/m.onnx"]),
        ("report", ["--data", "d", "--output", "/proc/lstmfcn/out"]),
        ("evaluate", ["--data", "d", "--output", "/proc/lstmfcn/out"]),
    ],
)
def test_an_output_is_looked_at_before_model_and_data(capsys, command, flags):
    line = refusal_of_output(capsys, [command, "--model", "nowhere", *flags])
    assert line.startswith("lstmfcn: /proc/lstmfcn/")
    assert "cannot be written (" in line


def test_sample_and_convert_replace_shards_only_where_asked_to(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("Toy_TRAIN.tsv").write_text("1\t0.5\t2\n2\t3\t4\n1\t5\t6\n")
    for words in (["sample", "--rows", "5"], ["convert", "Toy_TRAIN.tsv"]):
        words += ["--output", "out"]
        assert main([*words, "--shards", "3", "--overwrite"]) == 0
        capsys.readouterr()
        line = refusal(capsys, words)
        assert "out: is not empty; add --overwrite, or choose another --output" in line
        assert len(list(Path("out").iterdir())) == 3
        assert main([*words, "--shards", "1", "--overwrite"]) == 0
        assert [path.name for path in Path("out").iterdir()] == ["part-000.csv"]
    Path("out/notes.txt").write_text("mine")
    capsys.readouterr()
    line = refusal_of_output(capsys, ["sample", "--output", "out", "--overwrite"])
    assert "out: contains notes.txt, which would be lost" in line
    assert Path("out/notes.txt").read_text() == "mine"
    Path("Toy_TRAIN.tsv").rename("out/Toy_TRAIN.tsv")
    line = refusal(capsys, ["convert", "out/Toy_TRAIN.tsv", "--output", "out", "--overwrite"])
    assert "out: contains the file to convert; choose another --output" in line


def test_check_replaces_only_what_it_wrote(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["sample", "--output", "data/train", "--rows", "30", "--shards", "2"]) == 0
    words = ["check", "data/train", "--fix", "--output", "clean"]
    assert main(words) == 0
    Path("data/train/part-001.csv").unlink()
    capsys.readouterr()
    assert "clean: is not empty" in refusal_of_output(capsys, words)
    assert len(list(Path("clean/train").iterdir())) == 2
    assert main([*words, "--overwrite"]) == 0
    assert [path.name for path in Path("clean/train").iterdir()] == ["part-000.csv"]
    assert sorted(path.name for path in Path().iterdir()) == ["clean", "data"]
    Path("clean/notes.txt").write_text("mine")
    line = refusal_of_output(capsys, [*words, "--overwrite"])
    assert "clean: contains notes.txt, which would be lost" in line
    line = refusal_of_output(capsys, [*words[:-1], "data", "--overwrite"])
    assert "data: contains the data data/train; choose another --output" in line
    Path("other/train").mkdir(parents=True)
    line = refusal_of_output(capsys, [*words[:-1], "other", "--overwrite"])
    assert "other: is not empty" in line


def test_evaluate_keeps_an_evaluation_that_is_there(tmp_path, capsys):
    (tmp_path / "evaluation.json").write_text("mine")
    words = ["evaluate", "--model", "nowhere", "--data", "nowhere", "--output", str(tmp_path)]
    assert "evaluation.json: exists already; add --overwrite" in refusal(capsys, words)
    assert "nowhere: found no readable model.json" in refusal(capsys, [*words, "--overwrite"])


WITH_OUTPUT = {
    "sample": [],
    "convert": ["archive.tsv"],
    "check": ["data", "--fix"],
    "train": ["data"],
    "tune": ["data", "--resume"],
    "evaluate": ["data", "--model", "model"],
    "report": ["data", "--model", "model"],
    "predict": ["data", "--model", "model"],
    "export": ["model"],
}
WITH_MODEL = {
    "train": ["data", "--output", "out"],
    "tune": ["data", "--validation", "data", "--output", "out"],
    "evaluate": ["data"],
    "report": ["data", "--output", "out"],
    "predict": ["data", "--output", "out"],
    "export": ["--output", "out.onnx"],
    "serve": [],
}


@pytest.mark.parametrize("uri", ["s3:/bucket/x", "file:///data/x", "hdfs:/x"])
@pytest.mark.parametrize(
    ("command", "arguments"),
    [(name, [*words, "--output"]) for name, words in WITH_OUTPUT.items()]
    + [(name, [*words, "--model"]) for name, words in WITH_MODEL.items()]
    + [("serve", ["out", "name={}"])],
)
def test_what_looks_like_a_uri_is_refused_before_anything_starts(
    tmp_path, monkeypatch, capsys, command, arguments, uri
):
    monkeypatch.chdir(tmp_path)
    last = [arguments[-1].format(uri)] if "{}" in arguments[-1] else [arguments[-1], uri]
    line = refusal(capsys, [command, *arguments[:-1], *last])
    assert line.startswith(f"lstmfcn: found {uri}; ")
    assert list(tmp_path.iterdir()) == []


OUTPUTS = {
    "sample": [],
    "check": ["shards", "--fix"],
    "export": ["model"],
    "report": ["shards", "--model", "model"],
    "evaluate": ["shards", "--model", "model"],
    "train": ["shards"],
    "tune": ["shards", "--metric", "train_loss"],
}


@pytest.mark.parametrize("output", ["loop", "n" * 300, "shards/part-000.csv/below", "/proc/none"])
@pytest.mark.parametrize("command", OUTPUTS)
def test_an_output_that_cannot_be_is_told_in_a_line(tmp_path, monkeypatch, capsys, command, output):
    monkeypatch.chdir(tmp_path)
    assert main(["sample", "--output", "shards", "--rows", "30", "--shards", "1"]) == 0
    Path("loop").symlink_to("loop")
    tiny_artifact("names").save("model")
    capsys.readouterr()
    before = sorted(tmp_path.rglob("*"))
    line = refusal_of_output(capsys, [command, *OUTPUTS[command], "--output", output])
    assert re.match(r"lstmfcn: .*: (cannot be (written|read)|is a file|is inside)", line), line
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "words",
    [
        ["check", ""], ["sample", "--output", ""], ["export", "", "--output", "o"],
        ["train", "--train", "", "--output", "o"], ["predict", "--input=", "--model", "m"],
        ["train", "", "--output", "o"], ["export", "--model", "", "--output", "o"],
    ],
)  # fmt: skip
def test_an_empty_path_is_not_the_current_folder(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    assert "found an empty path; name one (a variable of the shell" in refusal(capsys, words)
    assert list(tmp_path.iterdir()) == []


def test_a_line_stays_a_line_whatever_is_in_a_path(capsys):
    assert main(["check", "a\nb"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "lstmfcn: a\\nb: found nothing; check the path"
    )


BEST = {"epoch": 2, "train_loss": 0.5, "train_accuracy": 0.75}
NEXT = [
    "lstmfcn evaluate DATA --model 'a run'",
    "lstmfcn predict DATA --model 'a run' --output FOLDER",
    "lstmfcn serve 'a run'",
]


@pytest.mark.parametrize("flags", [[], ["--quiet"], ["--json"]])
def test_train_ends_with_its_result_and_what_to_do_next(tmp_path, monkeypatch, capsys, flags):
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "a run"
    result = TrainingResult(output, output / "model", BEST, [BEST])
    monkeypatch.setattr(lstmfcn.distributed.train, "train", lambda *_, **__: result)
    assert main(["train", "a", "b", "--output", "a run", *flags]) == 0
    printed = capsys.readouterr().out
    if flags == ["--json"]:
        assert json.loads(printed) == {
            "model": f"{output}/model",
            "metrics_file": f"{output}/metrics.jsonl",
            "learning_curve": f"{output}/learning_curve.png",
            "metrics": BEST,
            "next": NEXT,
        }
    else:
        assert printed.splitlines() == [
            "best: epoch 2",
            "train:loss 0.50000000",
            "train:acc 0.75000000",
            f"model: {output}/model",
            "next:",
            *(f"  {command}" for command in NEXT),
        ]


@pytest.mark.parametrize("flags", [["--quiet"], ["--json"]])
def test_tune_ends_with_its_best_trial_and_what_to_do_next(tmp_path, monkeypatch, capsys, flags):
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "a run"
    first = TrialResult(1, {"lr": 0.5}, "done", 0.5, {"epoch": 1, "train_accuracy": 0.5})
    best = TrialResult(2, {"lr": 0.25}, "done", 0.75, {"epoch": 3, "train_accuracy": 0.75})
    objective = Objective("train_accuracy")
    result = SweepResult(output, output / "model", best, objective, first)
    monkeypatch.setattr(lstmfcn.distributed.tune, "tune", lambda *_, **__: result)
    assert main(["tune", "a", "--output", "a run", *flags]) == 0
    printed = capsys.readouterr().out
    if flags == ["--json"]:
        assert json.loads(printed) == {
            "model": f"{output}/model",
            "trials": f"{output}/trials.csv",
            "trial": 2,
            "hyperparameters": {"lr": 0.25},
            "metrics": best.metrics,
            "defaults": first.metrics,
            "next": NEXT,
        }
    else:
        assert printed.splitlines() == [
            "best: trial 2, train_accuracy 0.75000000, epoch 3",
            "the defaults: trial 1, train_accuracy 0.50000000, epoch 1",
            "--lr 0.25",
            f"model: {output}/model",
            "next:",
            *(f"  {command}" for command in NEXT),
        ]
    write_table([first, best], output / "trials.csv")
    assert result.trials["trial"].tolist() == [1, 2]
    assert result.trials["lr"].tolist() == [0.5, 0.25]


def test_a_run_folder_stands_for_its_model(tmp_path, capsys):
    artifact = tiny_artifact("names")
    artifact.save(tmp_path / "run" / "model")
    (tmp_path / "run" / "run.json").touch()
    for name, model in (("a", tmp_path / "run"), ("b", tmp_path / "run" / "model")):
        assert main(["export", str(model), "--output", str(tmp_path / name)]) == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (
        Classifier.load(tmp_path / "run").artifact.sha256
        == Artifact.load(tmp_path / "run" / "model").sha256
    )
    capsys.readouterr()
