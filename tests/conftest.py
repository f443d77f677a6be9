"""For all tests. How long an example takes is for benchmarks to measure, not for properties.

Tests on Ray share one local Ray; commands that they start as processes use it too.
"""

import io
import logging
import os
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple

import pytest
from hypothesis import settings

from tests.helpers.checkout import REPOSITORY

RAY = REPOSITORY / "tests" / "ray"

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
"""Threads of PyTorch that wait leave the CPU to other processes, of which tests start many."""

settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


def pytest_collection_modifyitems(items):
    """Mark what starts Ray, or uses one, so that ``-m "not ray"`` leaves it out."""
    for item in items:
        if RAY in item.path.parents or "cluster" in getattr(item, "fixturenames", ()):
            item.add_marker("ray")


class Ended(NamedTuple):
    """A command that has ended, as `subprocess.CompletedProcess` has it."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def cluster():
    """A Ray of four logical CPUs, so that two workers and Ray Data fit on two real ones."""
    import ray

    from lstmfcn.distributed.cluster import prepare_environment

    prepare_environment()
    context = ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield context.address_info["gcs_address"]
    ray.shutdown()


@pytest.fixture(scope="session")
def run_command(cluster):
    """Run a command as a user would, against the shared Ray; returns the finished process."""

    def run(*arguments, cwd=REPOSITORY, timeout=300):
        environment = os.environ | {"RAY_ADDRESS": cluster, "PYTHONWARNINGS": "default"}
        return subprocess.run(
            [str(argument) for argument in arguments],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture
def refused(cluster, capsys):  # noqa: ARG001 - the Ray that it finds
    """Run a command in this process that ends with exit code 2; returns its last line on stderr."""

    from lstmfcn.cli.main import main

    def run(*arguments):
        assert main([str(argument) for argument in arguments]) == 2
        told = capsys.readouterr().err
        assert "Traceback" not in told
        return told.splitlines()[-1]

    return run


@pytest.fixture(scope="session")
def job(cluster):  # noqa: ARG001 - the Ray that it finds
    """Run what ``jobs/NAME.py`` runs, with flags, in this process, which has all of it imported."""
    from lstmfcn.cli.main import main

    def run(name, *flags):
        stdout, stderr = io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            redirect_stdout(stdout),
            redirect_stderr(stderr),
        ):
            patch.setattr(logging.root, "handlers", [])  # pytest's, which would take all lines
            code = main([name, *map(str, flags)])
        return Ended(code, stdout.getvalue(), stderr.getvalue())

    return run
