"""Folders at URIs, against a real S3 protocol."""

import socket
import threading
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from pyarrow import fs

from lstmfcn.errors import ModelError, OutputError
from lstmfcn.storage.filesystems import locate
from lstmfcn.storage.remote import RemoteFile, RemoteFolder
from tests.helpers.s3 import Bucket, Proxy, within_seconds


def refusal(work):
    with pytest.raises(OutputError) as caught:
        work()
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 250
    return line


def test_what_is_written_is_read(bucket, tmp_path):
    folder = RemoteFolder(bucket.uri("a/run"))
    assert folder.files() == []
    assert folder.read("x") is None
    folder.write("x", b"12")
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "y").write_bytes(b"3" * 12_000_000)  # more than one part
    assert folder.upload(tmp_path / "in", ["deep/y", "deep/gone"]) == {"deep/gone"}
    assert folder.files() == [RemoteFile("deep/y", 12_000_000), RemoteFile("x", 2)]
    assert folder.files(below=False) == folder.find(["x", "z"]) == [RemoteFile("x", 2)]
    assert bucket.names("a/run/") == ["deep/y", "x"]
    assert folder.read("x") == b"12"
    folder.download(folder.files(), tmp_path / "out")
    assert (tmp_path / "out" / "deep" / "y").read_bytes() == b"3" * 12_000_000
    assert abs((datetime.now(UTC) - folder.modified("x")).total_seconds()) < 60
    folder.remove(["x", "deep/y", "never there"])
    folder.remove_folder("deep")
    assert bucket.names() == []


def test_a_folder_with_files_is_not_removed(bucket):
    folder = RemoteFolder(bucket.uri("a"))
    folder.write("b/c", b"")
    folder.remove_folder("b")
    assert bucket.names() == ["a/b/c"]


def test_names_that_are_no_file_of_a_folder_are_not_seen(bucket):
    for key in ("run/../../x", "run//x", "run/.hidden", "run/.h/x", "run/a/../b", "run/ok/x"):
        bucket.put(key)
    assert RemoteFolder(bucket.uri("run")).files() == [RemoteFile("ok/x", 0)]
    line = refusal(RemoteFolder(bucket.uri("run/ok/x")).files)
    assert line == f"{bucket.uri('run/ok/x')}: is a file; name a folder"


def test_a_file_that_is_replaced_while_it_is_read_is_refused(bucket, tmp_path):
    bucket.put("run/x", b"longer")
    folder = RemoteFolder(bucket.uri("run"), ModelError)
    with pytest.raises(ModelError, match=r"run: x changed while it was being read; try again$"):
        folder.download([RemoteFile("x", 2)], tmp_path)


def test_on_other_file_systems_a_file_is_renamed_when_it_is_whole(tmp_path, monkeypatch):
    local = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    monkeypatch.setattr("lstmfcn.storage.remote.locate", lambda _: (local, "there"))
    folder = RemoteFolder("hdfs://host/there")
    (tmp_path / "x").write_text("1")
    folder.upload(tmp_path, ["x"])
    folder.write("y/z", b"2")
    assert folder.files() == [RemoteFile("x", 1), RemoteFile("y/z", 1)]
    with suppress(ZeroDivisionError), folder._replacing("x") as unfinished:
        local.open_output_stream(unfinished).close()
        raise ZeroDivisionError
    assert (tmp_path / "there" / "x").read_text() == "1"
    assert {path.name for path in (tmp_path / "there").iterdir()} == {"x", "y"}


def test_the_options_of_a_uri_are_those_of_pyarrow(s3_address):
    bucket = Bucket(s3_address)  # which no variable of the environment names
    options = f"?scheme=http&endpoint_override={s3_address}"
    folder = RemoteFolder(f"s3://{bucket.name}/some%20run{options}")
    folder.write("x", b"")
    assert bucket.names() == ["some run/x"]
    with_password = locate(f"s3://me:word@{bucket.name}/x{options}")
    assert with_password[1] == f"{bucket.name}/x"
    line = refusal(lambda: RemoteFolder(f"s3://b/x{options}&colour=red"))
    assert line.startswith("s3://b/x: found the option colour; write one of scheme, region")


@pytest.mark.parametrize("uri", ["foo://b/x", "mock://b", "memory://x"])
def test_an_unknown_kind_of_uri_is_refused(uri):
    assert "no file system is known for this URI; write s3://" in refusal(lambda: RemoteFolder(uri))


@pytest.mark.usefixtures("bucket")
def test_a_bucket_that_is_not_there_is_told(tmp_path):
    folder = RemoteFolder("s3://no-such-bucket-here/run")
    (tmp_path / "x").touch()
    for work in (
        folder.files,
        lambda: folder.find(["x"]),
        lambda: folder.write("x", b""),
        lambda: folder.upload(tmp_path, ["x"]),
        folder.refuse_unwritable,
    ):
        line = refusal(work)
        assert line == "s3://no-such-bucket-here/run: found no such bucket; check its name"
    assert refusal(lambda: RemoteFolder("s3:///run")).startswith("s3:///run: found no bucket")


def test_a_storage_that_denies_access_is_told(bucket):
    with Proxy(bucket.address) as proxy:
        proxy.hinder = lambda *_: 403
        with bucket.in_use(proxy.address):
            folder = RemoteFolder(bucket.uri("run"))
            for work in (folder.files, folder.refuse_unwritable, lambda: folder.find(["x"])):
                assert "run: access is denied; check the credentials, such as AWS" in refusal(work)


def test_a_storage_that_may_only_be_read_is_told_before_anything_is_written(bucket):
    with Proxy(bucket.address) as proxy:
        proxy.hinder = lambda method, _: None if method in ("GET", "HEAD") else 403
        with bucket.in_use(proxy.address):
            assert RemoteFolder(bucket.uri("run")).files() == []
            line = refusal(RemoteFolder(bucket.uri("run")).refuse_unwritable)
            assert "access is denied" in line
    assert bucket.names() == []


def test_a_storage_that_cannot_be_reached_is_told_soon(bucket):
    with bucket.in_use("127.0.0.1:1"), within_seconds(20):
        assert "the storage cannot be reached; check the network and the address" in refusal(
            RemoteFolder(bucket.uri("run")).files
        )
    with bucket.in_use("no.such.host.invalid"), within_seconds(20):
        line = refusal(RemoteFolder(bucket.uri("run")).files)
        assert "the host's name is not known; check" in line or "cannot be reached" in line


def test_a_storage_that_never_answers_is_told_within_20_seconds(bucket):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and says nothing
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with bucket.in_use(address), within_seconds(25):
            line = refusal(RemoteFolder(bucket.uri("run")).files)
    assert "the storage does not answer in time; check the network" in line


def test_short_outages_are_not_told(bucket):
    failures = iter([503, 500])
    lock = threading.Lock()

    def fail_twice(*_):
        with lock:
            return next(failures, None)

    with Proxy(bucket.address) as proxy:
        proxy.hinder = fail_twice
        with bucket.in_use(proxy.address):
            RemoteFolder(bucket.uri("run")).write("x", b"1")
    assert bucket.names() == ["run/x"]
    assert len(proxy.requests) == 3


def test_no_error_names_the_password():
    with pytest.raises(Exception, match="found") as caught:
        RemoteFolder("s3://me:open-sesame@b x/run?scheme=http&colour=red")
    assert "sesame" not in str(caught.value)
