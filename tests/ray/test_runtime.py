"""Ray as this package uses it: found, refused without its token, too slow, left as it was."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import ray
from packaging.version import Version

from lstmfcn.distributed.cluster import ray_runtime
from lstmfcn.distributed.failures import unwrap_ray_error
from lstmfcn.errors import DataError
from tests.helpers.checkout import REPOSITORY
from tests.helpers.killing import wait_until
from tests.helpers.problems import waves, write


@pytest.mark.parametrize(
    ("mode", "token", "message"),
    [
        ("", None, "the cluster needs its auth token, which Ray sends in token mode only; run "
                   "export RAY_AUTH_MODE=token"),
        ("token", "", "no auth token found; put the cluster's token in ~/.ray/auth_token, or set "
                      "RAY_AUTH_TOKEN_PATH to its file"),
        ("token", "0" * 64, "the cluster refused the auth token; put the cluster's token in "
                            "~/.ray/auth_token, or set RAY_AUTH_TOKEN_PATH to its file"),
    ],
)  # fmt: skip
def test_a_cluster_that_wants_another_token_is_told_from_none(
    mode, token, message, cluster, tmp_path
):
    if mode != "token" or token:
        skip_without_tokens()
    environment = {name: v for name, v in os.environ.items() if not name.startswith("RAY_AUTH")}
    if mode:
        environment["RAY_AUTH_MODE"] = mode
    if token is not None:
        environment["RAY_AUTH_TOKEN_PATH"] = str(tmp_path / "token")
        (tmp_path / "token").write_text(token)
        (tmp_path / "token").chmod(0o600)
    assert refusal(cluster, environment) == f"RAY_ADDRESS={cluster}: {message}"


def skip_without_tokens():
    """Skip where Ray asks for no token unless it is told to."""
    if Version(ray.__version__) < Version("2.60"):
        pytest.skip("a Ray before 2.60 asks for a token in RAY_AUTH_MODE=token only")


def refusal(address, environment):
    """What a program that wants this cluster ends with, within seconds."""
    program = "from lstmfcn.distributed.cluster import ray_runtime\nwith ray_runtime(): pass"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment | {"RAY_ADDRESS": address},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    return done.stderr.splitlines()[-1].removeprefix("lstmfcn.errors.ResourceError: ")


@pytest.mark.usefixtures("cluster")
def test_what_is_stopped_amid_an_import_ends_after_it(tmp_path, monkeypatch):
    """Else a process ends with the traceback of the import, or waits for its lock forever."""
    (tmp_path / "slow_module.py").write_text("import time\ntime.sleep(0.3)\nloaded = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyboardInterrupt), ray_runtime(meanwhile="slow_module"):
        raise KeyboardInterrupt
    assert sys.modules["slow_module"].loaded


TOO_SLOW = """
import itertools, sys, time, types
from ray._private import node, services

def unknown(*arguments):
    raise RuntimeError("not yet")

minutes = itertools.count(0, 60)
node.time = types.SimpleNamespace(monotonic=lambda: next(minutes), sleep=time.sleep, time=time.time)
services.get_node = unknown
from lstmfcn.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
"""On a machine so busy that Ray's first node does not come up."""


def test_a_ray_that_starts_too_slowly_is_told_in_a_line_and_leaves_nothing_running(tmp_path):
    write(tmp_path / "data", waves(20))
    environment = {name: v for name, v in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [
            *(sys.executable, "-c", TOO_SLOW, "train", "data", "--output", "run"),
            *("--num-workers", "2", "--cpus-per-worker", "1"),
        ],
        env=environment | {"PYTHONPATH": str(REPOSITORY), "STARTED_BY": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("lstmfcn: Ray did not start within 30 s, twice")
    assert not (tmp_path / "run").exists()
    wait_until(lambda: not raylets(tmp_path), "the end of all that was started")


def raylets(started_by):
    """Ids of the processes that are a node of a Ray that was started with this environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_node = (process / "comm").read_text().strip() in ("raylet", "gcs_server")
            if is_node and f"STARTED_BY={started_by}" in (process / "environ").read_text():
                found.append(process.name)
    return found


def test_a_ray_that_was_there_stays(cluster):
    with ray_runtime():
        assert ray.get_runtime_context().gcs_address == cluster
    assert ray.is_initialized()


@pytest.mark.usefixtures("cluster")
def test_an_error_of_ours_comes_back_from_a_task_with_all_its_parts():
    @ray.remote
    def fail():
        raise DataError("x", "do y", file="f.csv", row=3, column="x_1")

    with pytest.raises(ray.exceptions.RayError) as caught:
        ray.get(fail.remote())
    error = unwrap_ray_error(caught.value)
    assert type(error) is DataError
    assert (error.file, error.row, error.column) == ("f.csv", 3, "x_1")
    assert str(error) == "f.csv, row 3, column x_1: found x; do y"
    assert unwrap_ray_error(ValueError("a bug")) is None
