"""Who may write to a run at a URI."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from lstmfcn.errors import OutputError
from lstmfcn.storage.outputs import run_folder
from lstmfcn.storage.remote import RemoteFolder
from lstmfcn.storage.remote_lock import LOCK, RemoteLock, TakenOverError
from tests.helpers.s3 import within_seconds

NAMES = ("a", "b")


@pytest.fixture
def remote(bucket):
    return RemoteFolder(bucket.uri("run"))


def held_by(bucket, **changes):
    """Make the lock another process's."""
    found = json.loads(bucket.read(f"run/{LOCK}"))
    bucket.put(f"run/{LOCK}", json.dumps(found | {"id": "other"} | changes).encode())


def test_a_lock_is_there_until_it_is_released(bucket, remote):
    lock = RemoteLock(remote)
    lock.take()
    lock.refuse_lost()
    content = json.loads(bucket.read(f"run/{LOCK}"))
    assert content["process"] == os.getpid()
    assert content.keys() == {"id", "host", "process", "machine", "time"}
    lock.release()
    assert bucket.names() == []


def test_a_second_process_is_refused_in_one_line(bucket, remote):
    lock = RemoteLock(remote)
    lock.take()
    before = bucket.read(f"run/{LOCK}")
    with pytest.raises(OutputError, match="another training is running there") as caught:
        RemoteLock(remote).take()
    line = str(caught.value)
    assert f"(process {os.getpid()} on " in line
    assert line.endswith((" in 60 s", " in 59 s", " in 58 s"))
    assert (bucket.names(), bucket.read(f"run/{LOCK}")) == ([f"run/{LOCK}"], before)
    lock.release()


def test_a_lock_of_a_process_of_this_machine_that_has_ended_is_taken_over(bucket, remote):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    lock = RemoteLock(remote)
    lock.take()
    held_by(bucket, process=ended.pid)
    other = RemoteLock(remote)
    other.take()
    assert json.loads(bucket.read(f"run/{LOCK}"))["process"] == os.getpid()
    other.release()
    lock.release()


@pytest.mark.parametrize("change", [{"machine": "other"}, {"machine": ""}, {"process": "x"}])
def test_a_process_of_another_machine_is_told_by_its_silence(bucket, remote, monkeypatch, change):
    lock = RemoteLock(remote)
    lock.take()
    held_by(bucket, **({"process": 2**22} | change))
    other = RemoteLock(remote)
    with pytest.raises(OutputError, match="another training is running there"):
        other.take()
    monkeypatch.setattr("lstmfcn.storage.remote_lock.LOST_AFTER_S", 1.0)
    time.sleep(2.1)  # storages tell seconds
    other.take()
    with pytest.raises(TakenOverError):
        lock.refuse_lost()
    other.release()
    lock.release()
    assert bucket.names() == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_damaged_lock_is_one_until_it_is_old(bucket, remote, content):
    bucket.put(f"run/{LOCK}", content)
    with pytest.raises(OutputError, match="another training is running there"):
        RemoteLock(remote).take()


def test_a_lock_is_renewed(remote, monkeypatch):
    monkeypatch.setattr("lstmfcn.storage.remote_lock.RENEW_EVERY_S", 0.2)
    lock = RemoteLock(remote)
    lock.take()
    before = remote.modified(LOCK)
    time.sleep(2.5)
    assert remote.modified(LOCK) > before
    lock.release()


@pytest.mark.parametrize("is_removed", [False, True])
def test_a_process_whose_lock_was_taken_over_stops_and_overwrites_nothing(
    bucket, monkeypatch, is_removed
):
    monkeypatch.setattr("lstmfcn.storage.remote_lock.RENEW_EVERY_S", 0.2)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background run ignores it
    uri = bucket.uri("run")

    def lose_the_lock():
        with run_folder(uri, NAMES, resume=False) as here:
            here.mkdir()
            (here / "a").write_text("first")
            while True:  # it may be renewed in the moment between a look and a write
                if is_removed:
                    bucket.client.delete_object(Bucket=bucket.name, Key=f"run/{LOCK}")
                else:
                    held_by(bucket)
                time.sleep(0.3)

    try:
        with within_seconds(20), pytest.raises(TakenOverError) as caught:
            lose_the_lock()
    finally:
        signal.signal(signal.SIGINT, before)
    line = str(caught.value)
    assert line.startswith(f"{uri}: ")
    assert line.endswith("it has stopped and overwritten nothing")
    assert ("its .lock was removed" if is_removed else "has taken over") in line
    assert bucket.names() == ([] if is_removed else [f"run/{LOCK}"])


def test_a_run_folder_is_locked_and_its_lock_goes_with_it(bucket):
    uri = bucket.uri("run")
    bucket.put("run/foreign", b"x")
    with run_folder(uri, NAMES, resume=False) as here:
        assert not here.exists()
        here.mkdir()
        (here / "a").write_text("1")
        with pytest.raises(OutputError, match="another"), run_folder(uri, NAMES, resume=True):
            pass
    assert bucket.names("run/") == ["a", "foreign"]
    with run_folder(uri, NAMES, resume=True) as here:
        assert [(path.name, path.read_text()) for path in here.iterdir()] == [("a", "1")]
    with run_folder(uri, NAMES, resume=False) as here:
        assert [(path.name, path.read_text()) for path in here.iterdir()] == [("a", "")]
