"""Every case of `tests/cases` that needs no Ray; the others run in tests/ray."""

import pytest

from tests.cases import arrays, asking, commands, converting, outputs, shards
from tests.cases.inputs import write_inputs

pytestmark = pytest.mark.slow

WITHOUT_RAY = (shards, converting, arrays, asking, outputs, commands)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases") / "inputs"
    write_inputs(folder)
    return folder


@pytest.mark.parametrize(
    "case", [case for module in WITHOUT_RAY for case in module.cases()], ids=str
)
def test_case(case, inputs, tmp_path):
    case.act(inputs, tmp_path)
