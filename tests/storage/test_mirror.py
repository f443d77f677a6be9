"""A folder at a URI follows a local one, and whoever is killed in between leaves it usable."""

import json
import shutil
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs

from lstmfcn.errors import OutputError
from lstmfcn.storage.files import atomic_directory, new_folder
from lstmfcn.storage.mirror import Mirror, following
from lstmfcn.storage.outputs import fetched, followed_folder, output_file, output_folder, whole_file
from lstmfcn.storage.remote import RemoteFolder
from lstmfcn.training.checkpoints import Position, find_newest_position, write_checkpoint
from tests.helpers.killing import wait_until
from tests.helpers.s3 import Proxy

ALL, NONE = (lambda _: True), (lambda _: False)


def write(folder, name, text="1"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def mirror(bucket, folder, **options):
    return Mirror(RemoteFolder(bucket.uri("run")), folder, **options)


def test_what_changes_is_sent_and_what_is_gone_is_removed(bucket, tmp_path):
    there = mirror(bucket, tmp_path)
    there.sketch(ALL)
    write(tmp_path, "a")
    write(tmp_path, "deep/b")
    write(tmp_path, ".hidden")
    write(tmp_path, ".rows/x")
    there.send()
    assert bucket.names("run/") == ["a", "deep/b"]
    write(tmp_path, "a", "two")
    shutil.rmtree(tmp_path / "deep")
    there.send()
    assert (bucket.names("run/"), bucket.read("run/a")) == (["a"], b"two")


def test_nothing_is_asked_while_nothing_changes(bucket, tmp_path):
    write(tmp_path, "a")
    with Proxy(bucket.address) as proxy, bucket.in_use(proxy.address):
        there = mirror(bucket, tmp_path)
        there.send()
        n_requests = len(proxy.requests)
        for _ in range(3):
            there.send()
        assert len(proxy.requests) == n_requests


def test_a_sketch_has_all_names_and_the_content_that_is_read(bucket, tmp_path):
    for name in ("run.json", "model/model.json", "foreign.txt"):
        bucket.put(f"run/{name}", b"content")
    there = mirror(bucket, tmp_path / "run", owned=lambda name: name != "foreign.txt")
    there.sketch(lambda name: name == "run.json")
    folder = there.folder
    assert (folder / "run.json").read_text() == "content"
    assert (folder / "model" / "model.json").read_text() == ""
    assert not (folder / "foreign.txt").exists()
    there.send()
    assert bucket.read("run/model/model.json") == b"content"
    shutil.rmtree(folder)
    there.send()
    assert bucket.names("run/") == ["foreign.txt"]


def test_descriptions_come_last_and_go_first(bucket, tmp_path):
    write(tmp_path, "model/model.json")
    write(tmp_path, "model/model.safetensors")
    with Proxy(bucket.address) as proxy, bucket.in_use(proxy.address):
        there = mirror(bucket, tmp_path)
        there.send()
        assert written(proxy) == ["PUT model.safetensors", "PUT model.json"]
        proxy.requests.clear()
        write(tmp_path, "model/model.safetensors", "other")
        write(tmp_path, "model/model.json", "other")
        there.send()
        assert written(proxy) == ["DELETE model.json", "PUT model.safetensors", "PUT model.json"]
        proxy.requests.clear()
        shutil.rmtree(tmp_path / "model")
        there.send()
        assert written(proxy) == ["DELETE model.json", "DELETE model.safetensors"]


def written(proxy):
    """The requests that write or delete files, in order, with the files' names."""
    return [
        f"{method} {path.partition('?')[0].rpartition('/')[2]}"
        for method, path in proxy.requests
        if method in ("PUT", "DELETE") and not path.partition("?")[0].endswith("/")
    ]


class _KilledError(BaseException):
    """The process is killed here."""


class _Mortal(RemoteFolder):
    """A remote folder whose user is killed after some files were sent or removed."""

    lives: int

    def __init__(self, folder, lives):
        super().__init__("hdfs://host/run")
        self._filesystem, self.lives = (
            fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem()),
            lives,
        )

    def upload(self, folder, names):
        gone = set()
        for name in names:
            self._live()
            gone |= super().upload(folder, [name])
        return gone

    def remove(self, names):
        for name in names:
            self._live()
            super().remove([name])

    def _live(self):
        self.lives -= 1
        if self.lives < 0:
            raise _KilledError


@settings(max_examples=12)
@given(lives=st.integers(0, 25), between=st.lists(st.integers(1, 3), min_size=1, max_size=4))
def test_whoever_is_killed_leaves_a_run_that_can_be_resumed(tmp_path_factory, lives, between):
    """Checkpoints are written and rotated between any two calls of `send`."""
    base = tmp_path_factory.mktemp("killed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lstmfcn.storage.remote.locate", lambda _: (fs.LocalFileSystem(), "run"))
        (base / "there").mkdir()
        there = Mirror(_Mortal(base / "there", lives), base / "here")
        checkpoints, epoch, complete = base / "here" / "checkpoints", 0, 0
        (base / "here").mkdir()
        try:
            for n_epochs in between:
                for _ in range(n_epochs):
                    epoch += 1
                    write_checkpoint(checkpoints, Position(epoch), b"%d" % epoch)
                there.send()
                complete = epoch
        except _KilledError:
            pass
        found = find_newest_position(base / "there" / "run" / "checkpoints")
        assert complete <= found.epoch <= epoch


