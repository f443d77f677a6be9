import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lstmfcn.errors import ResourceError
from lstmfcn.storage.scratch import scratch_folder

HOLDER = """
import sys
from lstmfcn.storage.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "deep" / "er").mkdir(parents=True)
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Set TMPDIR to a folder of this test."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.fixture
def holder():
    """Start another process with a scratch folder; give the process and its folder."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_a_folder_is_its_users_alone_and_ends_with_its_block(temporary):
    before = os.umask(0)
    try:
        with scratch_folder() as folder:
            assert folder.parent == temporary
            assert folder.stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)
    assert not any(temporary.iterdir())


def test_folders_of_killed_processes_are_removed_by_the_next(holder):
    process, held = holder
    with scratch_folder():
        assert held.exists()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (held / "deep").exists()
    with scratch_folder() as folder:
        assert not held.exists()
        assert folder.exists()


def test_folders_without_a_lock_are_not_removed(temporary):
    for name in ("ours", "pipe", "held"):
        (temporary / f"lstmfcn-{name}").mkdir()
    os.mkfifo(temporary / "lstmfcn-pipe" / ".held")
    (temporary / "locked").touch()
    (temporary / "lstmfcn-held" / ".held").symlink_to(temporary / "locked")
    (temporary / "lstmfcn-link").symlink_to(temporary / "lstmfcn-ours")
    with scratch_folder():
        pass
    left = {path.name for path in temporary.iterdir()}
    assert left >= {"lstmfcn-link", "lstmfcn-ours", "lstmfcn-held", "locked"}


def test_a_folder_for_sockets_is_short(temporary, monkeypatch):
    with scratch_folder(max_bytes=30) as folder:
        assert folder.parent == Path("/tmp")
        assert len(str(folder)) <= 30
    with scratch_folder(max_bytes=300) as folder:
        assert folder.parent == temporary
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ResourceError) as refusal, scratch_folder(max_bytes=30):
        pass
    assert str(refusal.value) == (
        f"the path of the folder for temporary files, {temporary}, is too long for sockets, and "
        "/tmp is not writable; set TMPDIR to a folder with a short path"
    )


def test_a_missing_folder_for_temporary_files_is_reported_in_one_line(monkeypatch):
    def none():
        raise FileNotFoundError

    monkeypatch.setattr(tempfile, "gettempdir", none)
    with pytest.raises(ResourceError) as refusal, scratch_folder():
        pass
    assert str(refusal.value) == (
        "no folder for temporary files is writable; set TMPDIR to a writable folder"
    )
