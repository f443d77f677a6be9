"""The README is true: its commands run, its code runs, its tables hold what is there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.server import parse_model_arguments
from tests.helpers.checkout import REPOSITORY
from tests.helpers.no_cluster import no_cluster
from tests.helpers.pages import run_step, smaller
from tests.helpers.served_here import served_here

pytestmark = pytest.mark.slow

README = (REPOSITORY / "README.md").read_text()


def blocks(language, text=README):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def as_a_user():
    """Run a line in a shell that finds this environment's commands first, on no cluster."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    others = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}

    def run(line, cwd):
        done = subprocess.run(
            ["bash", "-ec", line],
            cwd=cwd,
            env=others | {"PATH": path, "PYTHONWARNINGS": "default"},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done

    return run


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


def test_the_two_commands_to_a_first_result_write_what_they_say(as_a_user, tmp_path):
    demo, report = blocks("sh")[0].splitlines()
    assert demo == "make demo"
    printed = as_a_user(f"{demo} DEMO={tmp_path / 'demo'} EPOCHS=2", REPOSITORY).stdout
    names = "data|model|metrics|learning curve|evaluation|predictions"
    places = dict(re.findall(rf"^({names}) +(\S+)$", printed, re.MULTILINE))
    assert len(places) == 6
    assert all(Path(place).exists() for place in places.values())
    as_a_user(report.replace(".venv/bin/", ""), tmp_path)
    (written,) = re.findall(r"`(demo/.*\.html)`", README)
    assert (tmp_path / written).is_file()


def test_the_commands_and_the_code_run(as_a_user, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commands, (resume,), _ = commands_of_data()
    assert len(commands) == 5
    for line in [*commands, resume]:
        with no_cluster():
            run_step(README, "sh", line)
    asking, predicting = blocks("python")
    (tmp_path / "example.py").write_text(predicting)
    printed = as_a_user("python example.py", tmp_path).stdout
    assert "train_loss" in printed
    assert re.search(r"'(cylinder|bell|funnel)'", printed)
    serve = (REPOSITORY / "docs" / "how-to" / "serve.md").read_text()
    (longer,) = blocks("python", serve)
    assert_the_clients_are_answered(as_a_user, [asking, longer], tmp_path)


@pytest.mark.usefixtures("cluster")
def test_the_sweep_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (*samples, _, _, _), _, (tune,) = commands_of_data()
    for line in [*samples, smaller(tune)]:
        run_step(README, "sh", line)
    assert (tmp_path / "runs" / "sweep" / "model" / "model.json").is_file()


def commands_of_data():
    """The lines of each block of commands after the first result's."""
    return [[line for line in block.splitlines() if line] for block in blocks("sh")[1:]]


def assert_the_clients_are_answered(as_a_user, programs, folder):
    """The model is served in this process; tests/ray/test_serve.py starts the command."""
    (lines,) = (block for block in blocks("text") if block.startswith("lstmfcn serve"))
    serving, asking = lines.splitlines()
    *command, model = serving.split()
    assert command == ["lstmfcn", "serve"]
    with served_here(parse_model_arguments([model])) as server:
        here = f"127.0.0.1:{server.port}"
        by_curl = as_a_user(asking.replace("127.0.0.1:8000", here), folder).stdout
        printed = []
        for code in programs:
            (folder / "client.py").write_text(code.replace("127.0.0.1:8000", here))
            printed.append(as_a_user("python client.py", folder).stdout.splitlines())
    (short,), (first, *others) = printed
    assert by_curl.splitlines()[0] == "y,p_bell,p_cylinder,p_funnel"
    assert by_curl.splitlines() == [line for line in others if line]
    assert "'p_bell'" in first
    assert first == short
