"""Every case of `tests/cases` that needs Ray."""

import pytest

from tests.cases import on_ray
from tests.cases.inputs import write_inputs


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases") / "inputs"
    write_inputs(folder)
    return folder


@pytest.mark.parametrize("case", list(on_ray.cases()), ids=str)
def test_case_on_the_shared_ray(case, inputs, tmp_path, cluster):  # noqa: ARG001 - commands find it
    case.act(inputs, tmp_path)


@pytest.mark.parametrize("case", list(on_ray.alone()), ids=str)
def test_case_with_a_ray_of_its_own(case, inputs, tmp_path):
    case.act(inputs, tmp_path)
