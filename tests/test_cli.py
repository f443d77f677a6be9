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
from small_models import tiny_artifact

import lstmfcn
import lstmfcn.convert.convert
import lstmfcn.distributed.train
from lstmfcn.cli import app, main
from lstmfcn.commands.going_on import going_on
from lstmfcn.commands.pages import PAGES
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
        ([*TRAIN, "--track", "tensorflow"], "--track"),
        ([*TRAIN, "--track"], "--track"),
        (["train", "data/train", "more", "--output", "o"], "did you mean --train data/train more?"),
        (["tune", "data/a b", "--output", "o"], "did you mean --train 'data/a b'?"),
        (
            ["evaluate", "data", "--model", "m"],
            "evaluate: found 'data' after no flag; did you mean",
        ),
        (["predict", "data", "--model", "m", "--output", "o"], "did you mean --input data?"),
        (["report", "data", "--model", "m", "--output", "o"], "did you mean --data data?"),
        (["export", "m", "--output", "o"], "did you mean --model m?"),
        (["check", "--validation", "v", "data"], "check: data comes first, as in lstmfcn check"),
        (["check", "data", "--fix", "--output", "o", "more"], "check: data comes first"),
        (["check", "data", "--epochs"], "Unknown option: --epochs"),
        (["check", "data", "--limit"], "--limit requires an argument"),
        (["check", "-"], "found -: data is read twice, a stream only once; write a file"),
        ([*TRAIN, "--validation", "-"], "found -: data is read twice"),
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
    own |= {"track", "num-workers", "min-workers", "cpus-per-worker", "use-gpu", "no-use-gpu"}
    own |= {"quiet", "json", "verbose"}
    assert sorted(listed) == sorted([*hyperparameters, *own])


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
    assert flags["Data"] == ["train", "validation", "task", "scaling", *missing]
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
    assert command is lstmfcn.cli.train
    parsed = bound.arguments["hyperparameters"]
    assert parsed == Hyperparameters(hidden_size=7, task="binary")
    assert parsed.model_fields_set == {"hidden_size", "task"}


@pytest.mark.parametrize(
    "given", ["--track tensorboard mlflow", "--track tensorboard --track mlflow"]
)
@pytest.mark.parametrize("command", ["train", "tune"])
def test_several_trackers_are_taken(command, given):
    _, bound, _ = app.parse_args([command, "--output", "nowhere", *given.split()])
    assert bound.arguments["track"] == ["tensorboard", "mlflow"]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    ("command", "flag"),
    [
        ("train", "--train"), ("train", "--validation"), ("tune", "--train"),
        ("tune", "--validation"), ("evaluate", "--data"), ("report", "--data"),
        ("predict", "--input"), ("check", "--validation"), ("check", ""),
    ],
)  # fmt: skip
def test_several_data_arguments_are_taken_in_their_order(command, flag, together):
    places = ["b/1.csv", "s3://bucket/a", "'c/*.csv'"]
    if not flag:
        words = places
    elif together:
        words = [flag, *places]
    else:
        words = [word for place in places for word in (flag, place)]
    needed = {"--output": "o", "--model": "m", "--data": "d", "--input": "i"}
    of_command = {"train": ["--output"], "tune": ["--output"], "check": []}
    needs = of_command.get(command, ["--model", "--data", "--input", "--output"])
    known = {name for each in app[command].assemble_argument_collection() for name in each.names}
    for name in needs:
        if name in known and name != flag:
            words += [name, needed[name]]
    words = ["data", *words] if command == "check" and flag else words
    _, bound, _ = app.parse_args([command, *words], exit_on_error=False, print_error=False)
    assert bound.arguments[flag.removeprefix("--") or "data"] == places


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
    assert "lies in the data b; name another --output" in line


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

    monkeypatch.setattr(lstmfcn.convert.convert, "convert", fail)
    with pytest.raises(RuntimeError, match="a bug") as error:
        main(["convert", "--input", "a.ts", "--output", str(tmp_path / "output")])
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
        ("lstmfcn", "train --train d --output runs/a --epochs 5", "train --output runs/a --resume"),
        ("lstmfcn", "train --output runs/a --resume --epochs 9", "train --output runs/a --resume"),
        (
            "lstmfcn",
            "train --train=d --output runs/a --num-workers 2 --hidden_size 3 --use-gpu --calibrate",
            f"train {RESUMED}",
        ),
        ("lstmfcn", "tune --train d --output s --space x.yaml --time-budget-s 9",
         "tune --output s --time-budget-s 9 --resume"),
        ("lstmfcn", "predict --model m --input 'a b' --output p",
         "predict --model m --input 'a b' --output p"),
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
    assert going_on(shlex.split(typed)) == f"{prefix.get(program, 'python -m lstmfcn')} {again}"


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
    assert told.splitlines() == ["lstmfcn: stopped; the same command begins again"]
    assert not list(tmp_path.rglob("*.csv"))