@given(lives=st.integers(0, 30))
@settings(max_examples=15)
def test_an_overwritten_run_is_gone_before_the_new_one_comes(tmp_path_factory, lives):
    base = tmp_path_factory.mktemp("overwritten")
    for name in ("run.json", "metrics.jsonl", "checkpoints/epoch-9/checkpoint.json"):
        write(base / "there" / "run", name, "old")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lstmfcn.storage.remote.locate", lambda _: (fs.LocalFileSystem(), "run"))
        there = Mirror(_Mortal(base / "there", lives), base / "here")
        there.sketch(NONE)
        shutil.rmtree(base / "here")
        write(base / "here", "run.json", "new")
        write(base / "here", "checkpoints/epoch-1/checkpoint.json", "new")
        with suppress(_KilledError):
            there.send()
    contents = {path.read_text() for path in (base / "there").rglob("*") if path.is_file()}
    assert contents in ({"old"}, {"new"}, set())


def test_files_are_sent_while_the_command_runs_and_after_its_end(bucket, tmp_path):
    there = mirror(bucket, tmp_path)
    with following(there, "run"):
        write(tmp_path, "a")
        wait_until(lambda: bucket.names("run/") == ["a"], "a file that is sent")
        write(tmp_path, "b")
    assert bucket.names("run/") == ["a", "b"]


def test_an_outage_is_told_once_and_what_was_missing_comes_later(bucket, tmp_path, caplog):
    caplog.set_level("INFO")
    down = threading.Event()
    with Proxy(bucket.address) as proxy, bucket.in_use(proxy.address):
        proxy.hinder = lambda *_: 403 if down.is_set() else None
        with following(mirror(bucket, tmp_path), "run"):
            down.set()
            write(tmp_path, "a")
            wait_until(lambda: "what is missing is sent later" in caplog.text, "a warning")
            down.clear()
            wait_until(lambda: "run: all is sent" in caplog.text, "the end of the outage")
            assert bucket.names("run/") == ["a"]
    assert caplog.text.count("access is denied") == 1


def test_what_cannot_be_sent_at_the_end_is_kept(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr("lstmfcn.storage.mirror._FIRST_PAUSE_S", 0.01)
    with Proxy(bucket.address) as proxy, bucket.in_use(proxy.address):
        there = mirror(bucket, tmp_path / "run")
        proxy.hinder = lambda *_: 403
        with pytest.raises(OutputError, match="access is denied") as caught, following(there, "r"):
            write(tmp_path / "run", "model/model.json", "precious")
    kept = Path(str(caught.value).rpartition("what could not be sent is kept in ")[2])
    assert (kept / "model" / "model.json").read_text() == "precious"
    shutil.rmtree(kept.parent)


def test_a_local_place_is_its_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with output_folder("out") as folder:
        assert folder == Path("out")
    with followed_folder(tmp_path / "out", ALL) as output:
        assert output.folder == output.place == tmp_path / "out"
        output.send()
    with output_file("out", overwrite=False) as path:
        assert path == Path("out")
    with fetched("out", ("a",)) as folder, whole_file(tmp_path / "x") as path:
        assert (folder, path) == (Path("out"), tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_rules_for_folders_hold_at_uris(bucket):
    bucket.put("out/notes.txt", b"mine")
    uri = bucket.uri("out")
    with pytest.raises(OutputError, match=rf"^{uri}: is not empty"), output_folder(uri) as folder:
        new_folder(folder)
    with (
        pytest.raises(OutputError, match=rf"^{uri}: contains notes.txt, which would be lost"),
        output_folder(uri) as folder,
        atomic_directory(folder) as unfinished,
    ):
        write(unfinished, "part-000.csv")
    assert bucket.names() == ["out/notes.txt"]
    with output_folder(uri) as folder, atomic_directory(folder, ["notes.txt"]) as unfinished:
        write(unfinished, "part-000.csv", "rows")
    assert bucket.names() == ["out/part-000.csv"]
    assert bucket.read("out/part-000.csv") == b"rows"


def test_after_an_error_nothing_is_sent(bucket):
    with suppress(ZeroDivisionError), output_folder(bucket.uri("out")) as folder:
        write(folder, "half")
        raise ZeroDivisionError
    with suppress(ZeroDivisionError), whole_file(bucket.uri("out/x")) as path:
        path.write_text("half")
        raise ZeroDivisionError
    assert bucket.names() == []


def test_a_file_at_a_uri(bucket):
    uri = bucket.uri("a/model.onnx")
    for overwrite, text in ((False, "one"), (True, "two")):
        with output_file(uri, overwrite=overwrite) as path:
            assert not path.exists()
            path.write_text(text)
    assert (bucket.names(), bucket.read("a/model.onnx")) == (["a/model.onnx"], b"two")
    for place, reason in ((uri, "exists already; add --overwrite"), (bucket.uri(), "is a bucket")):
        with (
            pytest.raises(OutputError, match=f"{place}: {reason}"),
            output_file(place, overwrite=False),
        ):
            pass


def test_a_fetched_folder_has_the_files_that_are_there(bucket):
    bucket.put("run/model/model.json", json.dumps({"a": 1}).encode())
    bucket.put("run/other", b"")
    with fetched(bucket.uri("run"), ("model/model.json", "metrics.jsonl")) as folder:
        assert folder.name == "run"
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert files == [folder / "model" / "model.json"]
    assert not folder.exists()
