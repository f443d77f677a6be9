import logging
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs

from lstmfcn.data import listing
from lstmfcn.data.reader import open_dataset
from lstmfcn.data.shards import _may_contain, find_shards, matches_glob
from lstmfcn.errors import DataError

ROW = "y,x_1\na,1\n"


def make_files(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(ROW)


def find_names(data):
    return [shard.name for shard in find_shards(str(data))]


@pytest.mark.parametrize("name", ["part-1.csv", "part-1.parquet", "folder", "sub/part-1.csv"])
@pytest.mark.parametrize("pattern", ["", "**/*", "**/part-*"])
def test_a_link_to_nothing_is_refused_by_name(tmp_path, name, pattern):
    make_files(tmp_path, "part-0.csv", "sub/part-0.csv")
    (tmp_path / name).symlink_to("/not/fetched")
    for data in (tmp_path / pattern, tmp_path / name, (tmp_path / pattern).as_uri()):
        if "*" in str(data) and name == "folder" and "part" in str(data):
            continue
        with pytest.raises(DataError) as refusal:
            find_shards(str(data))
        assert str(refusal.value) == (
            f"{tmp_path / name}: found a link to a file that does not exist (/not/fetched); "
            "fetch its content (for example with dvc pull or git annex get), or remove it"
        )


def test_a_link_to_nothing_may_have_been_a_folder_that_a_glob_leads_through(tmp_path):
    make_files(tmp_path, "a/x.csv")
    (tmp_path / "b").symlink_to("/not/fetched")
    (tmp_path / "_c").symlink_to("/not/fetched")
    (tmp_path / "d").symlink_to("d")
    with pytest.raises(DataError, match=r"/(b|d): found a link to a file that does not exist"):
        find_shards(f"{tmp_path}/*/x.csv")
    assert find_names(f"{tmp_path}/a/x.c*") == ["x.csv"]


@pytest.mark.parametrize("target", [".", "..", "sub", "../data", "sub/..", "/"])
def test_a_link_to_files_that_are_read_already_is_skipped_with_a_warning(tmp_path, caplog, target):
    data = tmp_path / "data"
    make_files(data, "a.csv", "sub/b.csv")
    (data / "again").symlink_to(target)
    (data / "sub" / "up").symlink_to("..")
    assert find_names(data) == ["a.csv", "sub/b.csv"]
    assert caplog.messages == ["links skipped, because their files are read already: again, sub/up"]
    assert find_names(f"{data}/**/*.csv") == ["a.csv", "sub/b.csv"]


def test_files_outside_are_read_once_through_any_number_of_links(tmp_path, caplog):
    data, outside = tmp_path / "data", tmp_path / "outside"
    make_files(data, "a.csv")
    make_files(outside, "b.csv", "deep/c.csv")
    for name, target in {"one": outside, "two": outside, "three": outside / "deep"}.items():
        (data / name).symlink_to(target)
    (outside / "back").symlink_to(data)
    (outside / "deep" / "loop").symlink_to(outside)
    assert find_names(data) == ["a.csv", "one/b.csv", "one/deep/c.csv"]
    message = "one/back, one/deep/loop, three, two"
    assert caplog.messages == [f"links skipped, because their files are read already: {message}"]


def test_two_names_of_one_file_are_read_once(tmp_path, caplog):
    data = tmp_path / "data"
    make_files(data, "a.csv", "d.csv")
    make_files(tmp_path, "outside.csv")
    (data / "b.csv").symlink_to("a.csv")
    (data / "c.csv").hardlink_to(data / "d.csv")
    (data / "e.csv").symlink_to("d.csv")
    (data / "f.csv").symlink_to(tmp_path / "outside.csv")
    (data / "g.csv").symlink_to("f.csv")
    (data / "h.txt").hardlink_to(data / "a.csv")
    assert find_names(data) == ["a.csv", "c.csv", "f.csv"]
    assert caplog.messages == [
        "links skipped, because their files are read already: b.csv, d.csv, e.csv, g.csv",
        "skipped, because their names are not those of data files: h.txt",
    ]


def test_a_file_that_a_glob_leaves_out_hides_none_that_it_names(tmp_path):
    make_files(tmp_path, "b/x.csv")
    (tmp_path / "a.csv").hardlink_to(tmp_path / "b" / "x.csv")
    assert find_names(f"{tmp_path}/*/x.csv") == ["b/x.csv"]


@settings(max_examples=40, database=None)
@given(
    links=st.lists(
        st.tuples(
            st.sampled_from(["", "s/", "s/t/", "u/"]),
            st.sampled_from([".", "..", "s", "../s", "t", "../u", "../../u", "u"]),
        ),
        max_size=6,
    )
)
def test_no_links_make_a_row_count_twice(tmp_path_factory, links):
    data = tmp_path_factory.mktemp("data")
    make_files(data, "a.csv", "s/b.csv", "s/t/c.csv", "u/d.csv")
    for i, (folder, target) in enumerate(links):
        if (data / folder / target).exists():
            (data / folder / f"link{i}").symlink_to(target)
    assert find_names(data) == ["a.csv", "s/b.csv", "s/t/c.csv", "u/d.csv"]


def test_special_files_are_named_in_a_warning(tmp_path, caplog):
    make_files(tmp_path, "a.csv")
    os.mkfifo(tmp_path / "b.csv")
    assert find_names(tmp_path) == ["a.csv"]
    assert caplog.messages == ["skipped, because they are not regular files: b.csv"]


@pytest.mark.parametrize("data", ["", "*.csv", "caf\udce9.csv"])
def test_a_name_that_is_not_utf8_is_refused_in_one_line(tmp_path, data):
    with open(os.fsencode(tmp_path) + b"/caf\xe9.csv", "w") as file:  # noqa: PTH123
        file.write(ROW)
    with pytest.raises(DataError) as refusal:
        find_shards(str(tmp_path / data))
    assert str(refusal.value) == (
        f"{tmp_path}/caf\\xe9.csv: found a name that is not UTF-8; rename it, for example with "
        "convmv"
    )


def test_other_files_with_names_that_are_not_utf8_are_in_the_warning(tmp_path, caplog):
    make_files(tmp_path, "a.csv")
    with open(os.fsencode(tmp_path) + b"/caf\xe9.txt", "w"):  # noqa: PTH123
        pass
    with caplog.at_level(logging.WARNING):
        assert find_names(tmp_path) == ["a.csv"]
    assert caplog.messages == [
        "skipped, because their names are not those of data files: caf\\xe9.txt"
    ]


@pytest.mark.parametrize(
    ("pattern", "entered"),
    [
        ("*/x.csv", {"", "a", "b"}),
        ("a/*/x.csv", {"a", "a/deep"}),
        ("[b]/*.csv", {"", "b"}),
        ("*.csv", {""}),
        ("**/x.csv", {"", "a", "b", "a/deep", "a/deep/er"}),
    ],
)
def test_a_glob_looks_only_where_it_leads(tmp_path, monkeypatch, pattern, entered):
    make_files(
        tmp_path, "x.csv", "a/x.csv", "b/x.csv", "a/deep/x.csv", "a/deep/er/x.csv", "_h/x.csv"
    )
    seen, scandir = set(), os.scandir

    def watched(folder):
        seen.add(os.path.relpath(folder, tmp_path).removeprefix("."))
        return scandir(folder)

    monkeypatch.setattr(listing.os, "scandir", watched)
    assert find_shards(f"{tmp_path}/{pattern}")
    assert seen == entered


@pytest.mark.parametrize("pattern", ["", "*", "*/x.csv", "**/x.csv", "a/**/*.csv", "a/*/*.csv"])
def test_another_filesystem_lists_the_same_files(tmp_path, pattern):
    make_files(tmp_path, "x.csv", "a/x.csv", "b/x.csv", "a/deep/x.csv", "_h/x.csv", "a/.h/x.csv")
    other = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    parts = tuple(pattern.split("/")) if pattern else ("**",)
    wanted = listing.FileFilter(
        lambda names: matches_glob(names, parts),
        lambda names: _may_contain(names, parts),
        "**" in parts,
    )
    here = listing.list_files(fs.LocalFileSystem(), str(tmp_path), wanted)
    there = listing.list_files(other, "", wanted)
    assert [file.name for file in there.files] == [file.name for file in here.files]
    assert [file.modified_ns for file in there.files] == [file.modified_ns for file in here.files]


def test_data_of_links_alone_is_read(tmp_path):
    """Files as DVC, git-annex and model caches store them: links to a cache."""
    make_files(tmp_path, "store/1a", "store/2b")
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.csv").symlink_to("../store/1a")
    (data / "b.csv").symlink_to("../store/2b")
    assert [shard.name for shard in open_dataset(str(data)).shards] == ["a.csv", "b.csv"]
    assert find_names(f"{data}/*.csv") == ["a.csv", "b.csv"]