def test_export_overwrites_only_where_asked_to(tmp_path, capsys):
    tiny_artifact("names").save(tmp_path / "model")
    words = ["export", "--model", str(tmp_path / "model"), "--output", str(tmp_path / "m.onnx")]
    assert main(words) == 0
    written = (tmp_path / "m.onnx").read_bytes()
    (tmp_path / "m.onnx").write_text("mine")
    capsys.readouterr()
    told = f"lstmfcn: {tmp_path}/m.onnx: is there already; add --overwrite, or name another"
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


def test_evaluate_keeps_an_evaluation_that_is_there(tmp_path, capsys):
    (tmp_path / "evaluation.json").write_text("mine")
    words = ["evaluate", "--model", "nowhere", "--data", "nowhere", "--output", str(tmp_path)]
    assert "evaluation.json: is there already; add --overwrite" in refusal(capsys, words)
    assert "nowhere: found no readable model.json" in refusal(capsys, [*words, "--overwrite"])


WITH_OUTPUT = {
    "sample": [],
    "convert": ["--input", "archive.tsv"],
    "check": ["data", "--fix"],
    "train": ["--train", "data"],
    "tune": ["--train", "data", "--resume"],
    "evaluate": ["--model", "model", "--data", "data"],
    "report": ["--model", "model", "--data", "data"],
    "predict": ["--model", "model", "--input", "data"],
    "export": ["--model", "model"],
}
WITH_MODEL = {
    "train": ["--train", "data", "--output", "out"],
    "tune": ["--train", "data", "--validation", "data", "--output", "out"],
    "evaluate": ["--data", "data"],
    "report": ["--data", "data", "--output", "out"],
    "predict": ["--input", "data", "--output", "out"],
    "export": ["--output", "out.onnx"],
    "serve": [],
}


@pytest.mark.parametrize("uri", ["s3://bucket/x", "file:///data/x", "hdfs:/x"])
@pytest.mark.parametrize(
    ("command", "arguments"),
    [(name, [*words, "--output"]) for name, words in WITH_OUTPUT.items()]
    + [(name, [*words, "--model"]) for name, words in WITH_MODEL.items()]
    + [("serve", ["--model", "out", "--model=name={}"])],
)
def test_a_uri_is_refused_before_anything_starts(
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
    "export": ["--model", "model"],
    "report": ["--model", "model", "--data", "shards"],
    "evaluate": ["--model", "model", "--data", "shards"],
    "train": ["--train", "shards"],
    "tune": ["--train", "shards", "--metric", "train_loss"],
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
    assert re.match(r"lstmfcn: .*: (cannot be (written|read)|is a file|lies in)", line), line
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "words",
    [
        ["check", ""], ["sample", "--output", ""], ["export", "--model", "", "--output", "o"],
        ["train", "--train", "", "--output", "o"], ["predict", "--input=", "--model", "m"],
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


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_train_ends_with_where_the_model_is_and_what_to_do_next(
    tmp_path, monkeypatch, capsys, flags
):
    kept = {"epoch": 2, "train_loss": 0.5, "train_accuracy": 0.75}
    monkeypatch.setattr(lstmfcn.distributed.train, "train", lambda *_, **__: kept)
    output = tmp_path / "a run"
    assert main(["train", "--train", "a", "b", "--output", str(output), *flags]) == 0
    told = capsys.readouterr().out
    if flags:
        assert json.loads(told)["model"] == str(output / "model")
    else:
        assert told.splitlines() == [
            "best: epoch 2",
            "train:loss 0.50000000",
            "train:acc 0.75000000",
            f"model: {output}/model",
            f"next: lstmfcn evaluate --model '{output}/model' --data DATA",
        ]
