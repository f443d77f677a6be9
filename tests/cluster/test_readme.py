"""The README is true: its commands run, its code runs, its tables hold what is there."""

import os
import re
import sys
from pathlib import Path

import pytest
from checkout import REPOSITORY
from endpoints import Server

from lstmfcn.search_space import SearchSpace

README = (REPOSITORY / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def as_a_user(run_command):
    """Run a line in a shell that finds this environment's commands first."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    def run(line, cwd):
        done = run_command("env", f"PATH={path}", "bash", "-ec", line, cwd=cwd, timeout=600)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done

    return run


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 200


def test_make_demo_runs_and_prints_where_everything_is(as_a_user, tmp_path):
    demo, tests = (line.split("#")[0].strip() for line in blocks("sh")[0].splitlines())
    assert (demo, tests) == ("make demo", "make test")
    printed = as_a_user(f"{demo} DEMO={tmp_path / 'demo'} EPOCHS=2", REPOSITORY).stdout
    names = "data|model|metrics|learning curve|evaluation|predictions"
    places = dict(re.findall(rf"^({names}) +(\S+)$", printed, re.MULTILINE))
    assert len(places) == 6
    assert all(Path(place).exists() for place in places.values())


def test_the_commands_and_the_code_run_as_they_stand(as_a_user, tmp_path):
    commands = [line for line in blocks("sh")[1].splitlines() if line]
    (resume,), (tune,) = (block.splitlines() for block in blocks("sh")[2:])
    assert len(commands) == 6
    for line in [*commands, resume, tune]:
        as_a_user(line, tmp_path)
    asking, predicting = blocks("python")
    (tmp_path / "example.py").write_text(predicting)
    printed = as_a_user("python example.py", tmp_path).stdout
    assert re.search(r"'(cylinder|bell|funnel)'", printed)
    assert_the_clients_are_answered(as_a_user, asking, tmp_path)


def assert_the_clients_are_answered(as_a_user, code, folder):
    (lines,) = (block for block in blocks("text") if block.startswith("lstmfcn serve"))
    serving, asking = lines.splitlines()
    (model,) = re.findall(r"--model (\S+)", serving)
    server = Server([folder / model], folder / "serve.log", "--num-replicas", "1")
    try:
        here = f"127.0.0.1:{server.port}"
        by_curl = as_a_user(asking.replace("127.0.0.1:8000", here), folder).stdout
        (folder / "client.py").write_text(code.replace("127.0.0.1:8000", here))
        first, *others = as_a_user("python client.py", folder).stdout.splitlines()
    finally:
        server.stop()
    assert by_curl.splitlines()[0] == "y,p_bell,p_cylinder,p_funnel"
    assert by_curl.splitlines() == [line for line in others if line]
    assert "'p_bell'" in first


def test_every_module_stands_in_the_file_tree():
    tree = (REPOSITORY / "CONTRIBUTING.md").read_text()
    for path in [*(REPOSITORY / "lstmfcn").glob("*.py"), *(REPOSITORY / "jobs").glob("*.py")]:
        if not path.name.startswith("__"):
            assert path.name in tree, path.name
    for path in (REPOSITORY / "lstmfcn" / "distributed").glob("[a-z]*.py"):
        assert path.stem in tree, path.stem


def test_the_search_space_can_be_searched():
    (text,) = blocks("yaml")
    assert len(SearchSpace.parse(text, "README.md").values) == 4
