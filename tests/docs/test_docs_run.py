"""The pages of docs/ are true: their commands and code run, here without Ray.

What cannot run here (clusters, object stores) or takes long (benchmarks) stands in blocks of text,
whose flags and files tests/docs/test_docs.py compares with those that there are. Pages with sweeps
are for tests/docs/test_docs_on_ray.py.
"""

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
from ray.scripts.scripts import cli as ray_commands

from tests.helpers.pages import DOCS, WITHOUT_RAY, blocks, leave_first_run, run_page

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    return leave_first_run(tmp_path_factory.mktemp("docs"))


@pytest.mark.parametrize("page", WITHOUT_RAY, ids=lambda page: page.stem)
def test_commands_and_code_of_a_page_run_in_their_order(page, first_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_page(page, first_run)


def test_what_the_page_of_the_data_format_writes_can_be_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for language, code in blocks(DOCS / "reference" / "data-format.md", "python"):
        exec(compile(code, language, "exec"), {})
    table = pd.concat(map(pd.read_csv, sorted(Path("mine").glob("*.csv"))))
    assert table.shape == (300, 41)
    assert set(table.y) == {"up", "down"}


def test_ray_knows_the_commands_and_flags_of_the_page_of_clusters():
    lines = [
        line
        for _, code in blocks(DOCS / "how-to" / "clusters.md", "text")
        for line in code.splitlines()
    ]
    found = [line for line in lines if re.match(r"(\w+=\S+ )*ray ", line)]
    assert len(found) >= 8
    for line in found:
        for part in line.split(" #")[0].split(" -- ")[0].split(" && "):
            ray, *words = (word for word in shlex.split(part) if not re.match(r"\w+=", word))
            if ray == "ray":
                assert_ray_takes(words)


def assert_ray_takes(words):
    command = ray_commands
    while hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word.split("=")[0] for word in words if word.startswith("--")} <= known
