"""Ray that a command starts itself: whose files it is, and what is told where it ends."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from lstmfcn.cli.main import main
from lstmfcn.distributed.own_ray import _home_token, _start, _watched
from tests.helpers.checkout import REPOSITORY
from tests.helpers.killing import epochs_in, wait_until
from tests.helpers.problems import TINY, as_flags, waves, write

FLAGS = [
    "--num-workers",
    "2",
    "--cpus-per-worker",
    "1",
    *as_flags(TINY.model_dump() | {"epochs": 30000}),
]


@contextmanager
def training(folder, **environment):
    """A training that would take long, on a Ray of its own."""
    data, output = write(folder / "data", waves(100)), folder / "run"
    words = [sys.executable, "-m", "lstmfcn", "train", "--train", data, "--output", output, *FLAGS]
    ours = {name: v for name, v in os.environ.items() if name not in ("RAY_ADDRESS", "HOME")}
    ours = {name: v for name, v in ours.items() if not name.startswith("RAY_AUTH")}
    with subprocess.Popen(
        [str(word) for word in words],
        cwd=REPOSITORY,
        env=ours | {name: str(value) for name, value in environment.items()},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        umask=0o022,
    ) as process:
        try:
            wait_until(lambda: epochs_in(output) >= 2 or process.poll() is not None, "epoch 2", 300)
            assert process.poll() is None, process.stderr.read()
            yield process
        finally:
            process.kill()


def processes(of, name):
    """Children of a process that have this name."""
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            told = status.read_text()
        except OSError:
            continue
        if re.search(rf"^Name:\t{name}$", told, re.M) and f"\nPPid:\t{of}\n" in told:
            yield int(status.parent.name)


def ray_folder(of):
    """The folder of a command's own Ray, of this user alone, and that of its session in it."""
    (raylet,) = processes(of, "raylet")
    command = (Path("/proc") / str(raylet) / "cmdline").read_text()
    session = Path(re.search(r"--session_dir=([^\0]+)", command).group(1))
    return session.parent.parent, session


@pytest.mark.parametrize("name", ["gcs_server", "raylet"])
def test_the_end_of_ray_is_told_soon_and_its_files_are_this_users_alone(name, tmp_path):
    """The home folder is new, or there is none; the one for temporary files has too long a path."""
    home, temporary = tmp_path / "home", tmp_path / ("long" * 20)
    home.mkdir()
    temporary.mkdir()
    environment = {"TMPDIR": temporary} | ({"HOME": home} if name == "raylet" else {})
    with training(tmp_path, **environment) as process:
        folder, session = ray_folder(process.pid)
        assert folder.parent == Path("/tmp")
        assert folder.stat().st_mode & 0o777 == 0o700
        assert session.exists()
        token = home / ".ray" / "auth_token" if name == "raylet" else folder / "auth_token"
        assert token.stat().st_mode & 0o777 == 0o600
        assert len(token.read_text()) == 64
        (pid,) = processes(process.pid, name)
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        told = process.communicate(timeout=30)[1].splitlines()
        assert time.monotonic() - killed < 10
    assert process.returncode == 1
    assert told[-1] == (
        f"lstmfcn: Ray ended: its process {name} was killed or crashed; resume with: python -m "
        f"lstmfcn train --output {tmp_path / 'run'} --num-workers 2 --cpus-per-worker 1 --resume"
    )
    assert not [line for line in told if "Traceback" in line]


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
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("lstmfcn.distributed.requests._GPU_DEVICES", ())
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", None)
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


def test_a_start_that_failed_is_killed_and_not_watched(tmp_path, monkeypatch):
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
    _start(tmp_path)
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
