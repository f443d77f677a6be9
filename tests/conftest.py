"""For all tests. How long an example takes is for benchmarks to measure, not for properties.

Tests on Ray share one local Ray; commands that they start as processes use it too.
"""

import os
import re
import signal
import subprocess
import sys

import pytest
from hypothesis import settings

from tests.helpers.checkout import REPOSITORY

FOLDERS = {
    REPOSITORY / "tests" / "ray": "ray",
    REPOSITORY / "tests" / "distributed": "slow",
    REPOSITORY / "tests" / "gpu": "slow",
}
"""The mark of all tests of a folder."""

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
"""Threads of PyTorch that wait leave the CPU to other processes, of which tests start many."""

if "PYTEST_XDIST_WORKER" in os.environ:  # threads of two processes would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell script
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("suite", deadline=None)
settings.load_profile("suite")

MARK = re.compile(r"^pytestmark = pytest\.mark\.(slow|ray|usefixtures\(.cluster.\))", re.MULTILINE)
"""The mark of all tests of a file."""


def pytest_ignore_collect(collection_path, config):
    """Do not import a file all of whose tests are left out: what it imports takes seconds."""
    left_out = re.findall(r"not (\w+)", config.option.markexpr)
    if collection_path.suffix != ".py" or not left_out:
        return None
    marks = MARK.findall(collection_path.read_text())
    found = {"ray" if mark.startswith("use") else mark for mark in marks}
    found.add(FOLDERS.get(collection_path.parent))
    return True if found & set(left_out) else None


def pytest_collection_modifyitems(items):
    """Mark what starts Ray, or uses one, and what trains by whole commands."""
    for item in items:
        if mark := FOLDERS.get(item.path.parent):
            item.add_marker(mark)
        if "cluster" in getattr(item, "fixturenames", ()):
            item.add_marker("ray")


@pytest.fixture(autouse=True)
def threads_as_before():
    """Leave PyTorch as many threads as it had: a training in this process takes all CPUs."""
    n_threads = torch.get_num_threads() if (torch := sys.modules.get("torch")) else None
    yield
    if n_threads and torch:
        torch.set_num_threads(n_threads)


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
def s3_address():
    """The address of an S3 server."""
    from tests.helpers.s3 import moto_server

    with moto_server() as address:
        yield address


@pytest.fixture
def bucket(s3_address):
    """A new bucket, whose server the environment names."""
    from tests.helpers.s3 import Bucket

    with Bucket(s3_address).in_use() as bucket:
        yield bucket


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


@pytest.fixture(scope="session")
def refused(cluster):  # noqa: ARG001 - the Ray that it finds
    """Run a command in this process that ends with exit code 2; returns its last line on stderr."""
    from tests.helpers.commands import run_refused

    return run_refused


@pytest.fixture(scope="session")
def job(cluster):  # noqa: ARG001 - the Ray that it finds
    """Run what ``jobs/NAME.py`` runs, with flags, in this process, which has all of it imported."""
    from tests.helpers.commands import run_job

    return run_job
