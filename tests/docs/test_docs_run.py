"""The pages of docs/ are true: their commands and code run, and models hold what they list.

What cannot run here (clusters, object stores) or takes long (benchmarks) stands in blocks of text,
whose flags and files tests/docs/test_docs.py compares with those that there are.
"""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from ray.scripts.scripts import cli as ray_commands

from lstmfcn.cli.main import main
from lstmfcn.data.synthetic import cylinder_bell_funnel
from lstmfcn.data.writer import write_shards
from lstmfcn.distributed.requests import Resources
from lstmfcn.distributed.train import train
from lstmfcn.distributed.tune import tune
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.tuning.sweep import SearchConfig
from tests.helpers.checkout import REPOSITORY
from tests.helpers.problems import TINY, waves, write

pytestmark = pytest.mark.ray  # sweeps start one

DOCS = REPOSITORY / "docs"


def blocks(page, languages):
    """Code blocks of these languages, in order, each with its language."""
    text = page.read_text()
    return re.findall(rf"^```({languages})\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


ELSEWHERE = {"scikit-learn.md", "serve.md"}
"""tests/test_estimator.py and tests/docs/test_readme.py run their code."""

PAGES = sorted(path for path in DOCS.rglob("*.md") if path.name not in ELSEWHERE)
RUNNING = [page for page in PAGES if blocks(page, "sh|python")]


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    """What the README's commands leave behind, of fewer rows and epochs: data and runs."""
    folder = tmp_path_factory.mktemp("docs")
    for seed, purpose in enumerate(("train", "valid", "test"), start=1):
        values, names = cylinder_bell_funnel(60, seed)
        write_shards(folder / "data" / purpose, names.tolist(), values.round(3).tolist(), 1)
    small = TINY.model_copy(update={"epochs": 1})
    train(str(folder / "data" / "train"), str(folder / "runs" / "first"), hyperparameters=small)
    return folder


@pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow")
@pytest.mark.parametrize("page", RUNNING, ids=lambda page: page.stem)
def test_commands_and_code_of_a_page_run_in_their_order(page, first_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    if "--output runs/first" not in page.read_text():
        Path("runs/first").symlink_to(first_run / "runs" / "first")
    if "--output data/train" not in page.read_text():
        Path("data").symlink_to(first_run / "data")
    for language, code in blocks(page, "sh|python"):
        if language == "python":
            exec(compile(code, page.name, "exec"), {})
            continue
        for line in code.splitlines():
            command, *arguments = shlex.split(line)
            if command == "lstmfcn":
                assert main(arguments) == 0, line
            else:
                subprocess.run(["bash", "-ec", line], check=True, timeout=60)


def test_what_the_page_of_the_data_format_writes_can_be_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for language, code in blocks(DOCS / "reference" / "data-format.md", "python"):
        exec(compile(code, language, "exec"), {})
    table = pd.concat(map(pd.read_csv, sorted(Path("mine").glob("*.csv"))))
    assert table.shape == (300, 41)
    assert set(table.y) == {"up", "down"}


@pytest.mark.usefixtures("cluster")
def test_models_have_the_fields_that_the_page_lists_and_no_others(tmp_path):
    """An ensemble of two with thresholds, its member, and a sweep's: together they have all."""
    table = waves(60)
    table["y_2"] = table["y_1"]  # a row may have several labels
    data = str(write(tmp_path / "data", table))
    wanted = {"task": "multilabel", "members": 2, "calibrate": True, "fit_thresholds": True}
    fixed = Hyperparameters(**TINY.model_dump() | wanted)
    run, sweep = str(tmp_path / "run"), str(tmp_path / "sweep")
    resources = Resources(cpus_per_worker=1)
    train(data, run, validation=data, hyperparameters=fixed, resources=resources)
    one = Hyperparameters(**TINY.model_dump(exclude={"lr"}))
    space = tmp_path / "space.yaml"
    space.write_text("lr: {choice: [0.01, 0.02]}")
    search = SearchConfig(space=str(space), num_samples=1)
    data = str(write(tmp_path / "one-hot", waves(60)))
    tune(data, sweep, validation=data, hyperparameters=one, search=search, resources=resources)
    found = set()
    for model in (f"{run}/model", f"{run}/members/00/model", f"{sweep}/model"):
        described = json.loads(Path(model, "model.json").read_text())
        assert described["hyperparameters"].keys() == Hyperparameters().to_flags().keys()
        found |= set(fields(described))
    page = (DOCS / "reference" / "model-directory.md").read_text()
    (section,) = re.findall("^## model.json\n(.*?)^## ", page, re.DOTALL | re.MULTILINE)
    cells = re.findall(r"^\| (.*?) \|", section, re.MULTILINE)
    assert found == {name for cell in cells for name in re.findall("`(.*?)`", cell)}


def fields(described, before=""):
    """Names of a description's fields, those within one after a dot; hyperparameters as one."""
    for name, value in described.items():
        if isinstance(value, dict) and name != "hyperparameters":
            yield from fields(value, f"{before}{name}.")
        else:
            yield before + name


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
