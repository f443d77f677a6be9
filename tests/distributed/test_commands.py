"""Commands as users run them: processes, exit codes, what stdout and stderr hold."""

import json

import pytest

from lstmfcn.report.findings import collect_findings
from lstmfcn.training.metrics_log import read_metrics
from tests.helpers.problems import TINY_FLAGS, waves, write


@pytest.fixture(scope="module")
def trained(job, tmp_path_factory):
    """A run of jobs/train.py: its process and its output folder."""
    folder = tmp_path_factory.mktemp("commands")
    data = write(folder / "data", waves(90), 2)
    validation = write(folder / "validation", waves(30, seed=1))
    done = job(
        "train", data, "--validation", validation,
        "--output", folder / "run", *TINY_FLAGS,
    )  # fmt: skip
    return done, folder


def test_train_tells_each_epoch_once_on_stdout_and_its_stages_on_stderr(trained):
    done, folder = trained
    assert done.returncode == 0, done.stderr
    history = read_metrics(folder / "run" / "metrics.jsonl")
    lines = done.stdout.splitlines()
    assert [line.split(" train_loss")[0] for line in lines[:2]] == ["epoch: 1", "epoch: 2"]
    assert f"valid_accuracy: {history[1]['valid_accuracy']:.8f} (" in lines[1]
    assert lines[2].startswith("best: epoch ")
    names = [line.split()[0] for line in lines[3:7]]
    assert names == ["train:loss", "train:acc", "valid:loss", "valid:acc"]
    model = folder / "run" / "model"
    assert lines[7:] == [
        f"model: {model}",
        "next:",
        f"  lstmfcn evaluate DATA --model {model.parent}",
        f"  lstmfcn predict DATA --model {model.parent} --output FOLDER",
        f"  lstmfcn serve {model.parent}",
    ]
    rows = "training: 90 rows of 12 timepoints from 2 shards (y_1 30, y_2 30, y_3 30)"
    assert rows in done.stderr
    assert "validation: 30 rows of 12 timepoints from 1 shard" in done.stderr
    assert "Traceback" not in done.stderr


def test_evaluate_ends_stdout_with_one_json_object_and_keeps_it(trained, job):
    _, folder = trained
    run, data = folder / "run", folder / "data"
    done = job("evaluate", data, "--model", run, "--output", folder / "evaluation")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["rows"] == 90
    reported = collect_findings(str(run / "model"), str(data)).scores.metrics
    assert reported["confusion_matrix"] == found["confusion_matrix"]
    assert reported["accuracy"] == found["accuracy"]
    assert reported["expected_calibration_error"] == pytest.approx(
        found["expected_calibration_error"], abs=1e-6
    )
    assert found == json.loads((folder / "evaluation" / "evaluation.json").read_text())


def test_predict_counts_rows_and_names_each_file(trained, job):
    _, folder = trained
    model, out = folder / "run" / "model", folder / "predictions"
    done = job("predict", folder / "data", "--model", model, "--output", out)
    assert done.returncode == 0, done.stderr
    assert f"part-001.csv: 45 rows to {out / 'part-001.csv'}" in done.stderr
    assert "predicted 90 rows of 2 shards in" in done.stderr


def test_a_users_mistake_is_one_line_with_exit_code_2_and_nothing_written(
    trained, job, refused, tmp_path
):
    _, folder = trained
    bad = write(tmp_path / "bad", waves(30), 3)
    shard = bad / "part-002.csv"
    lines = shard.read_text().splitlines()
    lines[4] = lines[4].rsplit(",", 1)[0] + ",oops"
    shard.write_text("\n".join(lines) + "\n")
    data, model = folder / "data", folder / "run" / "model"
    output = tmp_path / "out"
    mistakes = {
        f"{shard}, row 4, column x_12: found 'oops'; write a number or remove the row": [
            "train", "--train", bad],
        f"{tmp_path / 'none'}: found nothing; check the path": [
            "train", "--train", tmp_path / "none"],
        f"{tmp_path / 'gone'}: found nothing; check the path": [
            "train", "--train", data, "--validation", tmp_path / "gone"],
        "dropout: found '2'; it must be less than 1": [
            "train", "--train", data, "--dropout", "2"],
        f"{data}: found no readable model.json (No such file or directory); name a model "
        "directory, such as the model folder of a training output": [
            "predict", "--model", data, "--input", data],
        'Command "predict" parameter --model requires an argument. '
        "Did you mean --model instead of --modle? See lstmfcn --help.": [
            "predict", "--modle", model, "--input", data],
    }  # fmt: skip
    for message, command in mistakes.items():
        assert refused(*command, "--output", output) == f"lstmfcn: {message}"
        assert not output.exists()
    message, (name, *flags) = next(iter(mistakes.items()))  # and as a process, found by Ray's tasks
    done = job(name, *flags, "--output", output)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1] == f"lstmfcn: {message}"
    assert "Traceback" not in done.stderr
    assert not output.exists()


def test_a_training_that_fails_has_exit_code_1_and_one_line(trained, job, tmp_path):
    _, folder = trained
    flags = [*TINY_FLAGS, "--output", tmp_path / "out"]
    flags[flags.index("--lr") + 1] = "1e38"
    done = job("train", "--train", folder / "data", *flags)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("lstmfcn: train_loss became ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "model").exists()
