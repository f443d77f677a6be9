import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lstmfcn.distributed.requests import TrainRequest, read_inputs
from lstmfcn.errors import DataError, HyperparameterError, OutputError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.training.run_directory import RunConfig, hold_run_folder, refuse_existing_run

RECORD = RunConfig(
    train="data/train",
    validation=None,
    model=None,
    hyperparameters=Hyperparameters(lr=0.01, epochs=5),
    train_sha256="abc",
)


def test_a_record_is_read_back(tmp_path):
    RECORD.save(tmp_path)
    assert RunConfig.load(tmp_path) == RECORD
    assert RunConfig.load(tmp_path / "none") is None


def test_a_record_of_before_there_was_tracking_is_read(tmp_path):
    RECORD.save(tmp_path)
    written = json.loads((tmp_path / "run.json").read_text())
    del written["track"]
    (tmp_path / "run.json").write_text(json.dumps(written))
    assert RunConfig.load(tmp_path) == RECORD


def test_a_record_of_before_there_could_be_several_data_arguments_is_read(tmp_path):
    several = RECORD.model_copy(update={"train": ("a.csv", "b.csv"), "validation": ("v",)})
    several.save(tmp_path)
    assert RunConfig.load(tmp_path) == several
    written = json.loads((tmp_path / "run.json").read_text())
    written |= {"train": "data/train", "validation": "v"}
    (tmp_path / "run.json").write_text(json.dumps(written))
    found = RunConfig.load(tmp_path)
    assert (found.train, found.validation) == (("data/train",), ("v",))


@pytest.mark.parametrize("text", ["", "{", '{"train": 3}', "[]"])
def test_a_record_that_cannot_be_read_is_told_in_a_line(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(OutputError) as refusal:
        RunConfig.load(tmp_path)
    assert str(refusal.value).startswith(f"{tmp_path}/run.json: ")
    assert "\n" not in str(refusal.value)


def test_a_run_goes_on_with_its_own_hyperparameters_and_more_epochs_if_asked():
    assert RECORD.apply_resume_changes(Hyperparameters()) == RECORD.hyperparameters
    assert RECORD.apply_resume_changes(Hyperparameters(lr=0.01)).lr == 0.01
    more = RECORD.apply_resume_changes(Hyperparameters(epochs=9))
    assert (more.epochs, more.lr) == (9, 0.01)


def test_a_run_does_not_go_on_with_other_hyperparameters():
    with pytest.raises(HyperparameterError) as refusal:
        RECORD.apply_resume_changes(Hyperparameters(epochs=9, batch_size=64))
    assert str(refusal.value) == (
        "batch-size: found 64, the run to resume has 'auto'; "
        "leave the flag out, or name another --output"
    )


def test_a_run_does_not_go_on_with_other_rows():
    RECORD.refuse_other_rows("abc", "data")
    RECORD.model_copy(update={"train_sha256": ""}).refuse_other_rows("new", "data")
    with pytest.raises(DataError, match="data: found training rows that differ"):
        RECORD.refuse_other_rows("new", "data")


@pytest.mark.parametrize(
    "name", ["model", "metrics.jsonl", "run.json", "checkpoints", "mlflow.json"]
)
def test_a_folder_that_holds_a_run_is_refused(tmp_path, name):
    refuse_existing_run(tmp_path)
    refuse_existing_run(tmp_path / "none")
    (tmp_path / name).mkdir()
    with pytest.raises(OutputError, match=rf"found {name} of an earlier run; add --resume"):
        refuse_existing_run(tmp_path)


def test_a_folder_into_which_nothing_came_is_removed_and_others_stay(tmp_path):
    with hold_run_folder(tmp_path / "a" / "run"):
        assert (tmp_path / "a" / "run").is_dir()
    assert not (tmp_path / "a" / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".stop").touch()
    with hold_run_folder(tmp_path / "run"):
        assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
        (tmp_path / "run" / "metrics.jsonl").touch()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["metrics.jsonl"]


def test_a_file_system_without_locks_is_told_in_a_line(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(OutputError) as refusal, hold_run_folder(tmp_path / "run"):
        pass
    assert str(refusal.value) == f"{tmp_path / 'run'}: cannot be locked (No locks available)"


HOLDER = """
import sys, time
from pathlib import Path
from lstmfcn.training.run_directory import hold_run_folder
with hold_run_folder(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_held_by_one_process_until_it_ends_however_it_ends(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path / "run"], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(OutputError, match="another training is running there"):
            hold_run_folder(tmp_path / "run").__enter__()
        os.kill(holder.pid, signal.SIGKILL)
    with hold_run_folder(tmp_path / "run"):
        pass


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(OutputError, match="cannot be written to"),
        hold_run_folder(tmp_path / "file"),
    ):
        pass


def test_a_folder_that_never_takes_a_file_is_refused():
    with pytest.raises(OutputError, match="/proc/none: cannot be written to"):
        hold_run_folder(Path("/proc/none")).__enter__()


RIVAL = """
import os, sys, time
from pathlib import Path
from lstmfcn.errors import OutputError
from lstmfcn.training.run_directory import hold_run_folder

folder, inside = Path(sys.argv[1]), Path(sys.argv[2])
end, holds = time.monotonic() + 1.5, 0
while time.monotonic() < end:
    try:
        with hold_run_folder(folder):
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # fails where another is inside
            holds += 1
            time.sleep(0.0002)
            inside.unlink()
    except OutputError:
        pass
print(holds)
"""


@pytest.mark.slow
def test_of_several_processes_that_come_and_go_one_holds_a_folder_at_a_time(tmp_path):
    command = [sys.executable, "-c", RIVAL, tmp_path / "run", tmp_path / "inside"]
    rivals = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
    holds = [int(rival.communicate(timeout=60)[0]) for rival in rivals]
    assert [rival.returncode for rival in rivals] == [0] * 4
    assert sum(holds) > 50


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, " " * (1 << 21), "\0", '"\\ud800"']
)
def test_a_strange_record_is_told_in_a_line(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(OutputError) as refusal:
        RunConfig.load(tmp_path)
    assert str(refusal.value).startswith(f"{tmp_path}/run.json: ")
    assert len(str(refusal.value)) < 1000


def test_a_pipe_in_the_place_of_a_record_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "run.json")
    with pytest.raises(OutputError, match="cannot be read"):
        RunConfig.load(tmp_path)


def test_a_run_on_several_data_arguments_is_resumed_on_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.csv", "b.csv", "v.csv"):
        Path(name).write_text("y,x_1\nant,1\nbee,2\n")
    asked = TrainRequest(["b.csv", "a.csv"], "v.csv", None, Hyperparameters())
    asked.new_run(tmp_path / "run", resume=False).save(tmp_path / "run")
    known = RunConfig.load(tmp_path / "run")
    again = TrainRequest(None, None, None, Hyperparameters()).resumed_run(known)
    assert again == known
    inputs = read_inputs(again, tmp_path / "run")
    assert [shard.name for shard in inputs.training.shards] == ["b.csv", "a.csv"]
    assert (inputs.training.data, inputs.validation.data) == ("b.csv, a.csv", "v.csv")
    moved = TrainRequest("a.csv", ["b.csv", "v.csv"], None, Hyperparameters()).resumed_run(known)
    assert (moved.train, moved.validation) == (("a.csv",), ("b.csv", "v.csv"))
