import os
import signal
import subprocess
import sys

from lstmfcn.scratch import scratch_folder

HOLD = """
import sys, time
from pathlib import Path
from lstmfcn.scratch import scratch_folder
with scratch_folder("mine-", Path(sys.argv[1])) as folder:
    print(folder, flush=True)
    time.sleep(60)
"""


def held(where):
    """A process that holds a folder, and the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(where)], stdout=subprocess.PIPE, text=True
    )
    return process, process.stdout.readline().strip()


def test_it_is_of_this_user_alone_and_gone_afterwards(tmp_path):
    with scratch_folder("mine-", tmp_path) as folder:
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "deep").mkdir()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_goes_and_what_a_living_one_holds_stays(tmp_path):
    (killed, left), (living, kept) = held(tmp_path), held(tmp_path)
    with killed, living:
        try:
            os.kill(killed.pid, signal.SIGKILL)
            killed.wait()
            with scratch_folder("mine-", tmp_path) as folder:
                assert {str(path) for path in tmp_path.iterdir()} == {kept, str(folder)}
                assert left != str(folder)
        finally:
            living.kill()


def test_nothing_else_is_waited_for_followed_or_removed(tmp_path):
    for name in ("pipe", "link", "folder", "nothing"):
        (tmp_path / f"mine-{name}").mkdir()
    os.mkfifo(tmp_path / "mine-pipe" / "owner.pid")
    (tmp_path / "locked").write_text("")
    (tmp_path / "mine-link" / "owner.pid").symlink_to(tmp_path / "locked")
    (tmp_path / "mine-to").symlink_to(tmp_path)
    (tmp_path / "mine-file").write_text("")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "owner.pid").write_text("1")
    with scratch_folder("mine-", tmp_path):
        pass
    left = {path.name for path in tmp_path.iterdir()}
    assert left >= {"mine-link", "mine-folder", "mine-nothing", "mine-to", "mine-file", "other"}
