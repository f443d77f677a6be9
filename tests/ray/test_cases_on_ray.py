"""Every case of `tests/cases` that needs Ray."""

import pytest

from tests.cases import on_ray
from tests.cases.inputs import write_inputs


@pytest.mark.parametrize("case", list(on_ray.cases()), ids=str)
def test_case_with_a_ray_of_its_own(case, tmp_path):
    inputs, folder = tmp_path / "inputs", tmp_path / "own"
    write_inputs(inputs)
    folder.mkdir()
    case.act(inputs, folder)
