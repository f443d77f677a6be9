import subprocess
import sys
from pathlib import Path

import pytest

import lstmfcn

ROOT = Path(lstmfcn.__file__).parents[1]


@pytest.mark.parametrize("module", ["lstmfcn", "lstmfcn.classifier", "lstmfcn.cli"])
def test_importing_the_package_does_not_import_ray(module):
    code = f"import {module}, sys; print([name for name in sys.modules if name[:3] == 'ray'])"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert (found.stdout, found.stderr) == ("[]\n", "")
