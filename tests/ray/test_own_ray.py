"""Ray that a command starts itself: whose files it is, and what is told where it ends."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from tests.helpers.checkout import REPOSITORY
from tests.helpers.killing import epochs_in, wait_until
from tests.helpers.problems import TINY, as_flags, waves, write

WORKERS = ["--num-workers", "2", "--cpus-per-worker", "1"]
MEMBERS = ["--cpus-per-worker", "1"]
HYPERPARAMETERS = TINY.model_copy(update={"epochs": 30000})


@pytest.mark.parametrize("is_foreseen", [True, False])
def test_a_training_of_one_worker_starts_ray_if_its_rows_do_not_fit_into_memory(
    is_foreseen, tmp_path
):
    """With a limit of 10 kB. Of a file that compresses well, its size does not tell."""
    output = tmp_path / "run"
    if is_foreseen:
        data = write(tmp_path / "data", waves(500), 2)
    else:
        data = tmp_path / "data.csv.gz"
        pd.concat([waves(5)] * 100).to_csv(data, index=False)
    words = [sys.executable, "-m", "lstmfcn", "train", "--train", data, "--output", output]
    words += [*as_flags(TINY.model_dump()), "--cpus-per-worker", "1", "--memory-gb", "0.00001"]
    done = subprocess.run(
        [str(word) for word in words],
        cwd=REPOSITORY,
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Ray is up: " in done.stderr
    assert "rows take 24 kB, more than the limit of 10 kB: in blocks in Ray's obj" in done.stderr
    again = "the rows take more than the memory limit of 10 kB: reading them again, into blocks"
    assert (again in done.stderr) == (not is_foreseen)
    assert "Traceback" not in done.stderr
    assert (output / "model").exists()


@contextmanager
def training(folder, flags, **environment):
    """A training that would take long, of two workers or members, on a Ray of its own."""
    data, output = write(folder / "data", waves(100)), folder / "run"
    words = [sys.executable, "-m", "lstmfcn", "train", "--train", data, "--output", output, *flags]
    members = 1 if flags == WORKERS else 2
    words += as_flags(HYPERPARAMETERS.model_dump() | {"members": members})
    first = output if flags == WORKERS else output / "members" / "00"
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
            wait_until(lambda: epochs_in(first) >= 2 or process.poll() is not None, "epoch 2", 300)
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


@pytest.mark.parametrize(("name", "flags"), [("gcs_server", WORKERS), ("raylet", MEMBERS)])
def test_the_end_of_ray_is_told_soon_and_its_files_are_this_users_alone(name, flags, tmp_path):
    """The home folder is new, or cannot be written; the temporary one has too long a path."""
    home, temporary = tmp_path / "home", tmp_path / ("long" * 20)
    home.mkdir()
    temporary.mkdir()
    environment = {"TMPDIR": temporary, "HOME": home if name == "raylet" else "/proc"}
    with training(tmp_path, flags, **environment) as process:
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
        f"lstmfcn train --output {tmp_path / 'run'} {' '.join(flags)} --resume"
    )
    assert not [line for line in told if "Traceback" in line]
