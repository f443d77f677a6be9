"""No cluster: the process of the command works alone, and whoever starts or asks Ray fails."""

import pytest

from tests.helpers.commands import run_job, run_refused


@pytest.fixture(scope="module", autouse=True)
def no_cluster():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setattr("ray.is_initialized", lambda: False)
        for name in ("init", "get", "put", "nodes"):
            patch.setattr(f"ray.{name}", None)
        yield


@pytest.fixture(scope="module")
def job():
    """Run what ``jobs/NAME.py`` runs, with flags."""
    return run_job


@pytest.fixture(scope="module")
def refused():
    """Run a command that ends with exit code 2; returns its last line on stderr."""
    return run_refused
