"""The benchmarks import what the package has today; running them takes too long for a test."""

import importlib
import subprocess
import sys

import pytest

from tests.helpers.checkout import REPOSITORY

pytestmark = pytest.mark.slow

OTHER_ENVIRONMENT = ("litserve_server",)
"""Needs a package that the tests' environment does not have."""

MODULES = sorted(
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
    for path in (REPOSITORY / "benchmarks").rglob("*.py")
    if path.stem not in OTHER_ENVIRONMENT
)


@pytest.mark.parametrize("name", MODULES)
def test_a_benchmark_imports(name):
    importlib.import_module(name)


def run(words):
    """What a benchmark prints; it must end well."""
    done = subprocess.run(
        [sys.executable, "-m", *words.split()],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_measured_on_a_gpu_runs_on_a_cpu():
    printed = run("benchmarks.gpu.all --device cpu --rows 40 --only exact prediction")
    assert "largest difference of a probability, fp32: 0.000" in printed
    assert "fp32 / bare graph: " in printed


def test_a_benchmark_prints_its_help():
    printed = run("benchmarks.training.train --help")
    assert "--only {throughput,small,workers}" in printed
