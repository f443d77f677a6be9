import subprocess
import sys
from pathlib import Path

import pytest

import lstmfcn
from lstmfcn.errors import UserError
from lstmfcn.storage.shadows import refuse_shadows

REPOSITORY = Path(lstmfcn.__file__).parents[1]


@pytest.mark.parametrize("name", ["torch.py", "ray.py", "numpy/__init__.py", "lstmfcn.py"])
def test_a_module_of_the_name_of_a_package_is_refused(tmp_path, name):
    refuse_shadows(tmp_path)
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("raise RuntimeError")
    with pytest.raises(
        UserError, match=rf"^{path}: Python would import it instead of the package "
    ):
        refuse_shadows(tmp_path)


def test_other_files_and_folders_are_ignored(tmp_path):
    for name in ("data.py", "ray", "torch.csv", "train.py"):
        (tmp_path / name).touch()
    (tmp_path / "numpy").mkdir()
    refuse_shadows(tmp_path)


def test_a_clone_of_the_repository_does_not_shadow_itself():
    refuse_shadows(REPOSITORY)


@pytest.mark.parametrize("name", ["numpy.py", "pydantic.py", "rich.py"])
def test_as_a_module_the_command_refuses_before_it_imports_them(tmp_path, name):
    (tmp_path / name).write_text("raise RuntimeError")
    done = subprocess.run(
        [sys.executable, "-m", "lstmfcn", "sample", "--output", "data"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    line = f"{tmp_path / name}: Python would import it instead of the package {Path(name).stem}; "
    assert done.stderr.startswith(f"lstmfcn: {line}")
    assert done.stderr.count("\n") == 1
