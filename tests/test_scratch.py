import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lstmfcn.errors import ResourceError
from lstmfcn.scratch import scratch_folder

HOLDER = """
import sys
from lstmfcn.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "deep" / "er").mkdir(parents=True)
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """A folder for temporary files of this test's own, as TMPDIR names it."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.fixture
def holder():
    """Another process that holds a folder, and the folder."""
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


def test_what_a_killed_process_left_is_removed_by_the_next_and_what_others_hold_stays(holder):
    process, held = holder
    with scratch_folder():
        assert held.exists()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (held / "deep").exists()
    with scratch_folder() as folder:
        assert not held.exists()
        assert folder.exists()


def test_what_nobody_is_known_to_have_made_stays(temporary):
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
    with scratch_folder(most_bytes=30) as folder:
        assert folder.parent == Path("/tmp")
        assert len(str(folder)) <= 30
    with scratch_folder(most_bytes=300) as folder:
        assert folder.parent == temporary
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ResourceError) as refusal, scratch_folder(most_bytes=30):
        pass
    assert str(refusal.value) == (
        f"the folder for temporary files, {temporary}, has too long a path for sockets, and /tmp "
        "cannot be written to; set TMPDIR to a folder of a short path"
    )


def test_no_folder_for_temporary_files_is_told_in_a_line(monkeypatch):
    def none():
        raise FileNotFoundError

    monkeypatch.setattr(tempfile, "gettempdir", none)
    with pytest.raises(ResourceError) as refusal, scratch_folder():
        pass
    assert str(refusal.value) == (
        "no folder for temporary files can be written to; set TMPDIR to one that can"
    )
