"""The pages of docs/ with sweeps are true, and models hold what their page lists."""

import json
import re
from functools import cache

import pytest

from lstmfcn.distributed.requests import Resources
from lstmfcn.distributed.train import train
from lstmfcn.hyperparameters import Hyperparameters
from tests.helpers.pages import DOCS, ON_RAY, leave_first_run, run_page
from tests.helpers.problems import TINY, waves, write

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    return leave_first_run(tmp_path_factory.mktemp("docs"))


@pytest.fixture(scope="module")
def run(first_run, tmp_path_factory):
    """Run a page, once; returns the folder that it ran in."""

    @cache
    def run(page):
        folder = tmp_path_factory.mktemp(page.stem)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            run_page(page, first_run)
        return folder

    return run


@pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow")
@pytest.mark.parametrize("page", ON_RAY, ids=lambda page: page.stem)
def test_commands_and_code_of_a_page_run_in_their_order(page, run):
    run(page)


def test_models_have_the_fields_that_the_page_lists_and_no_others(run, tmp_path):
    """An ensemble of two with thresholds, its member, and a sweep's: together they have all."""
    table = waves(60)
    table["y_2"] = table["y_1"]  # a row may have several labels
    data = str(write(tmp_path / "data", table))
    wanted = {"task": "multilabel", "members": 2, "calibrate": True, "fit_thresholds": True}
    fixed = Hyperparameters(**TINY.model_dump() | wanted | {"epochs": 1})
    ensemble, sweep = tmp_path / "run", run(DOCS / "how-to" / "tune.md") / "runs" / "sweep"
    resources = Resources(cpus_per_worker=1)
    train(data, ensemble, validation=data, hyperparameters=fixed, resources=resources)
    found = set()
    for folder in (ensemble, ensemble / "members" / "00", sweep):
        described = json.loads((folder / "model" / "model.json").read_text())
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
