import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lstmfcn.errors import ModelError, OutputError
from lstmfcn.storage.files import (
    _exchange,
    atomic_directory,
    atomic_write,
    local_path,
    make_folder,
    new_folder,
    read_regular,
    refuse_unwritable,
    sync,
)


class BodyError(Exception):
    pass


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def half_write_a_file(path, error):
    with atomic_write(path) as unfinished:
        unfinished.write_text("hal")
        raise error


def half_write_a_folder(path, error):
    with atomic_directory(path) as unfinished:
        (unfinished / "new.json").write_text("hal")
        raise error


def test_atomic_write_takes_its_place_only_at_the_end(tmp_path):
    path = tmp_path / "new.json"
    with atomic_write(path) as unfinished:
        unfinished.write_text("content")
        assert not path.exists()
        assert unfinished.parent == tmp_path
        assert unfinished.name.startswith(".")
    assert path.read_text() == "content"
    assert names(tmp_path) == ["new.json"]


def test_atomic_write_makes_the_folders_above(tmp_path):
    with atomic_write(tmp_path / "a" / "b" / "new.json") as unfinished:
        unfinished.write_text("content")
    assert (tmp_path / "a" / "b" / "new.json").read_text() == "content"


def test_atomic_write_replaces_the_old_content(tmp_path):
    path = tmp_path / "file.json"
    path.write_text("old and longer")
    with atomic_write(path) as unfinished:
        unfinished.write_text("new")
        assert path.read_text() == "old and longer"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["file.json"]


@pytest.mark.parametrize("error", [BodyError, KeyboardInterrupt])
def test_atomic_write_leaves_the_old_content_when_the_body_raises(tmp_path, error):
    path = tmp_path / "file.json"
    path.write_text("old")
    with pytest.raises(error):
        half_write_a_file(path, error)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.json"]


def test_atomic_write_leaves_nothing_when_the_body_raises(tmp_path):
    with pytest.raises(BodyError):
        half_write_a_file(tmp_path / "file.json", BodyError)
    assert names(tmp_path) == []


