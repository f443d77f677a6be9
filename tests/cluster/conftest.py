"""One local Ray for the whole run; commands that tests start as processes use it too."""

import os
import subprocess
import sys

import pytest
from checkout import REPOSITORY

from lstmfcn.cli import main


@pytest.fixture(scope="session")
def cluster():
    """A Ray of four logical CPUs, so that two workers and Ray Data fit on two real ones."""
    import ray

    from lstmfcn.distributed.runtime import prepare_environment

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

    def run(*arguments):
        assert main([str(argument) for argument in arguments]) == 2
        told = capsys.readouterr().err
        assert "Traceback" not in told
        return told.splitlines()[-1]

    return run


@pytest.fixture(scope="session")
def job(run_command):
    """Run ``jobs/NAME.py`` with flags."""

    def run(name, *flags):
        return run_command(sys.executable, REPOSITORY / "jobs" / f"{name}.py", *flags)

    return run
