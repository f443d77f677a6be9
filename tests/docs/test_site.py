"""The documentation site is built without a warning, and loads nothing from another host."""

import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

pytest.importorskip(
    "mkdocs", reason="pip install '.[docs]' brings it; `make docs` builds the site too"
)

REPOSITORY = Path(__file__).parents[2]
LOADED = re.compile(r"<(?:script|img|iframe|source)\b[^>]*?\bsrc=[\"']?([^\"' >]+)")
LINKED = re.compile(r"<link\b[^>]*>")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_built_and_the_generators_stay_out(site):
    pages = {path.relative_to(REPOSITORY / "docs") for path in (REPOSITORY / "docs").rglob("*.md")}
    built = {path.relative_to(site) for path in site.rglob("*.html")}
    assert built == {page.with_suffix(".html") for page in pages} | {Path("404.html")}
    assert not list(site.rglob("*.py"))


def test_no_page_loads_anything_from_another_host(site):
    for path in site.rglob("*.html"):
        text = path.read_text()
        links = [tag for tag in LINKED.findall(text) if "canonical" not in tag]
        for target in [*LOADED.findall(text), *links]:
            assert not re.search(r"(https?:)?//", unescape(target)), f"{path.name}: {target}"


def test_the_public_names_are_documented(site):
    text = (site / "reference" / "python.html").read_text()
    for name in ("Classifier", "LSTMFCNClassifier", "Hyperparameters"):
        assert f'id="lstmfcn.{name}"' in text
    for name in ("train", "tune", "evaluate", "predict"):
        assert f'id="lstmfcn.{name}"' in text
    for name in ("fit", "predict_proba", "save"):
        assert f'id="lstmfcn.LSTMFCNClassifier.{name}"' in text
