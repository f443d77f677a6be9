"""Before Ray starts: what this machine does not have, who can read the token, failed starts."""

import os
import signal
import subprocess
import sys
import time

import pytest

from lstmfcn.cli.main import main
from lstmfcn.distributed.own_ray import _home_token, _start, _watched
from tests.helpers.killing import wait_until
from tests.helpers.problems import waves, write


@pytest.mark.parametrize("command", ["train", "tune"])
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num-workers", 9999], "no room for 9,999 workers of 1 CPU: this machine has "),
        (["--cpus-per-worker", 9999], "no room for 1 worker of 9,999 CPUs: this machine has "),
        (["--use-gpu"], "this machine has no GPU; leave --use-gpu out, or name a cluster in "),
    ],
)
def test_more_than_the_machine_has_is_refused_before_ray_starts(
    command, flags, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("lstmfcn.distributed.requests._GPU_DEVICES", ())
    data, output = write(tmp_path / "data", waves(30)), tmp_path / "run"
    words = [command, "--train", data, "--validation", data, "--output", output, *flags]
    assert main([str(word) for word in words]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"lstmfcn: {message}")
    assert told.count("\n") == 1
    assert not output.exists()


def test_a_token_that_others_could_read_is_closed_to_them(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert _home_token()
    token = tmp_path / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o777 == 0o600
    made = token.read_text()
    token.chmod(0o644)
    assert _home_token()
    assert token.stat().st_mode & 0o777 == 0o600
    assert token.read_text() == made
    assert [path.name for path in token.parent.iterdir()] == ["auth_token"]


@pytest.mark.parametrize("home", [None, "", "/proc"])
def test_a_home_that_cannot_hold_a_token_is_told_from_one_that_can(home, monkeypatch):
    monkeypatch.delenv("HOME")
    if home is not None:
        monkeypatch.setenv("HOME", home)
    assert not _home_token()


RAYLET = """
import time
with open("/proc/self/comm", "w") as name:
    name.write("raylet")
print(flush=True)
time.sleep(60)
"""


def test_a_start_that_failed_is_killed_and_not_watched(monkeypatch):
    """Its own processes, which Ray has not collected, and no other Ray of this process."""
    started, told = [], []

    def init(**_):
        started.append(subprocess.Popen([sys.executable, "-c", RAYLET], stdout=subprocess.PIPE))
        started[-1].stdout.readline()
        if len(started) == 2:
            raise TimeoutError("The current node timed out during startup")

    init()  # another Ray
    monkeypatch.setattr("lstmfcn.distributed.own_ray.init_ray", init)
    monkeypatch.setattr("lstmfcn.distributed.own_ray.end_now", lambda *line: told.append(line))
    monkeypatch.setattr("lstmfcn.distributed.own_ray._POLL_INTERVAL_S", 0.05)
    _start()
    assert started[0].poll() is None
    ended = os.waitid(os.P_PID, started[1].pid, os.WEXITED | os.WNOWAIT)
    assert ended.si_status == signal.SIGKILL
    connected = True
    monkeypatch.setattr("ray.is_initialized", lambda: connected)
    try:
        with _watched():
            time.sleep(0.5)
            assert not told
            connected = False  # as one who shuts Ray down inside the block is
            started[2].kill()
            time.sleep(0.5)
            assert not told
            connected = True
            wait_until(lambda: told, "the end of the third", 10)
        assert told[0] == ("Ray ended: its process raylet was killed or crashed", 1)
    finally:
        for process in started:
            process.kill()
            process.communicate()
