from pathlib import Path

import pytest

from lstmfcn.errors import ModelError, OutputError
from lstmfcn.storage.places import (
    absolute,
    checked_place,
    is_remote,
    lies_in,
    shown_place,
    split_place,
    within,
    without_password,
)


@pytest.mark.parametrize(
    "uri", ["s3://b/run", "S3://b", "gs://b", "abfs://c@a/run", "hdfs://h:9/r"]
)
def test_a_uri_stays_a_text(uri):
    assert is_remote(uri)
    assert checked_place(uri) == absolute(uri) == uri


@pytest.mark.parametrize("path", ["runs/first", "/data/run", "a:b", "./s3:/b", "file:///x"])
def test_a_path_is_a_path(path):
    assert not is_remote(path)
    assert absolute(path) == Path(path).absolute()


@pytest.mark.parametrize(
    "uri",
    [
        "s3://me:open-sesame@b/run",
        "s3://b/run?secret_key=open-sesame",
        "abfs://b/run?account_key=open-sesame&x=1",
        "gs://b/run?access_token=open-sesame",
    ],
)
def test_a_password_in_a_uri_is_refused_and_not_told(uri):
    with pytest.raises(ModelError, match=r"^[a-z3]+://b/run: found a password in") as caught:
        checked_place(uri, ModelError)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("uri", ["abfs://container@account/x", "gs://anonymous@b/x"])
def test_a_user_alone_is_no_password(uri):
    assert checked_place(uri) == shown_place(uri) == uri


def test_a_uri_is_shown_without_password_and_options():
    uri = "s3://me:word@b/run/?region=eu-west-1&endpoint_override=h:1"
    assert shown_place(uri) == "s3://b/run"
    assert without_password(uri) == "s3://b/run/?region=eu-west-1&endpoint_override=h:1"
    assert (
        shown_place("data/me:word@b?") == without_password("data/me:word@b?") == "data/me:word@b?"
    )


def test_names_go_before_the_options_of_a_uri():
    assert within("s3://b/run?region=x", "model") == "s3://b/run/model?region=x"
    assert within("s3://b", "a/b.csv") == "s3://b/a/b.csv"
    assert within("run", "model") == Path("run/model")
    assert split_place("s3://b/run/model/?region=x") == ("s3://b/run?region=x", "model")
    assert split_place("s3://b/") == ("s3://b/", "")
    assert split_place("run/model") == (Path("run"), "model")


@pytest.mark.parametrize(
    ("place", "folder", "lies"),
    [
        ("s3://b/run/model", "s3://b/run", True),
        ("s3://b/run/", "S3://b/run?region=x", True),
        ("s3://b/runs", "s3://b/run", False),
        ("s3://b/a%20b/c", "s3://b/a b", True),
        ("gs://b/run", "s3://b", False),
        ("s3://b/run", "b/run", False),
        ("b/run", "s3://b/run", False),
        ("b/../c/run", "c", True),
        ("cc", "c", False),
    ],
)
def test_whether_a_place_lies_in_a_folder(place, folder, lies):
    assert lies_in(place, folder) == lies


@pytest.mark.parametrize("text", ["s3:/b/run", "memory::", "simplecache::s3://b", "C:/runs"])
def test_what_only_looks_like_a_uri_is_refused(text):
    with pytest.raises(OutputError, match=r"^found .*; write a folder, or a URI with two slashes"):
        checked_place(text)
    with pytest.raises(OutputError, match="as a text, not as a Path"):
        checked_place(Path("s3://b/run"))
