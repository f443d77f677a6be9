import ast
import subprocess
import sys
from pathlib import Path

import pytest

import lstmfcn
from lstmfcn.distributed.requests import Resources
from lstmfcn.distributed.train import TrainingResult, train

ROOT = Path(lstmfcn.__file__).parents[1]


def printed_by(code):
    """What a new interpreter prints; it may print nothing on stderr."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("module", ["lstmfcn", "lstmfcn.inference.predictor", "lstmfcn.cli.main"])
def test_importing_the_package_does_not_import_ray(module):
    code = f"import {module}, sys; print([name for name in sys.modules if name[:3] == 'ray'])"
    assert printed_by(code) == "[]"


@pytest.mark.slow
def test_what_predicts_does_not_import_scikit_learn():
    code = "import lstmfcn.distributed.predict, sys; print('sklearn' in sys.modules)"
    assert printed_by(code) == "False"


def test_importing_the_package_imports_nothing_heavy():
    heavy = "{'numpy', 'pandas', 'pyarrow', 'pydantic', 'ray', 'sklearn', 'torch'}"
    code = f"import lstmfcn, sys; dir(lstmfcn); print(sorted({heavy} & set(sys.modules)))"
    assert printed_by(code) == "[]"


def test_hyperparameters_and_resources_need_neither_ray_nor_torch():
    code = (
        "from lstmfcn import Hyperparameters, SearchConfig; import sys;"
        "print(sorted({'ray', 'torch'} & set(sys.modules)))"
    )
    assert printed_by(code) == "[]"


def test_the_public_names_are_there_and_completed_at_tab():
    for name in lstmfcn.__all__:
        assert getattr(lstmfcn, name).__name__ == name
    public = [name for name in dir(lstmfcn) if not name.startswith("_")]
    assert public == sorted(lstmfcn.__all__)
    assert (lstmfcn.train, lstmfcn.Resources) == (train, Resources)
    with pytest.raises(AttributeError, match="module 'lstmfcn' has no attribute 'trian'"):
        _ = lstmfcn.trian


def test_type_checkers_see_the_names_that_there_are():
    """Names and modules are written twice: for type checkers, and to be imported when used."""
    tree = ast.parse(Path(lstmfcn.__file__).read_text())
    (branch,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in branch.body for alias in node.names}
    assert seen == lstmfcn._MODULES
    assert sorted(seen) == sorted(lstmfcn.__all__)


def test_a_trainings_metrics_are_a_table_of_its_epochs():
    history = [{"epoch": 1, "train_loss": 0.5}, {"epoch": 2, "train_loss": 0.25}]
    result = TrainingResult(Path("run"), Path("run/model"), history[1], history)
    assert result.metrics["epoch"].tolist() == [1, 2]
    assert result.metrics.columns.tolist() == ["epoch", "train_loss"]
    assert result.metrics is result.metrics
    assert "history" not in repr(result)
