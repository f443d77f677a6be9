"""No cluster: the process of the command works alone, and whoever starts or asks Ray fails."""

import pytest

from tests.helpers.commands import run_job, run_refused
from tests.helpers.no_cluster import no_cluster
from tests.helpers.runs import start_train


@pytest.fixture(scope="module", autouse=True)
def _no_cluster():
    with no_cluster():
        yield


@pytest.fixture(scope="module")
def job():
    """Run what ``jobs/NAME.py`` runs, with flags."""
    return run_job


@pytest.fixture(scope="module")
def refused():
    """Run a command that ends with exit code 2; returns its last line on stderr."""
    return run_refused


@pytest.fixture
def start():
    """Start ``lstmfcn train`` as a process."""
    started = []

    def start(*flags):
        started.append(start_train(*flags))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()
