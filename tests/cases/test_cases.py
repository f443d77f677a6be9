"""Every case of `tests/cases`."""

import pytest

from tests.cases.__main__ import MODULES
from tests.cases.inputs import write_inputs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases") / "inputs"
    write_inputs(folder)
    return folder


@pytest.mark.parametrize("case", [case for module in MODULES for case in module.cases()], ids=str)
def test_case(case, inputs, tmp_path):
    case.act(inputs, tmp_path)
