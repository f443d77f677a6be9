"""The pages of docs/, their blocks of commands and code, and a folder to run them in."""

import re
import shlex
import subprocess
from contextlib import nullcontext
from pathlib import Path

from lstmfcn.cli.main import main
from lstmfcn.data.synthetic import cylinder_bell_funnel
from lstmfcn.data.writer import write_shards
from lstmfcn.distributed.train import train
from tests.helpers.checkout import REPOSITORY
from tests.helpers.no_cluster import no_cluster
from tests.helpers.problems import TINY

DOCS = REPOSITORY / "docs"


def blocks(page, languages):
    """Code blocks of these languages, in order, each with its language."""
    text = page.read_text()
    return re.findall(rf"^```({languages})\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


ELSEWHERE = {"scikit-learn.md", "serve.md"}
"""tests/test_estimator.py and tests/docs/test_readme.py run their code."""

PAGES = sorted(path for path in DOCS.rglob("*.md") if path.name not in ELSEWHERE)
RUNNING = [page for page in PAGES if blocks(page, "sh|python")]


def steps(page):
    """The commands of a page, one by one, and its blocks of code, in order."""
    for language, code in blocks(page, "sh|python"):
        for step in code.splitlines() if language == "sh" else [code]:
            yield language, step


def needs_ray(step):
    """Whether a step starts Ray; one worker on one machine works without it."""
    return bool(re.search(r"^lstmfcn tune |\btune\(", step, re.MULTILINE))


ON_RAY = [page for page in RUNNING if any(needs_ray(step) for _, step in steps(page))]
WITHOUT_RAY = [page for page in RUNNING if page not in ON_RAY]


def smaller(step):
    """The same step with at most 3 epochs, and 2 trials instead of 4, or 3 instead of 5."""
    step = re.sub(r"(epochs[ =])(\d+)", lambda found: f"{found[1]}{min(3, int(found[2]))}", step)
    return re.sub(r"(--num-samples )(\d+)", lambda found: f"{found[1]}{int(found[2]) - 2}", step)


def leave_first_run(folder):
    """What the README's commands leave behind, of fewer rows and epochs: data and runs."""
    for seed, purpose in enumerate(("train", "valid", "test"), start=1):
        values, names = cylinder_bell_funnel(60, seed)
        write_shards(folder / "data" / purpose, names.tolist(), values.round(3).tolist(), 1)
    small = TINY.model_copy(update={"epochs": 1})
    with no_cluster():
        train(str(folder / "data" / "train"), str(folder / "runs" / "first"), hyperparameters=small)
    return folder


def run_page(page, first_run):
    """Run a page's commands and code in the current folder, in this process, as `smaller` says.

    Args:
        page: its file.
        first_run: the folder of `leave_first_run`, for pages that go on from there.
    """
    Path("runs").mkdir()
    if "--output runs/first" not in page.read_text():
        Path("runs/first").symlink_to(first_run / "runs" / "first")
    if "--output data/train" not in page.read_text():
        Path("data").symlink_to(first_run / "data")
    for language, step in steps(page):
        with nullcontext() if needs_ray(step) else no_cluster():
            run_step(page, language, smaller(step))


def run_step(page, language, step):
    if language == "python":
        exec(compile(step, page.name, "exec"), {})
        return
    command, *arguments = shlex.split(step)
    if command == "lstmfcn":
        assert main(arguments) == 0, step
    else:
        subprocess.run(["bash", "-ec", step], check=True, timeout=60)