def test_atomic_write_refuses_the_path_of_a_folder(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    with pytest.raises(OutputError) as refusal, atomic_write(path) as unfinished:
        unfinished.write_text("new")
    assert str(refusal.value) == f"{path}: cannot be written (Is a directory)"
    assert names(tmp_path) == ["folder"]


def test_atomic_write_reports_errors_of_the_disk(tmp_path):
    path = tmp_path / "file.json"
    with pytest.raises(OutputError) as refusal:
        half_write_a_file(path, OSError(28, "No space left on device"))
    assert str(refusal.value) == f"{path}: cannot be written (No space left on device)"
    assert refusal.value.__cause__.errno == 28
    assert names(tmp_path) == []


def test_atomic_directory_takes_its_place_only_at_the_end(tmp_path):
    path = tmp_path / "model"
    with atomic_directory(path) as unfinished:
        (unfinished / "a.json").write_text("a")
        (unfinished / "sub").mkdir()
        (unfinished / "sub" / "b.json").write_text("b")
        assert not path.exists()
        assert unfinished.name.startswith(".")
    assert (path / "a.json").read_text() == "a"
    assert (path / "sub" / "b.json").read_text() == "b"
    assert names(tmp_path) == ["model"]


def test_atomic_directory_makes_the_folders_above(tmp_path):
    with atomic_directory(tmp_path / "a" / "b" / "model") as unfinished:
        (unfinished / "a.json").write_text("a")
    assert (tmp_path / "a" / "b" / "model" / "a.json").read_text() == "a"


def test_atomic_directory_replaces_a_folder_with_the_same_files(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "a.json").write_text("old")
    with atomic_directory(path) as unfinished:
        (unfinished / "a.json").write_text("new")
        (unfinished / "b.json").write_text("new")
        assert names(path) == ["a.json"]
    assert names(path) == ["a.json", "b.json"]
    assert (path / "a.json").read_text() == "new"
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("error", [BodyError, KeyboardInterrupt])
def test_atomic_directory_leaves_the_old_folder_when_the_body_raises(tmp_path, error):
    path = tmp_path / "model"
    path.mkdir()
    (path / "old.json").write_text("old")
    with pytest.raises(error):
        half_write_a_folder(path, error)
    assert names(path) == ["old.json"]
    assert (path / "old.json").read_text() == "old"
    assert names(tmp_path) == ["model"]


def test_atomic_directory_leaves_nothing_when_the_body_raises(tmp_path):
    with pytest.raises(BodyError):
        half_write_a_folder(tmp_path / "model", BodyError)
    assert names(tmp_path) == []


def test_atomic_directory_refuses_a_place_below_a_file(tmp_path):
    (tmp_path / "file").write_text("no folder")
    path = tmp_path / "file" / "model"
    with pytest.raises(OutputError) as refusal, atomic_directory(path):
        pytest.fail("the body must not run")
    assert str(refusal.value) == f"{path}: cannot be written (Not a directory)"
    assert (tmp_path / "file").read_text() == "no folder"


def test_new_folder_takes_a_free_path_and_an_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    assert new_folder(tmp_path / "empty") == tmp_path / "empty"
    assert new_folder(tmp_path / "free") == tmp_path / "free"
    assert names(tmp_path) == ["empty"]


@pytest.mark.parametrize("path", ["full", "full/file"])
def test_new_folder_refuses_a_full_folder_and_a_file(tmp_path, path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("something")
    with pytest.raises(OutputError) as refusal:
        new_folder(tmp_path / path)
    assert str(refusal.value) == (
        f"{tmp_path / path}: is not empty; add --overwrite, or choose another --output"
    )


def test_sync_takes_files_and_folders_that_exist(tmp_path):
    (tmp_path / "file").write_text("content")
    sync(tmp_path / "file")
    sync(tmp_path)
    with pytest.raises(FileNotFoundError):
        sync(tmp_path / "none")


def test_a_folder_named_by_a_link_is_replaced_where_the_link_points(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with atomic_directory(tmp_path / "link") as folder:
        (folder / "new").write_text("x")
    assert (tmp_path / "real" / "new").read_text() == "x"
    assert {path.name for path in tmp_path.iterdir()} == {"real", "link"}


def test_a_folder_with_other_files_is_never_replaced(tmp_path):
    standing = tmp_path / "standing"
    (standing / "deep").mkdir(parents=True)
    (standing / "deep" / "work").write_text("of years")
    (standing / "new").write_text("old")
    with (
        pytest.raises(
            OutputError, match="standing: contains deep, which would be lost; choose another folder"
        ),
        atomic_directory(standing) as folder,
    ):
        (folder / "new").write_text("x")
    assert (standing / "deep" / "work").read_text() == "of years"
    assert (standing / "new").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["standing"]


@pytest.mark.parametrize("place", [".", ".."])
def test_the_current_folder_and_those_above_are_never_replaced(tmp_path, monkeypatch, place):
    current = tmp_path / "current"
    current.mkdir()
    monkeypatch.chdir(current)
    refused = pytest.raises(OutputError, match="is the current folder or contains it")
    with refused, atomic_directory(Path(place)):
        pass
    assert current.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["current"]


@pytest.mark.parametrize(
    "place", ["/proc/lstmfcn", "/proc/self/a/b", "{tmp}/file/out", "{tmp}/gone"]
)
def test_unwritable_paths_are_refused_before_writing(tmp_path, place):
    (tmp_path / "file").touch()
    (tmp_path / "gone").symlink_to("/proc/none")
    path = Path(place.format(tmp=tmp_path))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match=r": cannot be written \("):
        refuse_unwritable(path)
    assert sorted(tmp_path.rglob("*")) == before


def test_checking_a_writable_path_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "new/folder", Path("new"), tmp_path):
        refuse_unwritable(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("uri", ["s3:/b/run", "memory::", "simplecache::s3://b", "C:/runs"])
def test_what_looks_like_a_uri_is_refused(uri):
    with pytest.raises(OutputError, match=rf"^found {uri}; write a folder, or a URI with two sl"):
        local_path(uri)
    with pytest.raises(OutputError):
        local_path(Path(uri) / "model")


@pytest.mark.parametrize("uri", ["file:///data/run", "file:/data/run", "FILE://data"])
def test_a_file_uri_is_to_be_written_as_a_path(uri):
    with pytest.raises(ModelError, match=r"^found .*; write the path without file:$"):
        local_path(uri, ModelError)


@pytest.mark.parametrize(
    "path", ["runs/first", "/data/run", "a:b", "runs/s3:/x", "./s3:/b", "2026-01-01T10:00/x", "::"]
)
def test_other_names_with_colons_are_paths(path):
    assert local_path(path) == Path(path)


def test_folders_that_are_made_are_durable_in_those_above_them(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr("lstmfcn.storage.files.sync", synced.append)
    make_folder(tmp_path / "a" / "b" / "c")
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    make_folder(tmp_path / "a" / "b" / "c")
    assert len(synced) == 3
    for write in (atomic_write, atomic_directory):
        synced.clear()
        with write(tmp_path / write.__name__ / "in" / "x") as unfinished:
            if write is atomic_write:
                unfinished.touch()
        assert tmp_path in synced
        assert tmp_path / write.__name__ in synced
        assert synced[-1] == tmp_path / write.__name__ / "in"


def test_a_folder_above_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "in"):
        with pytest.raises(OSError, match=r"Not a directory|File exists"):
            make_folder(path)


REPLACER = """
import sys
from pathlib import Path
from lstmfcn.storage.files import atomic_directory
print("began", flush=True)
for k in range(100_000):
    with atomic_directory(Path(sys.argv[1])) as unfinished:
        (unfinished / "content").write_text(str(k))
"""


def test_a_folder_is_complete_at_every_moment_while_it_is_replaced(tmp_path):
    path = tmp_path / "model"
    with atomic_directory(path) as unfinished:
        (unfinished / "content").write_text("first")
    if not exchanges(tmp_path):
        pytest.skip("this file system cannot exchange two folders by one step")
    for _ in range(3):
        command = [sys.executable, "-c", REPLACER, path]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout.readline() == b"began\n"
            end = time.monotonic() + 0.3
            while time.monotonic() < end:
                assert path.is_dir()
            os.kill(writer.pid, signal.SIGKILL)
        assert (path / "content").read_text()


def exchanges(folder):
    for name in ("one", "other"):
        (folder / name).mkdir()
    try:
        _exchange(folder / "one", folder / "other")
    except OSError:
        return False
    return True


def test_where_two_folders_cannot_be_exchanged_one_is_moved_aside(tmp_path, monkeypatch):
    def cannot(_one, _other):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr("lstmfcn.storage.files._exchange", cannot)
    for text in ("old", "new"):
        with atomic_directory(tmp_path / "model") as unfinished:
            (unfinished / "content").write_text(text)
    assert (tmp_path / "model" / "content").read_text() == "new"
    assert names(tmp_path) == ["model"]


def test_only_a_regular_file_of_bounded_size_is_read(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    assert read_regular(tmp_path / "file", 5) == b"12345"
    with pytest.raises(OSError, match="it is larger than 4 bytes"):
        read_regular(tmp_path / "file", 4)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match=r"not a regular file|Is a directory"):
            read_regular(path, 5)
