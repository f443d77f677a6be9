import pytest

from lstmfcn.errors import ResourceError
from serve_app.access import read_token


def test_whitespace_around_a_token_is_ignored(tmp_path):
    (tmp_path / "token").write_text(" s3cret\n\n")
    assert read_token(tmp_path / "token") == "s3cret"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "found no file; write a token into one"),
        (b"", "found no token"),
        (b" \n", "found no token"),
        (b"one\ntwo", "found no token; write one line"),
        ("n\u00e4".encode(), "found no token; write one line of letters and digits"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_files_without_a_token_are_refused(tmp_path, content, message):
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ResourceError, match=message):
        read_token(path)


def test_a_folder_is_not_a_token_file(tmp_path):
    with pytest.raises(ResourceError, match="cannot be read"):
        read_token(tmp_path)
